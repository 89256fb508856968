"""A run as one HTML page: self-contained, without scripts, and with everything that files say escaped."""

import base64
import io
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from PIL import Image

from .._version import __version__
from ..core.errors import LowerboundError, UsageError
from ..core.model import VAE, Show
from ..core.spec import DataSpec
from ..data.dataset import Dataset
from ..ship.files import MANIFEST, write_text
from .curves import curves
from .run_files import RunFiles, clean, inside, number, readable_size, texts
from .sheets import WHAT, reconstruction_grid, sample_grid
from .write import to_array

SAMPLES, RECONSTRUCTIONS, TABLE_ROWS, MOST_COLUMNS, MOST_FILES = 32, 10, 10, 30, 60
UNITS = {**dict.fromkeys(("elbo", "distortion", "rate", "nll"), "nats"), "bits_per_dim": "bits/dim", "psnr": "dB"}
QUANTITIES = {"distortion": ("distortion", 1), "rate": ("rate", 1), "-elbo": ("elbo", -1)}
# nothing may be fetched or run, whatever a file smuggles into the page
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #57606a; --back: #ffffff; --panel: #f3f5f7;
  --edge: #d0d7de; --first: #0b62c4; --second: #b3470f; --bad: #a40e26; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9da7b3; --back: #0f1318; --panel: #1a2027;
  --edge: #39424d; --first: #6cb0ff; --second: #ffa657; --bad: #ff8f8f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; } h3 { font-size: 1rem; }
a { color: var(--first); } .soft { color: var(--soft); } .bad { color: var(--bad); }
.wide { overflow-x: auto; } .pairs td { overflow-wrap: anywhere; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--edge); vertical-align: top; }
.number { text-align: right; white-space: nowrap; }
pre { background: var(--panel); padding: .7rem; overflow-x: auto; border-radius: 4px; }
img { max-width: 100%; height: auto; background: #ffffff; border: 1px solid var(--edge); }
figure { margin: 0 0 1rem; } figcaption { color: var(--soft); }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--text); font: 12px system-ui, sans-serif; }
svg .grid { stroke: var(--edge); } svg path { fill: none; }
svg .line0 { stroke: var(--first); stroke-width: 2; } svg circle.line0 { fill: var(--first); stroke: none; }
svg .line1 { stroke: var(--second); stroke-width: 2; stroke-dasharray: 5 3; }
svg circle.line1 { fill: var(--second); stroke: none; }
"""


@dataclass(frozen=True)
class Shown:
    """What a model makes, as HTML, or in words why there is nothing.

    Args:
        samples: of draws from the prior.
        reconstructions: of test examples.
    """

    samples: str
    reconstructions: str


def page(run: RunFiles, shown: Shown, *, about: str = "", beside: Path) -> str:
    """Return the report of a run as an HTML page.

    Args:
        run: its files.
        shown: what its model makes.
        about: the recipe's docstring, if it is known.
        beside: the folder the page will lie in; links are relative to it.
    """
    sections = {
        "What it is": _recipe(run, about),
        "Data": _data(run),
        "Numbers": _numbers(run),
        "Training": _training(run),
        "Samples": shown.samples,
        "Reconstructions": shown.reconstructions,
        "Command": _command(run),
        "Environment": _pairs(run.env) or _words("env.json says nothing."),
        "Files": _files(run, beside),
    }
    body = "\n".join(f"<section>\n<h2>{_text(name)}</h2>\n{html}\n</section>" for name, html in sections.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(run.name)}: a run of lowerbound</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{_text(run.name)}</h1>\n{_status(run)}\n</header>\n<main>\n{body}\n</main>\n"
        f'<footer class="soft"><p>Written by lowerbound {__version__}.</p></footer>\n</body>\n</html>\n'
    )


def page_path(path: Path) -> Path:
    """Return `path` if a page may be written there.

    Raises:
        UsageError: if it is no .html file, or its folder has a manifest: another file would damage it.
    """
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise UsageError(f"a report cannot be written to {path}", expected="a file that ends in .html")
    if (path.parent / MANIFEST).exists():
        raise UsageError(
            f"{path.parent} is a saved model, to which no file may be added", fix="choose another place: --out FILE"
        )
    return path


def write_page(path: Path, html: str) -> Path:
    """Write a page; returns the path.

    Raises:
        UsageError: if its folder cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path.parent} cannot be a folder: {error.strerror}", fix="choose another --out") from error
    write_text(path, html)
    return path


