"""`lowerbound resume RUN`: go on with a run."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from ..core.errors import UsageError
from ..core.model import spec_of
from ..explore.run_files import read_run
from ..train import find_run, open_run, resume
from .common import own_data
from .mistakes import parse
from .train import finish


@dataclass(kw_only=True)
class Resume:
    """Go on with a stopped run from its last checkpoint, or give a finished one more epochs, in its own folder."""

    run: Annotated[str, tyro.conf.Positional]
    """A path, a name under runs/, or `last`."""
    epochs: int | None = None
    """Passes through the training data in all, those already done included (default: as many as were planned)."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    report: bool = True
    """Write report.html into the run folder at the end."""


def command(words: list[str]) -> int:
    """Run `lowerbound resume`."""
    options = parse(Resume, words, "resume")
    folder = find_run(options.run)
    if read_run(folder).state == "running":
        raise UsageError(f"{folder.name} is being trained by another process", fix="wait, or stop that one first")
    like = spec_of(open_run(folder)[1])
    data = own_data(folder, like)
    return finish(resume(folder, data, epochs=options.epochs, device=options.device, report=options.report))
