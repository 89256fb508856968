"""The learning rate of a step."""

import math

from ..core.recipe import Training


def learning_rate(training: Training, step: int, steps: int) -> float:
    """Return the learning rate of a step of a training of so many steps: a warm-up times the schedule."""
    done = step / max(1, steps)
    lr = training.lr * min(1.0, (step + 1) / (training.lr_warmup + 1))
    if training.lr_schedule == "constant":
        return lr
    if training.lr_schedule == "step":
        return lr * (1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01)
    if training.lr_schedule == "constant_cosine":
        done = max(0.0, 3 * done - 2)
    return lr * 0.5 * (1 + math.cos(math.pi * done))
