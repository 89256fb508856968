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


@recorded
class Cyclical(Schedule):
    """Rises from `start` to `end` again and again: cyclical annealing (Fu et al. 2019, arXiv 1903.10145).

    In each cycle of `period` steps a fraction t of it is start + (end - start) min(1, t / ramp); after `cycles`
    cycles it stays at `end`.

    Args:
        start: value at the begin of each cycle.
        end: value at the end of each cycle, and after the last.
        period: steps of one cycle.
        ramp: share of a cycle in which the value rises, above 0 and at most 1.
        cycles: number of cycles.

    Raises:
        UsageError: if the period, the ramp or the number of cycles is out of its range.

    >>> schedule = Cyclical(0.0, 1.0, period=8, ramp=0.5, cycles=2)
    >>> [float(schedule(torch.tensor(s))) for s in (0, 2, 4, 7, 8, 9, 16)]
    [0.0, 0.5, 1.0, 1.0, 0.0, 0.25, 1.0]
    """

    def __init__(self, start: float, end: float, period: int, ramp: float = 0.5, cycles: int = 4) -> None:
        if period < 1 or cycles < 1:
            raise UsageError(
                f"a schedule cannot have {cycles} cycles of {period} steps", expected="whole numbers above 0"
            )
        if not 0 < ramp <= 1:
            raise UsageError(f"the ramp cannot be {ramp} of a cycle", expected="a number above 0, at most 1")
        self.start, self.end, self.period, self.ramp = start, end, period, ramp
        self.settled = period * cycles

    def __call__(self, step: Tensor) -> Tensor:
        """Return the value at `step`."""
        done = torch.where(step < self.settled, step % self.period / (self.period * self.ramp), 1.0)
        return self.start + (self.end - self.start) * torch.clamp(done, max=1.0)
