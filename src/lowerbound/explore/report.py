"""A run as one HTML page: self-contained, without scripts, and with everything that files say escaped."""

import inspect
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..core.errors import LowerboundError
from ..core.model import spec_of
from ..core.recipe import RECIPES
from ..data.dataset import Data
from ..ship.files import is_outdated
from ..train.run import data_of, find_run, open_run
from . import figures, html
from .pictures import Picture, Shown, first_line, pictures
from .run_files import RunFiles, inside, number, read_run, readable_size, texts

MOST_COLUMNS, MOST_FILES = 30, 60
UNITS = {**dict.fromkeys(("elbo", "distortion", "rate", "nll"), "nats"), "bits_per_dim": "bits/dim", "psnr": "dB"}
BARE = (
    "accuracy", "code", "decoder_penalty", "distance", "hsic", "mmd", "multiplier", "perceptual_loss", "spectral",
    "ssim_loss",
)  # fmt: skip
"""Terms of objectives that are no nats: each has a weight that makes it such in the loss, or is none of it, or is the
loss that weighs a distance of images against the rate."""
KINDS = {"elbo": "bound", "distortion": "estimate", "rate": "estimate"}


def report(
    run: str | Path, *, data: Data | None = None, out: str | Path | None = None, device: str = "auto", seed: int = 0
) -> Path:
    """Write the report of a run, one HTML file that fetches and runs nothing, and return its path.

    Args:
        run: a run folder, a name under runs/, or "last".
        data: the data it was trained on (default: loaded again from where they were).
        out: file to write (default: report.html in the run).
        device: "auto", "cpu", "cuda", ...
        seed: decides everything that is drawn.

    Raises:
        DataError: if there is no such run.
        UsageError: if `out` is no .html file.
    """
    folder = find_run(run)
    path = html.page_path(Path(out) if out is not None else folder / "report.html")
    shown, why = shown_of(folder, data=data, device=device, seed=seed)
    return write_report(folder, path, shown, why)


def shown_of(
    folder: Path, *, data: Data | None = None, device: str = "auto", seed: int = 0
) -> tuple[Shown | None, str]:
    """Return a run's model and test rows, and why either is missing, or what else is to be said of them.

    Args:
        folder: the run folder.
        data: the data it was trained on (default: loaded again from where they were).
        device: "auto", "cpu", "cuda", ...
        seed: decides everything that is drawn.

    Raises:
        UsageError: if there is no such device.
    """
    from ..train.fit import pick_device

    snapshots, place = folder / "snapshots", pick_device(device)
    try:
        model = open_run(folder)[1].to(place)
        spec = spec_of(model)
    except LowerboundError as error:
        return None, first_line(error)
    try:
        found, same = data_of(folder, spec) if data is None else (data, True)
        shown = Shown.of(model, found, seed=seed, snapshots=snapshots)
    except (LowerboundError, OSError) as error:
        shown, same = Shown(model, None, seed, snapshots, first_line(error)), True
    return shown, shown.why or ("" if same else f"{spec.name} has changed since the model was trained on it.")


def write_report(folder: Path, path: Path, shown: Shown | None, why: str = "") -> Path:
    """Write the report of a run folder to `path` and return that.

    Args:
        folder: the run folder.
        path: file to write, by `html.page_path`.
        shown: the run's model and rows; None if it has none.
        why: why there are none, or what else is to be said of them.
    """
    drawn = [Picture("Samples", f"None: {why}")] if shown is None else pictures(shown)
    return html.write_page(path, page(read_run(folder), drawn, why, beside=path.parent))


def page(run: RunFiles, drawn: Iterable[Picture], warning: str = "", *, beside: Path) -> str:
    """Return the report of a run as an HTML page.

    Args:
        run: its files.
        drawn: what its model makes.
        warning: what is to be said first.
        beside: the folder the page will lie in; links are relative to it.
    """
    sections = {
        "What it is": _recipe(run),
        "Numbers": _numbers(run),
        "Training": _training(run),
        **{picture.name: picture_html(picture) for picture in drawn},
        "Data": _data(run),
        "Options": _options(run),
        "Command": command(run),
        "Environment": html.pairs(run.env) or html.words("env.json says nothing."),
        "Files": _files(run, beside),
    }
    head = f"<h1>{html.text(run.name)}</h1>\n{_status(run, warning)}"
    return html.document(f"{run.name}: a run of lowerbound", head, sections)


