"""`lowerbound resume RUN`: go on with a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..core.errors import UsageError
from ..core.recipe import Recipe
from ..explore.run_files import read_run
from ..ship.files import read_json
from ..trackers.trackers import Name
from ..train import find_run, resume
from ..train.fit import PROCESS_TIMEOUT
from ..train.plan import start_threads
from ..train.processes import Launched
from ..train.run import RunFolder
from .common import own_data
from .launching import in_processes, to_launch
from .mistakes import parse
from .track import followed
from .train import finish


@dataclass(kw_only=True)
class Resume:
    """Go on with a run that was stopped or killed, or give a finished one more epochs, in its own folder.

    It goes on from its last checkpoint that is whole, and ends with the weights it would have had.
    """

    run: Annotated[str, tyro.conf.Positional]
    """A path, a name under runs/, or `last`."""
    epochs: int | None = None
    """Passes through the training data in all, those already done included (default: as many as were planned)."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    devices: int | None = None
    """Processes that train together (default: as many as before)."""
    max_restarts: int = 0
    """With several devices: how often lost processes are started again, from the last checkpoint."""
    process_timeout: float = PROCESS_TIMEOUT
    """Seconds that processes wait for each other; then one that does not answer is held for lost."""
    shard: bool | None = None
    """Divide the weights among the processes (default: if they were before, and there are several)."""
    save_every: str | None = None
    """"500 steps", "2 epochs" or "10 minutes" between two checkpoints (default: after an epoch, if half a minute has
    passed, and every five minutes in a long one)."""
    track: Name | None = None
    """Tracker (tensorboard, wandb, ...) that a process of its own tells of the run; nothing of the training changes."""
    report: bool = True
    """Write report.html into the run folder at the end."""


def command(words: list[str]) -> int:
    """Run `lowerbound resume`."""
    options = parse(Resume, words, "resume")
    folder = find_run(options.run)
    # the number of a process alone proves nothing: after a restart, or in a container, another one has it
    if Launched.found() is None and read_run(folder).state == "running" and RunFolder.is_taken(folder):
        raise UsageError(f"{folder.name} is being trained by another process", fix="wait, or stop that one first")
    if options.devices is None:
        options.devices = _devices_before(folder)
    if to_launch(options.devices, options.max_restarts):
        return in_processes(["resume", *words], folder, vars(options))
    start_threads()
    data = own_data(folder, Recipe.from_description(read_json(folder / "recipe.json")).spec)
    names = ("epochs", "device", "process_timeout", "shard", "save_every", "report")
    with followed(options.track, folder) as listeners:
        run = resume(folder, data, listeners=listeners, **{name: getattr(options, name) for name in names})
    return finish(run, data)


def _devices_before(folder: Path) -> int | None:
    """Return how many processes trained the run, None for one by itself."""
    count = read_json(folder / "env.json").get("processes", 1)
    return count if isinstance(count, int) and count > 1 else None
