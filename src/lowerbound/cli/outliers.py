"""`lowerbound outliers RUN --against DATA`: which scores tell rows of other data from the run's own."""

from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

import torch

from ..core.errors import DataError, UsageError
from ..core.model import VAE
from ..core.noise import Stream, generator
from ..core.spec import DataSpec
from ..data import BUILTIN, Dataset, load_data, load_rows
from ..data.dataset import SplitName
from ..data.modalities import is_labelled, labelled, without_label
from ..evaluation.likelihood import check_samples
from ..evaluation.outliers import OutlierReport, outliers
from ..ship.files import write_results
from .common import Opened, RowsOptions, check_labels, open_model, open_with_device, own_data, rows_of
from .mistakes import parse
from .output import result, result_json, saved, say


@dataclass(kw_only=True)
class Outliers(RowsOptions):
    """Outlier scores of a run's test rows and of other data, and how well each tells the two apart (AUROC, AUPRC).

    -ELBO, -log p(x), typicality and, for images, the correction by a lossless code need nothing more. --background adds
    the likelihood ratio: a run of the same recipe on the same images with noise, in Python
    lb.fit(lb.recipes.vae(data.spec), mutated(data, 0.2), out="runs/background") with `mutated` of
    lowerbound.evaluation.outliers. --ensemble adds WAIC: runs like this one with other --seed. A saved copy of the
    result is in eval/ of the run.
    """

    against: str
    """The other data: a name or a path, read as the run's own were."""
    against_split: SplitName | None = None
    """Which of their rows: train, valid, test or all (default: test of a name, all of a path)."""
    background: str | None = None
    """A run trained on the same data with noise, for the likelihood ratio."""
    ensemble: tuple[str, ...] = ()
    """Runs like this one of other seeds, for WAIC."""
    num_samples: int = 100
    """K of the importance-sampled log p(x)."""
    rows: int | None = None
    """How many rows of each, drawn by --seed (default: all)."""


def command(words: list[str]) -> int:
    """Run `lowerbound outliers`."""
    options = parse(Outliers, words, "outliers")
    check_samples(options.num_samples)
    if options.rows is not None and options.rows < 2:
        raise UsageError(f"{options.rows} rows cannot be ranked", expected="a whole number above 1")
    folder, model, spec = open_model(options)
    check_readable(spec, options.against)
    opened = Opened(folder, model, spec, _judged(rows_of(folder, model, options)))
    background, *ensemble = _others(options, opened.folder)
    inside, outside = (_some(rows, options) for rows in (opened.rows, against_rows(options, spec, model)))
    check_labels(model, outside)
    reference = _reference(options, opened) if model.has_density else None
    say(f"{opened.folder.name}: {len(inside):,} rows of {inside.spec.name} against {len(outside):,} of "
        f"{outside.spec.name}, K = {options.num_samples}")  # fmt: skip
    report = outliers(
        model, inside, outside, reference=reference, background=background,
        ensemble=[m for m in ensemble if m is not None], num_samples=options.num_samples, seed=options.seed,
    )  # fmt: skip
    path = opened.folder / "eval" / f"outliers-{Path(outside.spec.name).name}.json"
    path.parent.mkdir(exist_ok=True)
    facts = {"run": opened.folder.name, "against": options.against}
    write_results(path, {**facts, **report.to_json(), "text": str(report)})
    _show(report, as_json=options.json)
    saved(path, f"lowerbound score {quote(options.run)} --data {quote(options.against)}")
    return 0


def check_readable(spec: DataSpec, against: str) -> None:
    """Raise DataError if the model was built for data of several kinds, which no name or path gives together."""
    if spec.modalities and not is_labelled(spec):
        raise DataError(
            f"{spec.name} joins {', '.join(m.name for m in spec.modalities)}: no name or path gives these together",
            where=f"--against {against}",
            expected="a model of one kind of data, or of such data and their label (--with-label)",
            fix="in Python: outliers(model, data.test, lowerbound.joined({...}).split('all')), of "
            "lowerbound.evaluation.outliers",
        )


def _judged(rows: Dataset) -> Dataset:
    """Return rows as they are scored: without the label where that is a part of x, as other data have none of its."""
    return without_label(rows) if is_labelled(rows.spec) else rows


def against_rows(options: Outliers, spec: DataSpec, model: VAE) -> Dataset:
    """Return the rows of --against; other classes than the run's are no mistake where the model reads none.

    Raises:
        DataError: if they cannot be read, or do not fit the model, or there are none.
    """
    source, split = options.against, options.against_split
    if is_labelled(spec):
        say("the label is hidden in the rows of both: what is scored is the rest of x, as labels of other data have "
            "no place among the model's classes")  # fmt: skip
        return labelled(replace(against_rows(options, spec.modalities[0].spec, model), y=None), spec)
    like = spec if model.conditional else replace(spec, classes=())
    if source in BUILTIN:
        rows = load_data(source, seed=spec.data_seed).split(split or "test")
    elif split in (None, "all"):
        rows, notes = load_rows(
            source, like, alpha=options.alpha, skip_bad=options.skip_bad, delimiter=options.delimiter,
            encoding=options.encoding,
        )  # fmt: skip
        for line in notes:
            say(line)
    else:
        data = load_data(
            source, like=like, seed=spec.data_seed, alpha=options.alpha, skip_bad=options.skip_bad,
            delimiter=options.delimiter, encoding=options.encoding,
        )  # fmt: skip
        rows = data.split(split)
    if not len(rows):
        raise DataError(f"{rows.spec.name} has 0 {rows.split} examples", expected="another --against-split")
    return rows


def _some(rows: Dataset, options: Outliers) -> Dataset:
    """Return so many of the rows, in their order: the first ones of sorted data would all be of one class."""
    if options.rows is None or options.rows >= len(rows):
        return rows
    order = torch.randperm(len(rows), generator=generator(Stream.SHOWN, options.seed))
    return rows.rows(order[: options.rows].sort().values.to(rows.x.device))


def _reference(options: Outliers, opened: Opened) -> Dataset | None:
    """Return rows of the run's own data for the typicality's H: those of the validation, or of the training."""
    try:
        data = own_data(opened.folder, opened.spec)
    except DataError as error:
        say(f"warning: no typicality: {str(error).splitlines()[0]}")
        return None
    rows = _judged(data.valid if len(data.valid) else data.train)
    say(f"typicality: H is the mean of -log p(x) over {rows.split} rows of {rows.spec.name}")
    return _some(rows, options)


def _others(options: Outliers, folder: Path) -> list[VAE | None]:
    """Return the background model, or None, and the models of the ensemble.

    Raises:
        UsageError: if a run is given twice.
    """
    names = [options.background, *options.ensemble]
    opened = [None if name is None else open_with_device(name, options.device) for name in names]
    places = [folder.resolve(), *(found[0].resolve() for found in opened if found is not None)]
    for place in places:
        if places.count(place) > 1:
            raise UsageError(f"{place.name} is given twice", expected="different runs")
    return [None if found is None else found[1] for found in opened]


def _show(report: OutlierReport, *, as_json: bool) -> None:
    if as_json:
        result_json(report.to_json())
    else:
        result(str(report))