def picture_html(picture: Picture) -> str:
    """Return a picture as HTML: the figure or the table with its caption, or the words in their place."""
    if picture.figure is not None:
        return html.picture(figures.png_of(picture.figure), picture.text)
    if not picture.columns:
        return html.words(picture.text)
    names = list(picture.columns)[:MOST_COLUMNS]
    left_out = len(picture.columns) - len(names)
    more = html.words(f"The first {len(names)} of {len(picture.columns)} columns.") if left_out else ""
    rows = zip(*(picture.columns[name] for name in names), strict=True)
    return html.table(names, ([_cell(v) for v in row] for row in rows)) + more + html.words(picture.text)


def _status(run: RunFiles, warning: str) -> str:
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
        under = ", under the prior of training" if run.fitted_priors and _reads_prior(run, run.monitor[0]) else ""
        facts.append(f"{kept} {run.monitor[0]} {value:.3f}{_nats(run.monitor[0])} ({split}, epoch {epoch}{under})")
    lines = [html.text("; ".join(facts)) + "."]
    if error := run.status.get("error"):
        lines.append(f'<span class="bad">{html.text(error)}</span>')
    said = [*run.damaged, *([warning] if warning else [])]
    lines += [f'<span class="bad">{html.text(line)}</span>' for line in said]
    return "<p>" + "<br>\n".join(lines) + "</p>"


