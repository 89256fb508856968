"""A run: the trained model and, where asked for, the folder that tells how it came about."""

import inspect
import json
import math
import os
import platform
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import FrameType
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from filelock import FileLock, Timeout

from .._version import __version__
from ..core.errors import CorruptArtifact, DataError, OutOfResource, UsageError
from ..core.model import VAE
from ..core.recipe import RECIPES, Recipe
from ..core.record import describe
from ..core.spec import DataSpec
from ..data.checks import fingerprint
from ..data.dataset import Data
from ..data.load import load_data
from ..ship.files import newest, put_back, read_json, write_json, write_text
from ..ship.save import load

LOCK = ".lock"
Status: TypeAlias = Literal["running", "done", "stopped", "failed"]


@dataclass
class Run:
    """A finished (or stopped) training.

    Args:
        model: the model with the best weights by the objective's monitor.
        recipe: what it was made from.
        folder: the run folder, or None if nothing was written.
        history: the epoch events, in order.
        status: "done", or "stopped" by a signal.
        exit_code: 0, or 128 + the signal's number.
        best_epoch: the epoch whose weights are kept, 0 if no epoch was judged.
        best: the monitor's value there.
    """

    model: VAE
    recipe: Recipe
    folder: Path | None
    history: list[dict[str, Any]] = field(default_factory=list)
    status: Status = "done"
    exit_code: int = 0
    best_epoch: int = 0
    best: float = math.nan


