"""What several commands share: their options, finding a run and its rows, saying and writing results."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import docstring_parser
import tyro

from ..core.errors import DataError, UsageError
from ..core.model import VAE, Show, spec_of
from ..core.spec import DataSpec
from ..data import BUILTIN, Data, Dataset, load_data, load_rows
from ..data.dataset import SplitName
from ..data.images import Alpha
from ..data.load import named_source
from ..explore.modalities import has_pictures
from ..train import open_run
from ..train.run import data_of, origin_of
from .output import say

RUNS = Path("runs")


@dataclass(kw_only=True)
class RunOptions:
    """Options of every command that reads a run."""

    run: Annotated[str, tyro.conf.Positional]
    """A path, a name under runs/, or `last`."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    seed: int = 0
    """Decides everything that is drawn."""
    json: bool = False
    """Print the result as JSON."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 1 << 63:
            raise UsageError(f"the seed cannot be {self.seed}", expected="0 to 2^63 - 1")


@dataclass(kw_only=True)
class ReadingOptions:
    """Options of commands that read files of data."""

    alpha: Alpha = "refuse"
    """Transparent pixels of image files: refuse them, drop them, or lay them on white or black."""
    skip_bad: bool = False
    """Leave out image files that cannot be read."""
    delimiter: str | None = None
    """What separates the cells of a CSV file (default: found out)."""
    encoding: str = "utf-8"
    """Of a CSV file."""


@dataclass(kw_only=True)
class RowsOptions(ReadingOptions, RunOptions):
    """Options of commands that read rows of data, too."""

    data: str | None = None
    """Other data than the run's own: a name or a path, read as the run's own were."""
    split: SplitName | None = None
    """Which rows: train, valid, test or all (default: all rows of --data; without it the run's own test rows)."""
    seen: str | None = None
    """What the encoder sees of the same examples, of a model trained on pairs."""


@dataclass(kw_only=True)
class ShownOptions:
    """Options of commands that write what a model makes."""

    show: Show | None = None
    """The mean of p(x|z), or a draw from it (default: the mean; where rows of a table are sampled, a draw)."""
    out: str | None = None
    """File to write: .png, .npz, .csv or .parquet; or a folder, ending in /, for one PNG each (default: samples/ in the
    run)."""


@dataclass(frozen=True)
class Opened:
    """A run and rows of data as its model wants them."""

    folder: Path
    model: VAE
    spec: DataSpec
    rows: Dataset


def options_of(function: Callable[..., Any], *, without: Iterable[str] = ()) -> list[tuple[str, Any, Any]]:
    """Return a function's arguments as fields of a dataclass, with its docstring's text as their help.

    Args:
        function: what the options are for.
        without: arguments that are no options.
    """
    texts = {p.arg_name: p.description or "" for p in docstring_parser.parse(inspect.getdoc(function) or "").params}
    made = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in without or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        text = " ".join(texts.get(parameter.name, "").split())
        made.append(option(parameter.name, parameter.annotation, text, default=parameter.default))
    return made


def option(name: str, kind: Any, text: str, **default: Any) -> tuple[str, Any, Any]:
    """Return one field of a dataclass, with its help and, unless it must be given, its default."""
    return name, Annotated[kind, tyro.conf.arg(help=text)], field(**default)


def dataclass_of(name: str, fields: list[tuple[str, Any, Any]], doc: str, bases: tuple[type, ...] = ()) -> type:
    """Return a keyword-only dataclass of these fields; `doc` is the help of the command."""
    made = make_dataclass(name, fields, bases=bases, kw_only=True)
    made.__doc__ = doc
    return made


def open_with_device(name: str, device: str) -> tuple[Path, VAE]:
    """Return folder and model of a run, the model on `device`."""
    from ..train.fit import pick_device

    folder, model = open_run(name)
    return folder, model.to(pick_device(device))


def open_model(options: RunOptions) -> tuple[Path, VAE, DataSpec]:
    """Return folder, model and spec of the run the options name.

    Raises:
        UsageError: if the model does not know its data.
    """
    folder, model = open_with_device(options.run, options.device)
    return folder, model, spec_of(model)


def open_rows(options: RowsOptions) -> Opened:
    """Return the run and the rows the options name, on the run's device.

    Raises:
        DataError: if the data cannot be loaded or do not fit, or the split is empty.
    """
    folder, model, spec = open_model(options)
    return Opened(folder, model, spec, rows_of(folder, model, options))


def rows_of(folder: Path, model: VAE, options: RowsOptions) -> Dataset:
    """Return rows of the run's own data, or of `options.data`, as the model wants them."""
    spec = spec_of(model)
    if options.seen is not None and options.data is None:
        raise UsageError("--seen is given without --data", expected="both: what is seen of the examples of --data")
    if options.data is None:
        data = own_data(folder, spec)
        rows = data.split(options.split or "test")
        others = [name for name in ("test", "valid", "train") if len(data.split(name))]
        if len(rows) == 0:
            raise DataError(f"{rows.spec.name} has 0 {rows.split} examples", expected=f"--split {' or '.join(others)}")
    elif _is_own(folder, options):
        if options.split is None:
            say(f"{options.data} is what the run was trained on: all its rows (--split test for those held out)")
        rows = own_data(folder, spec).split(options.split or "all")
    elif options.data in BUILTIN:
        with_label = bool(spec.modalities)
        rows = load_data(options.data, seed=spec.data_seed, with_label=with_label).split(options.split or "all")
    else:
        rows = _new_rows(options, spec)
    if len(rows) == 0:
        raise DataError(f"{rows.spec.name} has 0 {rows.split} examples", expected="another --split")
    if spec.paired and rows.seen is None:
        say(f"warning: {spec.name} was trained on pairs: the encoder sees {rows.spec.name} itself, or say --seen PATH")
    check_labels(model, rows)
    return rows.matching(spec).at_hand().to(model.device)


def say_levels(model: VAE) -> None:
    """Say of a ladder, of which codes of the top are decoded, where its other levels are."""
    from ..explore.latents import below_top

    if words := below_top(model):
        say(words)


def check_labels(model: VAE, rows: Dataset) -> None:
    """Raise DataError if a conditional model would have to do without labels."""
    if model.conditional and rows.y is None:
        raise DataError(
            f"{rows.spec.name} has no labels, and this model gives p(x|y)",
            expected="a label for each row",
            fix="put images into one folder for each class; arrays beside y in an .npz; tables with the label's column",
        )


def _new_rows(options: RowsOptions, spec: DataSpec) -> Dataset:
    assert options.data is not None
    if options.split not in (None, "all"):
        data = load_data(
            options.data, like=spec, seen=options.seen, seed=spec.data_seed, alpha=options.alpha,
            skip_bad=options.skip_bad, delimiter=options.delimiter, encoding=options.encoding,
            with_label=bool(spec.modalities),
        )  # fmt: skip
        for line in data.notes:
            say(line)
        return data.split(options.split)
    rows, notes = load_rows(
        options.data, spec, seen=options.seen, alpha=options.alpha, skip_bad=options.skip_bad,
        delimiter=options.delimiter, encoding=options.encoding,
    )  # fmt: skip
    for line in notes:
        say(line)
    return rows


def _is_own(folder: Path, options: RowsOptions) -> bool:
    """Tell whether the rows that the options name are those the run was trained on."""
    origin, source = origin_of(folder), options.data
    if origin is None or source is None:
        return False
    whole = named_source(source)
    if origin.get("source") not in (source, whole):
        return False
    return options.seen is None or str(Path(options.seen).resolve()) == origin.get("seen")


def own_data(folder: Path, like: DataSpec) -> Data:
    """Load the data a run was trained on as its model, built for `like`, saw them; say so if they have changed since.

    Raises:
        DataError: if they were arrays, or are no longer where they were.
    """
    data, same = data_of(folder, like)
    if not same:
        say(
            f"warning: {(data.origin or {}).get('source', like.name)} has changed since {folder.name} was trained on it"
        )
    return data


def default_show(show: Show | None, spec: DataSpec) -> Show:
    """Return what to show of samples: the mean of images, draws of anything else, unless asked for."""
    return show or ("mean" if has_pictures(spec) else "draw")