def _time(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "at no known time"


def _recipe(run: RunFiles) -> str:
    name = run.recipe.get("name")
    if name is None:
        return html.words("recipe.json says nothing.")
    function = RECIPES.get(str(name))  # of runs that an older version wrote
    about = run.recipe.get("about") or (inspect.getdoc(function) if function else "")
    head = about.split("\nArgs:")[0].strip() if isinstance(about, str) else ""
    paragraphs = [f"<p>{html.linked(html.text(p))}</p>" for p in head.split("\n\n")]
    count = "" if run.parameters is None else f"<p>{run.parameters:,} parameters.</p>"
    paragraphs = paragraphs if head else []
    return "\n".join([f"<p>Recipe <code>{html.text(name)}</code></p>", *paragraphs, count])


def _options(run: RunFiles) -> str:
    options = html.pairs(inside(run.recipe, "options")) or html.words("The recipe has none, or recipe.json is missing.")
    training = html.pairs(inside(run.recipe, "training", "args")) or html.words("recipe.json does not say.")
    return f"{options}\n<h3>How it is trained</h3>\n{training}"


def _data(run: RunFiles) -> str:
    spec, origin = inside(run.data, "spec"), inside(run.data, "origin")
    if not spec:
        return html.words("data.json says nothing.")
    columns = spec.get("columns")
    facts = {
        "name": spec.get("name"),
        "kind": spec.get("kind"),
        "shape of an example": " x ".join(texts(spec.get("shape"))),
        "training examples": spec.get("size"),
        "classes": ", ".join(texts(spec.get("classes"))) or "none",
        "columns": ", ".join(_column_names(columns)) or None,
        "modalities": ", ".join(_column_names(spec.get("modalities"))) or None,
        "symbols": len(texts(spec.get("vocabulary"))) or None,
        "binarisation": spec.get("binarize"),
        "seed of the splits": spec.get("data_seed"),
        "source": origin.get("source", "arrays, which are not stored"),
        "fingerprint": run.data.get("fingerprint"),
    }
    facts |= {f"share of {name}": origin.get(f"{name}_fraction") for name in ("valid", "test")}
    lines = [f"<li>{html.text(note)}</li>" for note in texts(run.data.get("notes"))]
    lines += [f'<li class="bad">warning: {html.text(line)}</li>' for line in texts(run.data.get("warnings"))]
    listed = f"<ul>{''.join(lines)}</ul>" if lines else html.words("Nothing was noted when they were read.")
    return html.pairs({k: v for k, v in facts.items() if v is not None}) + listed


def _column_names(columns: Any) -> list[str]:
    listed = columns if isinstance(columns, list) else []
    known = [inside(c, "args").get("name") or inside({"c": c}, "c").get("name") for c in listed]
    return [str(name) for name in known if name is not None]


def _numbers(run: RunFiles) -> str:
    found = [_evaluation(name, held, earlier=is_outdated(run.folder, name)) for name, held in run.evaluations.items()]
    if not found:
        found = [
            f"<p>It was not evaluated yet: <code>lowerbound evaluate {html.text(run.name)}</code> adds the numbers of "
            "the test examples, with their errors.</p>"
        ]
    return "\n".join([*found, _of_training(run)])


def _of_training(run: RunFiles) -> str:
    """Return the numbers of the epoch whose weights are kept, as training logged them."""
    if run.best is None:
        return ""
    _, epoch, split = run.best
    event = run.epochs.get(split, {}).get(epoch, {})
    skipped = ("epoch", "step", "seconds")
    rows = [
        [name, f"{value:.4f}", _nats(name).strip(), KINDS.get(name, "of the objective")]
        for name, value in ((name, number(value)) for name, value in event.items() if name not in skipped)
        if value is not None
    ]
    under = ", under the prior of training" if earlier_prior(run) else ""
    head = f"<h3>{html.text(split)}, epoch {epoch}, as training logged it{under}{of_units(run)}</h3>"
    return head + html.table(("", "value", "unit", "kind"), rows, numbers=(1,))


def _evaluation(name: str, held: dict[str, Any], *, earlier: bool) -> str:
    found = {key: value for key, value in held.items() if isinstance(value, dict) and "value" in value}
    facts = {key: value for key, value in held.items() if not isinstance(value, dict | list)}
    head = f"<h3>{html.text(name)}{' (of earlier weights: evaluate again)' if earlier else ''}</h3>"
    if isinstance(held.get("text"), str):
        return head + f"<pre>{html.lines(held['text'])}</pre>"
    if not found:
        return head + html.words("This file holds no numbers of the usual form.") + html.pairs(facts)
    rows = [_number_row(key, value) for key, value in found.items()]
    names = ("", "value", "standard error", "unit", "kind", "K", "sampler's error", "n", "about")
    return head + html.table(names, rows, numbers=(1, 2, 5, 6, 7)) + f"<p>{_sentence(facts)}</p>"


def _number_row(name: str, found: dict[str, Any]) -> list[str]:
    value = number(found.get("value"))
    if value is None:
        return [name, "-", "", "", "", "", "", "", str(found.get("reason", "no reason is given"))]
    digits = [number(found.get(key)) for key in ("se", "mc_se")]
    se, sampler = ("" if v is None else f"{v:.4f}" for v in digits)
    kind, samples, n, target = (found.get(key, "") for key in ("kind", "num_samples", "n", "target"))
    return [name, f"{value:.4f}", se, UNITS.get(name, ""), str(kind), str(samples), sampler, str(n), str(target)]


def _sentence(facts: dict[str, Any]) -> str:
    said = {key: value for key, value in facts.items() if key != "weighted"}
    weighted = ["weighted by the rows' weights"] if facts.get("weighted") else []
    return html.text("; ".join([*(f"{key} {value}" for key, value in said.items()), *weighted]))


def of_units(run: RunFiles) -> str:
    """Say that training saw standardised columns, whose densities are not in the data's units as the numbers are."""
    columns = inside(run.data, "spec").get("columns")
    scales = [inside(column, "args").get("scale") for column in columns] if isinstance(columns, list) else []
    return " (in the model's standardised units)" if any(scale not in (None, 1.0) for scale in scales) else ""


def earlier_prior(run: RunFiles) -> str:
    """Say that what training logged is of the prior it had, where another was fitted since; "" where none was.

    A log without an ELBO or a rate has nothing of a prior.
    """
    if not run.fitted_priors or not any(_values(run, split, "rate") for split in run.epochs):
        return ""
    kinds = list(dict.fromkeys(run.fitted_priors))
    fitted = kinds[0] if len(kinds) == 1 else f"one of {', '.join(kinds)}"
    return (
        f"What training logged ends at epoch {run.epochs_done}, before the model's prior was fitted ({fitted}): its "
        "rate and its ELBO are of the prior that the model was trained with. Encoder and decoder, and with them the "
        "distortion, are still those of training."
    )


def _reads_prior(run: RunFiles, term: str) -> bool:
    """Tell whether a term of the log may depend on the prior: all but the distortion, where there is a rate."""
    return term != "distortion" and any(_values(run, split, "rate") for split in run.epochs)


def _nats(term: str) -> str:
    """Return the unit of a term of the log with a space before it, empty for one that is no nats."""
    return "" if term in BARE else " nats"


def _training(run: RunFiles) -> str:
    if not run.epochs:
        return html.words("There is no whole epoch yet.")
    units, earlier = of_units(run), earlier_prior(run)
    monitor, maximize = run.monitor
    drawn = [f"<p>{html.text(earlier)}</p>"] if earlier else []
    for term, sign in {"elbo": -1, monitor: -1 if maximize else 1}.items():
        lines = epoch_lines(run, term, sign)
        if lines:
            name = f"-{term}" if sign < 0 else term
            judged = run.best is not None and run.best[2] == "valid"
            which = "best validation" if judged else "last"
            kept = "" if term != monitor else f" The weights kept are those of its {which} epoch."
            under = ", under the prior of training" if earlier and _reads_prior(run, term) else ""
            title = f"{name}{under}" if under else ""
            unit = _nats(term)
            label = f"{name} ({unit.strip()})" if unit else name
            figure = figures.curves(lines, x="epoch", y=label, title=title, markers=True)
            text = f"{name}{under},{unit} for each example{units}: {_ends(lines)}.{kept}"
            drawn.append(html.picture(figures.png_of(figure), text))
    tug = tug_points(run)
    if tug:
        under = " under the prior of training" if earlier else ""
        title = f"rate{under} against distortion, epoch by epoch" if under else ""
        text = f"Distortion against rate{under} after each epoch{units}: what the one saves the other pays."
        drawn.append(html.picture(figures.png_of(figures.tug_of_war({run.name: tug}, title=title)), text))
    return "\n".join(drawn) or html.words("No epoch has a number that can be drawn.")


def epoch_lines(run: RunFiles, term: str, sign: int = 1) -> dict[str, list[tuple[float, float]]]:
    """Return the values of a term over the epochs, times `sign`, by split; splits without a value are left out."""
    lines = {split: _values(run, split, term) for split in ("train", "valid")}
    return {split: [(float(e), sign * v) for e, v in line.items()] for split, line in lines.items() if line}


def tug_points(run: RunFiles) -> list[tuple[float, float]]:
    """Return rate and distortion after each epoch, of the validation rows if there are any."""
    split = "valid" if run.epochs.get("valid") else "train"
    rates, distortions = _values(run, split, "rate"), _values(run, split, "distortion")
    return [(rates[epoch], distortions[epoch]) for epoch in rates if epoch in distortions]


def _values(run: RunFiles, split: str, term: str) -> dict[int, float]:
    found = {epoch: number(event.get(term)) for epoch, event in run.epochs.get(split, {}).items()}
    return {epoch: value for epoch, value in found.items() if value is not None}


def _ends(lines: Mapping[str, list[tuple[float, float]]]) -> str:
    return "; ".join(f"{split} from {points[0][1]:.2f} to {points[-1][1]:.2f}" for split, points in lines.items())


def command(run: RunFiles) -> str:
    """Return the commands of a run as HTML."""
    try:
        said = (run.folder / "command.txt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return html.words("command.txt is missing.")
    return f"<pre>{html.lines(said)}</pre>"


def _files(run: RunFiles, beside: Path) -> str:
    wanted = ("*.json", "*.jsonl", "*.txt", "eval/*", "samples/*", "model/*")
    found = [path for pattern in wanted for path in sorted(run.folder.glob(pattern)) if path.is_file()]
    lines = [_link(path, run.folder, beside) for path in found[:MOST_FILES]]
    more = html.words(f"and {len(found) - MOST_FILES} more.") if len(found) > MOST_FILES else ""
    return f"<ul>{''.join(lines)}</ul>{more}" if lines else html.words("There are none.")


def _link(path: Path, folder: Path, beside: Path) -> str:
    target = quote(os.fsencode(os.path.relpath(path.absolute(), beside.absolute())))
    size = readable_size(path.stat().st_size)
    # ./ keeps a name with a colon from being read as a scheme
    return f'<li><a href="./{target}">{html.text(path.relative_to(folder))}</a> <span class="soft">{size}</span></li>'


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
