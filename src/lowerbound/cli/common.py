"""What several commands share: parsing by tyro, finding a run's data, printing results."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from ..core.errors import CorruptArtifact, DataError, UsageError
from ..core.model import VAE, Show
from ..data import Data, Dataset, load_data
from ..data.dataset import SPLITS, SplitName
from ..ship.files import read_json
from ..train import open_run

T = TypeVar("T")


@dataclass(kw_only=True)
class RunOptions:
    """Options of every command that reads a run."""

    run: Annotated[str, tyro.conf.Positional]
    """A path, a name under runs/, or `last`."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""


@dataclass(kw_only=True)
class RowsOptions(RunOptions):
    """Options of commands that read rows of data, too."""

    data: str | None = None
    """Other data than the run's own: a name or a path."""
    split: SplitName = "test"
    """Which rows."""


@dataclass(kw_only=True)
class PictureOptions(RunOptions):
    """Options of commands that write what a model makes."""

    show: Show = "mean"
    """The mean of p(x|z), or a draw from it."""
    out: Path | None = None
    """File to write, without suffix (default: samples/ in the run folder)."""


def parse(options: type[T], words: list[str], command: str) -> T:
    """Parse `words` into the dataclass `options`; its docstring is the help. A mistake exits with code 2."""
    return tyro.cli(options, args=words, prog=f"lowerbound {command}")


def say(line: str) -> None:
    """Talk: one line on standard error."""
    sys.stderr.write(line + "\n")


def result(text: str) -> None:
    """A result: on standard output."""
    sys.stdout.write(text + "\n")


def result_json(value: Any) -> None:
    """A result as one JSON object on standard output."""
    result(json.dumps(value, indent=1))


def saved(where: Path, following: str) -> None:
    """The last line of a command: where the result is and what to do next."""
    say(f"saved: {where}")
    say(f"next:  {following}")


def open_with_device(name: str, device: str) -> tuple[Path, VAE]:
    """Return folder and model of a run, the model on `device`."""
    from ..train.fit import pick_device

    folder, model = open_run(name)
    return folder, model.to(pick_device(device))


def rows_of(folder: Path, model: VAE, source: str | None, split: SplitName) -> Dataset:
    """Return rows of the run's own data, or of `source`, as the model wants them.

    Raises:
        DataError: if the run's data cannot be loaded again, or the split is empty.
    """
    if model.spec is None:
        raise UsageError("the model does not know its data")
    data = own_data(folder) if source is None else load_data(source, seed=model.spec.data_seed)
    rows = data.split(split)
    if len(rows) == 0:
        raise DataError(f"{data.spec.name} has 0 {split} examples", expected="one of " + ", ".join(SPLITS))
    return rows.matching(model.spec).to(model.device)


def own_data(folder: Path) -> Data:
    """Load the data a run was trained on.

    Raises:
        DataError: if they were arrays, or are no longer where they were.
    """
    described = read_json(folder / "data.json") if (folder / "data.json").exists() else {}
    origin = described.get("origin") if isinstance(described, dict) else None
    if not isinstance(origin, dict):
        raise DataError(f"{folder} was not trained on data with a name or a path", fix="say which: --data NAME|PATH")
    try:
        return load_data(**origin)
    except TypeError as error:
        raise CorruptArtifact(f"the origin of the data makes no sense: {error}", where=f"{folder}/data.json") from error