def nothing_shown(reason: str) -> Shown:
    """Return the words that stand for samples and reconstructions where there is no model."""
    return Shown(_words(f"None: {reason}"), _words(f"None: {reason}"))


def samples(model: VAE, spec: DataSpec, *, seed: int = 0) -> str:
    """Return samples as HTML: a sheet of images, or a table of rows in the data's units."""
    num = SAMPLES if spec.kind == "image" else TABLE_ROWS
    show: Show = "mean" if spec.kind == "image" else "draw"
    classes = torch.arange(num) % spec.num_classes if model.conditional and spec.classes else None
    y = None if classes is None else torch.eye(spec.num_classes)[classes]
    x = model.sample(num, y, show=show, seed=seed)
    note = "" if model.has_density else _words("This model has no density: nothing made its codes follow the prior.")
    given = f", classes in turn: {', '.join(spec.classes[:20])}" if classes is not None else ""
    text = f"{num} samples: z from the prior, {WHAT[show]}, seed {seed}{given}"
    if spec.kind == "image":
        return note + _figure(sample_grid(x, show), text)
    columns = dict(zip(*_columns(x, spec), strict=True))
    if classes is not None:
        columns[spec.label.name if spec.label else "class"] = [spec.classes[i] for i in classes.tolist()]
    return note + _sampled_table(columns) + f'<p class="soft">{_text(text)}.</p>'


def reconstructions(model: VAE, rows: Dataset, *, seed: int = 0) -> str:
    """Return the first rows above their reconstructions as HTML; of a table, both in one."""
    batch = rows.take(RECONSTRUCTIONS).batch(slice(None))
    made = model.reconstruct(batch.x if batch.seen is None else batch.seen, batch.y, batch.mask, seed=seed)
    text = f"the first {len(made)} {rows.split} examples, {WHAT['mean']} at the mean of q(z|x)"
    if rows.spec.kind == "image":
        return _figure(reconstruction_grid(batch.x.cpu(), made.cpu(), "mean"), f"{text}, originals above")
    names, originals = _columns(batch.x, rows.spec, batch.mask)
    _, cells = _columns(made, rows.spec)
    both = {}
    for name, original, values in zip(names, originals, cells, strict=True):
        both |= {name: original, f"reconstructed {name}": values}
    return _sampled_table(both) + f'<p class="soft">{_text(f"Reconstructions of {text}.")}</p>'


def in_words(draw: Any, *arguments: Any, seed: int) -> str:
    """Return what `draw` draws, or its error in words: a report is written nevertheless."""
    try:
        return draw(*arguments, seed=seed)
    except LowerboundError as error:
        return _words(f"None: {first_line(error)}")


def first_line(error: Exception) -> str:
    """Return what happened, without where and what to do."""
    return str(error).splitlines()[0] + "."


def _sampled_table(columns: dict[str, list[Any]]) -> str:
    """Return columns by their names as an HTML table, the first ones where there are many."""
    names = list(columns)[:MOST_COLUMNS]
    more = "" if len(names) == len(columns) else _words(f"The first {len(names)} of {len(columns)} columns.")
    rows = zip(*(columns[name] for name in names), strict=True)
    return _table(names, ([_cell(v) for v in row] for row in rows)) + more


def _columns(x: torch.Tensor, spec: DataSpec, mask: torch.Tensor | None = None) -> tuple[list[str], list[list[Any]]]:
    """Return names and cells of the data's columns; cells where `mask` is 0 are None."""
    from ..data.tables import to_table

    observed = None if mask is None else mask.cpu().numpy() > 0
    if spec.columns:
        table = to_table(x.detach().cpu().float().flatten(1).numpy(), spec.columns, observed=observed)
        return table.column_names, [column.to_pylist() for column in table.columns]
    flat = to_array(x, spec).reshape(len(x), -1)
    return [f"x{i}" for i in range(flat.shape[1])], [column.tolist() for column in flat.T]


def _status(run: RunFiles) -> str:
    started = number(run.status.get("started"))
    done, planned = run.epochs_done, run.epochs_planned
    facts = [run.state]
    if run.state == "killed":
        facts = ["killed: its process is gone and wrote no end"]
    if done is not None:
        facts.append(f"{done} of {planned} epochs" if planned is not None else f"{done} epochs")
    if started is not None:
        facts.append(f"started {_time(started)}")
    if run.seconds is not None:
        facts.append(f"{run.seconds:,.1f} s of training")
    if run.best is not None:
        value, epoch, split = run.best
        kept = "best" if split == "valid" else "last"
        facts.append(f"{kept} {run.monitor[0]} {value:.3f} nats ({split}, epoch {epoch})")
    lines = [_text("; ".join(facts)) + "."]
    if error := run.status.get("error"):
        lines.append(f'<span class="bad">{_text(error)}</span>')
    lines += [f'<span class="bad">{_text(line)}</span>' for line in run.damaged]
    return "<p>" + "<br>\n".join(lines) + "</p>"


