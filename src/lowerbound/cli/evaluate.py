"""`lowerbound evaluate RUN`: the first numbers, saved beside the run."""

from dataclasses import dataclass
from pathlib import Path

from ..data.dataset import Dataset
from ..evaluation import Evaluation, evaluate
from ..evaluation.likelihood import Units, check_samples
from ..ship.files import write_json
from .common import RowsOptions, open_rows
from .mistakes import parse
from .output import result, result_json, saved, say


@dataclass(kw_only=True)
class Evaluate(RowsOptions):
    """ELBO, distortion, rate, importance-sampled NLL and bits/dim of a run, in nats for each example."""

    num_samples: int = 100
    """K of the importance-sampled NLL."""
    units: Units = "data"
    """Densities of standardised columns in the data's own units, or in the model's."""


def command(words: list[str]) -> int:
    """Run `lowerbound evaluate`."""
    options = parse(Evaluate, words, "evaluate")
    check_samples(options.num_samples)
    opened = open_rows(options)
    rows, folder = opened.rows, opened.folder
    split = "" if rows.split == "all" else f" {rows.split}"
    say(f"{folder.name}: {len(rows):,}{split} examples of {rows.spec.name}, K = {options.num_samples}")
    numbers = evaluate(opened.model, rows, num_samples=options.num_samples, seed=options.seed, units=options.units)
    path = evaluation_file(folder, rows, options.data, options.units)
    path.parent.mkdir(exist_ok=True)
    write_json(path, numbers.to_json())
    show(numbers, as_json=options.json)
    if options.data is None and (folder / "report.html").exists():
        from ..explore.report import report  # loads matplotlib, for which other evaluations need not wait

        say(f"report: {report(folder, device=options.device)}")
    saved(path, f"lowerbound sample {options.run}")
    return 0


def evaluation_file(folder: Path, rows: Dataset, data: str | None, units: Units) -> Path:
    """Return where the evaluation of a run on these rows is saved; other data and units get names of their own."""
    name = rows.split if data is None else f"{rows.spec.name}-{rows.split}"
    return folder / "eval" / f"{name}{'' if units == 'data' else '-model-units'}.json"


def show(numbers: Evaluation, *, as_json: bool) -> None:
    """Print an evaluation."""
    if as_json:
        result_json(numbers.to_json())
    else:
        facts = f"split {numbers.split}, binarisation {numbers.binarisation}, seed {numbers.seed}"
        weighted = ", weighted by the rows' weights" if numbers.weighted else ""
        result(f"{numbers}\n{facts}, {numbers.units} units{weighted}")
