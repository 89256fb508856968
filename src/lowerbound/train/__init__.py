"""Training: one update for any number of players, one loop, a run folder."""

from .fit import fit, resume
from .run import Run, find_run, open_run
from .schedules import Linear

__all__ = ["Linear", "Run", "find_run", "fit", "open_run", "resume"]
