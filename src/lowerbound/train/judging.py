"""Validation, the weights that are kept, and patience."""

import copy
import math
from collections.abc import Mapping

import torch

from ..core.errors import TrainingFailed
from ..core.model import VAE, inference
from ..core.noise import Stream, seeded
from ..core.objective import Objective
from ..data.dataset import Dataset
from .learner import Learner
from .progress import Best, Progress, Totals

EVAL_ROWS = 1000


def validate(learner: Learner, valid: Dataset, seed: int, at: int) -> dict[str, float]:
    """Return the mean of each term over the validation split, with noise that depends on the seed alone.

    Args:
        learner: whose kept model is judged.
        valid: the rows.
        seed: of the training.
        at: steps done, which schedules are functions of.
    """
    totals, processes = Totals(), learner.processes
    step = torch.tensor(float(at), device=learner.device)
    size, rank, block = processes.size, processes.rank, valid.most_rows(EVAL_ROWS)
    with inference(learner.kept):
        blocks = math.ceil(len(valid) / block)
        for i in range(rank, size * math.ceil(blocks / size), size):
            if i >= blocks and learner.sharded is None:
                break
            start = block * min(i, blocks - 1)  # where weights are divided, all make as many passes
            with seeded(Stream.VALIDATION, seed, i):  # the noise of a block, whichever process scores it
                batch = valid.batch(slice(start, start + block))
                terms = learner.outcome(batch, step).terms
            if i < blocks:
                totals.add(terms, batch.weight)
    return totals.of_all(processes).means()


def remember(progress: Progress, objective: Objective, model: VAE, terms: Mapping[str, float], *, judged: bool) -> None:
    """Keep a copy of the model's weights if they are the best so far.

    Args:
        progress: whose best weights they become.
        objective: whose monitor decides.
        model: after this epoch.
        terms: the epoch's means.
        judged: True if they are of validation rows. Without such there is no fair judge: noise would pick the best
            epoch, so the last one is kept.

    Raises:
        TrainingFailed: if the monitor is not finite.
    """
    value = terms[objective.monitor]
    if not math.isfinite(value):
        raise TrainingFailed(
            f"{objective.monitor} was not finite on the validation rows",
            where=f"epoch {progress.epoch}",
            fix="look for extreme values in the data, or lower --lr",
        )
    if not judged or progress.best.improves(value, maximize=objective.maximize):
        progress.best = Best(value, progress.epoch, copy.deepcopy(model.state_dict()))


def out_of_patience(progress: Progress, objective: Objective, patience: int | None) -> bool:
    """Tell whether no epoch was better for `patience` epochs, counted once all schedules have settled."""
    if patience is None or progress.step < objective.settled:
        return False
    settled_epoch = math.ceil(objective.settled / progress.steps_per_epoch)
    return progress.epoch - max(progress.best.epoch, settled_epoch) >= patience