class RunFolder:
    """`runs/NAME/`: created once, never overwritten, and locked until `release` or the end of the process.

    Raises:
        UsageError: if the folder exists already, or another process holds its lock.
        OutOfResource: if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{path.parent} cannot be a folder: {error.strerror}", fix="choose another --out"
            ) from error
        try:
            path.mkdir()
        except FileExistsError as error:
            raise UsageError(
                f"{path} exists already", fix="choose another --out: a run is never overwritten"
            ) from error
        except OSError as error:
            raise OutOfResource(f"{path} cannot be created: {error.strerror}", fix="choose another --out") from error
        self.path = path
        self.started = time.time()
        self._take()

    @classmethod
    def check_free(cls, path: Path) -> None:
        """Raise UsageError if there is something already."""
        if path.exists():
            raise UsageError(f"{path} exists already", fix="choose another --out: a run is never overwritten")

    @classmethod
    def again(cls, path: Path) -> "RunFolder":
        """Return the folder of a run that is to go on, rid of what a killed process left half written.

        Raises:
            UsageError: if another process holds its lock.
        """
        folder = cls.__new__(cls)
        folder.path, folder.started = path, _started(path)
        folder._take()
        put_back(path)
        put_back(path / "checkpoints")
        for name in ("metrics.jsonl", "log.txt"):
            _end_line(path / name)
        return folder

    @classmethod
    def is_taken(cls, path: Path) -> bool:
        """Tell whether another process holds the lock of a run folder; True where the file system has no locks."""
        lock = FileLock(path / LOCK)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError, NotImplementedError):
            return True
        lock.release()
        return False

    def _take(self) -> None:
        """Take the lock of the folder; the system frees it when the process ends, however it does."""
        self.lock = FileLock(self.path / LOCK)
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"{self.path} is being trained by another process", fix="wait until it ends, or stop it first"
            ) from None
        except (OSError, NotImplementedError):  # a file system without locks must not prevent a training
            return

    def release(self) -> None:
        """Give the lock back."""
        self.lock.release()

    def discard(self) -> None:
        """Remove the folder of a run that never began."""
        self.release()
        shutil.rmtree(self.path, ignore_errors=True)

    def describe(self, recipe: Recipe, spec: DataSpec, data: dict[str, Any], environment: dict[str, Any]) -> None:
        """Write what is known before the first step; `data` says where the rows came from and what was found."""
        self._write_recipe(recipe)
        write_json(self.path / "data.json", {**data, "spec": describe(spec)["args"]})
        self.environment(environment)
        write_text(self.path / "command.txt", _command() + "\n")

    def describe_again(self, recipe: Recipe) -> None:
        """Note that the run goes on: the recipe, whose epochs may have changed, and one more command."""
        self._write_recipe(recipe)
        commands = self.path / "command.txt"
        before = commands.read_text(encoding="utf-8") if commands.exists() else ""
        write_text(commands, before + _command() + "\n")

    def environment(self, values: dict[str, Any]) -> None:
        """Replace env.json."""
        write_json(self.path / "env.json", values)

    def _write_recipe(self, recipe: Recipe) -> None:
        function = RECIPES.get(recipe.name)
        about = "" if function is None else inspect.getdoc(function) or ""
        write_json(self.path / "recipe.json", {**recipe.describe(), "about": about})

    def status(self, status: Status, **more: Any) -> None:
        """Replace status.json."""
        now = time.time()
        value = {"status": status, "pid": os.getpid(), "started": self.started, "updated": now, **more}
        write_json(self.path / "status.json", value)


def _end_line(path: Path) -> None:
    """Cut off a last line that was not written whole."""
    if path.is_file():
        with path.open("r+b") as file:
            text = file.read()
            file.truncate(text.rfind(b"\n") + 1)


def environment(seed: int, device: torch.device) -> dict[str, Any]:
    """Return what a result may depend on: versions, machine, seed."""
    return {
        "lowerbound": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "host": platform.node(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "seed": seed,
    }


def _command() -> str:
    """Return the command of this process as one would type it again."""
    started = Path(sys.argv[0])
    ours = started.name == "lowerbound" or started.parts[-2:] == ("lowerbound", "__main__.py")
    return shlex.join(["lowerbound" if ours else sys.argv[0], *sys.argv[1:]])


def free_name(folder: Path, name: str) -> Path:
    """Return `folder/name`, or with -2, -3, ... if that exists."""
    path, count = folder / name, 1
    while path.exists():
        count += 1
        path = folder / f"{name}-{count}"
    return path


def find_run(name: str | Path, runs: Path = Path("runs")) -> Path:
    """Return the folder of a run given by path, by its name under `runs/`, or as "last".

    A saved model counts as a run; that inside a run stands for the run.

    Raises:
        DataError: if there is no such run.
    """
    known = [p.parent for p in runs.glob("*/status.json")] if runs.is_dir() else []
    if str(name) == "last" and known:
        return max(known, key=_started)
    for candidate in (Path(name), runs / str(name)):
        if (candidate / "status.json").is_file() or (candidate / "config.json").is_file():
            place = candidate if candidate.name else candidate.resolve()
            return place.parent if place.name == "model" and (place.parent / "status.json").is_file() else candidate
    names = sorted(p.name for p in known)
    near = get_close_matches(str(name), names, 1)
    listed = ", ".join([*names[:10], *(["..."] if len(names) > 10 else [])]) or "none yet"
    raise DataError(
        f"there is no run {str(name)!r}",
        expected=f"a path, a name under {runs}/ ({listed}), or `last`",
        fix=f"did you mean {near[0]}?" if near else "train one: lowerbound train vae --data mnist",
    )


def _started(run: Path) -> float:
    try:
        return float(json.loads((run / "status.json").read_text())["started"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0.0


def open_run(name: str | Path) -> tuple[Path, VAE]:
    """Return the folder and the model of a run.

    Raises:
        DataError: if there is no such run, or it has no model yet.
        CorruptArtifact: if the model is damaged.
    """
    folder = find_run(name)
    if not newest(folder / "model").is_dir() and not (folder / "config.json").is_file():
        raise DataError(f"{folder} has no model yet", fix="wait for its first checkpoint, or train again")
    return folder, load(folder)


def origin_of(folder: Path) -> dict[str, Any] | None:
    """Return the arguments of `load_data` that gave a run its data; None if they were arrays."""
    described = read_json(folder / "data.json") if (folder / "data.json").exists() else {}
    origin = described.get("origin") if isinstance(described, dict) else None
    return origin if isinstance(origin, dict) else None


def data_of(folder: Path, like: DataSpec) -> tuple[Data, bool]:
    """Load the data a run was trained on, as a model built for `like` saw them, and tell whether they are the same.

    Raises:
        DataError: if they were arrays, or are no longer where they were.
        CorruptArtifact: if data.json makes no sense.
    """
    origin = origin_of(folder)
    if origin is None:
        raise DataError(f"{folder} was not trained on data with a name or a path", fix="say which: --data NAME|PATH")
    try:
        data = load_data(**origin, like=like)
    except TypeError as error:
        raise CorruptArtifact(f"the origin of the data makes no sense: {error}", where=f"{folder}/data.json") from error
    before = read_json(folder / "data.json").get("fingerprint")
    return data, before is None or before == fingerprint(data)


class Stop:
    """Set by SIGINT or SIGTERM: the loop finishes its step, saves and leaves. A second SIGINT leaves at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Note the signal."""
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Catch SIGINT and SIGTERM inside, if this is the main thread; otherwise change nothing."""
    stop = Stop()
    try:
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread, where handlers cannot be set
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