def _time(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "at no known time"


def _recipe(run: RunFiles, about: str) -> str:
    name = run.recipe.get("name")
    if name is None:
        return _words("recipe.json says nothing.")
    head = about.split("\nArgs:")[0].strip() or "A recipe that this version of lowerbound does not have."
    paragraphs = [f"<p>{_linked(_text(p))}</p>" for p in head.split("\n\n")]
    options = _pairs(inside(run.recipe, "options")) or _words("It has no options.")
    training = _pairs(inside(run.recipe, "training", "args")) or _words("recipe.json does not say.")
    count = "" if run.parameters is None else f"<p>{run.parameters:,} parameters.</p>"
    parts = [f"<p>Recipe <code>{_text(name)}</code></p>", *paragraphs, count]
    return "\n".join([*parts, "<h3>Options</h3>", options, "<h3>How it is trained</h3>", training])


def _linked(html: str) -> str:
    """Make arXiv numbers in escaped text links."""
    return re.sub(r"arXiv:? ?(\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv \1</a>', html)


def _data(run: RunFiles) -> str:
    spec, origin = inside(run.data, "spec"), inside(run.data, "origin")
    if not spec:
        return _words("data.json says nothing.")
    columns = spec.get("columns")
    facts = {
        "name": spec.get("name"),
        "kind": spec.get("kind"),
        "shape of an example": " x ".join(texts(spec.get("shape"))),
        "training examples": spec.get("size"),
        "classes": ", ".join(texts(spec.get("classes"))) or "none",
        "columns": ", ".join(_column_names(columns)) or None,
        "binarisation": spec.get("binarize"),
        "seed of the splits": spec.get("data_seed"),
        "source": origin.get("source", "arrays, which are not stored"),
        "fingerprint": run.data.get("fingerprint"),
    }
    facts |= {f"share of {name}": origin.get(f"{name}_fraction") for name in ("valid", "test")}
    lines = [f"<li>{_text(note)}</li>" for note in texts(run.data.get("notes"))]
    lines += [f'<li class="bad">warning: {_text(line)}</li>' for line in texts(run.data.get("warnings"))]
    listed = f"<ul>{''.join(lines)}</ul>" if lines else _words("Nothing was noted when they were read.")
    return _pairs({k: v for k, v in facts.items() if v is not None}) + listed


def _column_names(columns: Any) -> list[str]:
    known = [inside(c, "args").get("name") or inside({"c": c}, "c").get("name") for c in columns or []]
    return [str(name) for name in known if name is not None]


def _numbers(run: RunFiles) -> str:
    if not run.evaluations:
        return f"<p>It was not evaluated yet: <code>lowerbound evaluate {_text(run.name)}</code> does it.</p>"
    return "\n".join(_evaluation(name, held) for name, held in run.evaluations.items())


def _evaluation(name: str, held: dict[str, Any]) -> str:
    found = {key: value for key, value in held.items() if isinstance(value, dict) and "value" in value}
    facts = {key: value for key, value in held.items() if not isinstance(value, dict | list)}
    head = f"<h3>{_text(name)}</h3>"
    if not found:
        return head + _words("This file holds no numbers of the usual form.") + _pairs(facts)
    rows = [_number_row(key, value) for key, value in found.items()]
    names = ("", "value", "standard error", "unit", "kind", "K", "sampler's error", "n", "about")
    return head + _table(names, rows, numbers=(1, 2, 5, 6, 7)) + f"<p>{_sentence(facts)}</p>"


def _number_row(name: str, found: dict[str, Any]) -> list[str]:
    value = number(found.get("value"))
    if value is None:
        return [name, "-", "", "", "", "", "", "", str(found.get("reason", "no reason is given"))]
    digits = [number(found.get(key)) for key in ("se", "mc_se")]
    se, sampler = ("" if v is None else f"{v:.4f}" for v in digits)
    kind, samples, n, target = (found.get(key, "") for key in ("kind", "num_samples", "n", "target"))
    return [name, f"{value:.4f}", se, UNITS.get(name, ""), str(kind), str(samples), sampler, str(n), str(target)]


def _sentence(facts: dict[str, Any]) -> str:
    return _text("; ".join(f"{key} {value}" for key, value in facts.items()))


def _of_units(run: RunFiles) -> str:
    """Say that training saw standardised columns, whose densities are not in the data's units as the numbers are."""
    columns = inside(run.data, "spec").get("columns")
    scales = [inside(column, "args").get("scale") for column in columns] if isinstance(columns, list) else []
    return " (in the model's standardised units)" if any(scale not in (None, 1.0) for scale in scales) else ""


def _training(run: RunFiles) -> str:
    if not run.epochs:
        return _words("There is no whole epoch yet.")
    drawn, missing = [], []
    for name, (term, sign) in QUANTITIES.items():
        lines = {split: _points(run, split, term, sign) for split in ("train", "valid")}
        lines = {split: points for split, points in lines.items() if points}
        if not lines:
            missing.append(name)
            continue
        svg = curves(f"{name} over epochs, in nats: {_ends(lines)}", lines, x="epoch", y=f"{name} (nats)")
        caption = f"{_text(name)}, nats for each example{_of_units(run)}"
        drawn.append(f"<figure>\n{svg}\n<figcaption>{caption}</figcaption>\n</figure>")
    words = _words(f"Not reported by this objective: {', '.join(missing)}.") if missing else ""
    return f'<div class="curves">\n{"".join(drawn)}\n</div>{words}'


def _points(run: RunFiles, split: str, term: str, sign: int) -> list[tuple[float, float]]:
    values = [(epoch, number(event.get(term))) for epoch, event in run.epochs.get(split, {}).items()]
    return [(float(epoch), sign * value) for epoch, value in values if value is not None]


def _ends(lines: dict[str, list[tuple[float, float]]]) -> str:
    return "; ".join(f"{split} from {points[0][1]:.2f} to {points[-1][1]:.2f}" for split, points in lines.items())


def _command(run: RunFiles) -> str:
    try:
        lines = (run.folder / "command.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return _words("command.txt is missing.")
    return "<pre>" + "\n".join(_text(line) for line in lines) + "</pre>"


def _files(run: RunFiles, beside: Path) -> str:
    wanted = ("*.json", "*.jsonl", "*.txt", "eval/*", "samples/*", "model/*")
    found = [path for pattern in wanted for path in sorted(run.folder.glob(pattern)) if path.is_file()]
    lines = [_link(path, run.folder, beside) for path in found[:MOST_FILES]]
    more = _words(f"and {len(found) - MOST_FILES} more.") if len(found) > MOST_FILES else ""
    return f"<ul>{''.join(lines)}</ul>{more}" if lines else _words("There are none.")


def _link(path: Path, folder: Path, beside: Path) -> str:
    target = quote(os.fsencode(os.path.relpath(path.absolute(), beside.absolute())))
    size = readable_size(path.stat().st_size)
    # ./ keeps a name with a colon from being read as a scheme
    return f'<li><a href="./{target}">{_text(path.relative_to(folder))}</a> <span class="soft">{size}</span></li>'


def _figure(sheet: Image.Image, text: str) -> str:
    held = io.BytesIO()
    sheet.save(held, "PNG")
    data = base64.b64encode(held.getvalue()).decode()
    width, height = sheet.size
    image = f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{_text(text)}">'
    return f"<figure>{image}<figcaption>{_text(text)}</figcaption></figure>"


def _table(names: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """Return an HTML table; the cells are text."""
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in names)
    lines = []
    for row in rows:
        cells = (f"<td{' class=number' if i in numbers else ''}>{_text(cell)}</td>" for i, cell in enumerate(row))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    body = "\n".join(lines)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _pairs(facts: dict[str, Any]) -> str:
    """Return names and values as an HTML table, "" if there are none."""
    rows = [f'<tr><th scope="row">{_text(k)}</th><td>{_text(_value(v))}</td></tr>' for k, v in facts.items()]
    return f'<div class="wide"><table class="pairs"><tbody>\n{"".join(rows)}\n</tbody></table></div>' if rows else ""


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else f"{value:,}" if type(value) is int and value > 9999 else str(value)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


def _words(text: str) -> str:
    return f'<p class="soft">{_text(text)}</p>'


def _text(value: object) -> str:
    """Return one line of text as HTML."""
    return escape(clean(" ".join(str(value).split())))
