"""`lowerbound score RUN`: how likely each row of data is, to a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np
import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.model import VAE
from ..data.dataset import Dataset
from ..data.images import printable
from ..data.stored import Stored
from ..evaluation import score
from ..evaluation.likelihood import Units, distortion_at_code, no_density_reason, shares, target_of
from ..explore.write_rows import Write, rows_written
from .common import RowsOptions, open_rows
from .mistakes import parse
from .output import say, wrote

LOWEST = 5
PART = 10_000  # rows on disk that are scored before they are written
SUFFIXES = (".csv", ".npz", ".parquet")


@dataclass(kw_only=True)
class Score(RowsOptions):
    """Nats of each row: elbo, distortion, rate and importance-sampled log p(x), beside the row's place in the data.

    Unlikely rows have a low log_px: sort by it to find outliers. A model without density gives the distortion alone.
    """

    num_samples: int = 100
    """K of the importance-sampled log p(x)."""
    units: Units = "data"
    """Densities of standardised columns in the data's own units, or in the model's."""
    out: Path | None = None
    """File to write: .csv, .npz or .parquet (default: samples/scores.csv in the run)."""


def command(words: list[str]) -> int:
    """Run `lowerbound score`."""
    options = parse(Score, words, "score")
    path = None if options.out is None else values_file(options.out)
    opened = open_rows(options)
    model, rows = opened.model, opened.rows
    path = path or opened.folder / "samples" / "scores.csv"
    split = "" if rows.split == "all" else f" {rows.split}"
    say(f"{opened.folder.name}: {len(rows):,}{split} examples of {rows.spec.name}")
    with rows_written(path, len(rows)) as write:
        facts = score_rows(model, rows, options, write)
    return wrote(path, f"lowerbound evaluate {quote(options.run)}", as_json=options.json, num=len(rows), **facts)


def parts_of(rows: Dataset) -> Iterator[tuple[int, Dataset]]:
    """Yield parts of rows on disk with the number of their first row; rows in memory are one part."""
    step = PART if isinstance(rows.x, Stored) else max(1, len(rows))
    return ((start, rows.rows(slice(start, start + step))) for start in range(0, len(rows), step))


def score_rows(model: VAE, rows: Dataset, options: Score, write: Write) -> dict[str, object]:
    """Write the scores of all rows by name, part by part, and return what they are about; says the latter, too."""
    units, names = options.units, name_type(rows)
    unit = f"nats, in the {units}'s units"
    if not model.has_density:
        reason = no_density_reason(model)
        say(f"no density: {reason}. distortion is -log p(x|z) at the code; {unit}")
        values = []
        for _, part in parts_of(rows):
            values.append(distortion_at_code(model, part, units=units))
            write({**row_names(part, names), "distortion": values[-1].numpy(), **_labels(part)})
        distortion = torch.cat(values)
        facts = {"mean_log_px": None, "reason": reason, **_summary("distortion", distortion, rows, -distortion)}
        about = {"target": None, "units": units, "num_samples": None, "kind": "exact"}
        return {**facts, **about, **_about(rows, options)}
    target = target_of(model, rows)
    say(f"log_px: {target}, importance-sampled with K = {options.num_samples}, a lower bound in expectation")
    say(f"elbo = -(distortion + rate) is a bound on the same; {unit}")
    values = []
    for first, part in parts_of(rows):
        made = score(model, part, num_samples=options.num_samples, seed=options.seed, units=units, first=first)
        values.append(made.log_px)
        named = {
            "elbo": -(made.distortion + made.rate),
            "distortion": made.distortion,
            "rate": made.rate,
            "log_px": made.log_px,
        }
        write({**row_names(part, names), **{name: v.numpy() for name, v in named.items()}, **_labels(part)})
    log_px = torch.cat(values)
    facts = _summary("log_px", log_px, rows, log_px)
    about = {"target": target, "units": units, "num_samples": options.num_samples, "kind": "bound", "side": "lower"}
    return {**facts, **about, **_about(rows, options)}


def _about(rows: Dataset, options: Score) -> dict[str, object]:
    """Return what else the mean is of, as `evaluate` has it."""
    facts = {"split": rows.split, "binarisation": rows.spec.binarize, "seed": options.seed}
    return {**facts, "weighted": rows.weight is not None}


def _summary(name: str, values: Tensor, rows: Dataset, likely: Tensor) -> dict[str, object]:
    """Return and say the mean of `values` `[N]` and the least `likely` rows; those without a number come first."""
    bad = int((~torch.isfinite(values)).sum())
    order = torch.where(torch.isfinite(likely), likely, -torch.inf).argsort(stable=True)
    lowest = rows.places.cpu()[order[:LOWEST]].tolist()
    files = rows.file_names()
    least = lowest if files is None else [printable(files[i]) for i in order[:LOWEST].tolist()]
    mean = None if bad else float((shares(rows) * values).sum())
    if bad:
        say(f"warning: {bad} of {len(values)} rows have a {name} that is not finite: there is no mean")
    else:
        say(f"mean {name} {mean:.3f} nats; least likely rows: {', '.join(str(i) for i in least)}")
    return {f"mean_{name}": mean, "lowest": lowest}


def name_type(rows: Dataset) -> str:
    """Return the NumPy type that holds the name of any row's file."""
    return f"U{max((len(printable(file)) for file in rows.files), default=1)}"


def row_names(rows: Dataset, names: str) -> dict[str, np.ndarray]:
    """Return the place of each row in what was read, and its file, of type `names`, if rows were files."""
    files = rows.file_names()
    named = {} if files is None else {"file": np.asarray([printable(file) for file in files], names)}
    return {"index": rows.places.cpu().numpy(), **named}


def _labels(rows: Dataset) -> dict[str, np.ndarray]:
    return {} if rows.y is None else {"label": np.asarray(rows.spec.classes)[rows.y.cpu().numpy()]}


def values_file(out: Path) -> Path:
    """Return the file of numbers the user asked for; without a suffix it is a .csv.

    Raises:
        UsageError: if it is a folder or has another suffix, before any work is done.
    """
    path = out if out.suffix else out.with_name(out.name + ".csv")
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        raise UsageError(f"scores cannot be written to {str(out)!r}", expected=f"a file: {', '.join(SUFFIXES)}")
    return path
