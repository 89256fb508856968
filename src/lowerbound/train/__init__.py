"""Training: one update for any number of players, one loop, a run folder."""

from .fit import fit, resume
from .fit_prior import fit_prior, prior_score, with_prior
from .run import Run, find_run, open_run
from .schedules import Linear

__all__ = ["Linear", "Run", "find_run", "fit", "fit_prior", "open_run", "prior_score", "resume", "with_prior"]
