"""Schedules: numbers that are functions of the step."""

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.objective import Schedule
from ..core.record import recorded


@recorded
class Linear(Schedule):
    """From `start` to `end` in `steps` optimiser steps, then constant: KL warm-up.

    Args:
        start: value at step 0.
        end: value from step `steps` on.
        steps: length.

    Raises:
        UsageError: if the length is not positive.

    >>> [float(Linear(0.0, 1.0, 4)(torch.tensor(s))) for s in (0, 1, 9)]
    [0.0, 0.25, 1.0]
    """

    def __init__(self, start: float, end: float, steps: int) -> None:
        if steps < 1:
            raise UsageError(f"a schedule cannot take {steps} steps", expected="a whole number above 0")
        self.start, self.end, self.steps = start, end, steps
        self.settled = steps

    def __call__(self, step: Tensor) -> Tensor:
        """Return the value at `step`."""
        return self.start + (self.end - self.start) * torch.clamp(step / self.steps, max=1.0)
