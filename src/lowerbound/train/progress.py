"""How far a training has come: counts, the sums of its epoch, the best weights; all that a checkpoint knows of it."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .processes import Processes
from .saving import Passed


class Totals:
    """Sums of terms over rows, in float64, and the weight of these rows.

    Args:
        sums: so far, by name.
        weight: so far.
    """

    def __init__(self, sums: dict[str, Tensor] | None = None, weight: Tensor | float | int = 0) -> None:
        self.sums, self.weight = {} if sums is None else sums, weight

    def add(self, terms: Mapping[str, Tensor], weight: Tensor | None) -> None:
        """Add terms `[B]`, each row by its weight; None weighs all rows by 1."""
        for name, term in terms.items():
            values = term.detach().double()
            added = (values if weight is None else weight * values).sum()
            self.sums[name] = self.sums[name] + added if name in self.sums else added
        rows = next(iter(terms.values())).shape[0] if weight is None else weight.double().sum()
        self.weight = self.weight + rows

    def of_all(self, processes: Processes) -> "Totals":
        """Return the totals of all processes, which all must call this."""
        return Totals(*processes.add(self.sums, self.weight))

    def means(self) -> dict[str, float]:
        """Return the mean of each term."""
        return {name: float(value) / float(self.weight) for name, value in self.sums.items()}


@dataclass
class Best:
    """The best weights so far, by the monitor.

    Args:
        value: of the monitor; not a number before an epoch was judged.
        epoch: after which it was.
        weights: by name.
    """

    value: float = math.nan
    epoch: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def improves(self, value: float, *, maximize: bool) -> bool:
        """Tell whether `value` is better."""
        if math.isnan(self.value):
            return True
        return value > self.value if maximize else value < self.value


@dataclass
class Progress:
    """Where a training is.

    Args:
        steps_per_epoch: optimiser steps in one epoch.
        step: steps done.
        epoch: the epoch that is being trained, from 1 on, or the last one that was.
        seconds: of training.
        skip: steps of the next epoch that were taken before a restart.
        totals: of the terms of the epoch so far.
        best: the best weights so far.
        history: the epoch events of this process.
        again: True for a run that goes on.
    """

    steps_per_epoch: int
    step: int = 0
    epoch: int = 0
    seconds: float = 0.0
    skip: int = 0
    totals: Totals = field(default_factory=Totals)
    best: Best = field(default_factory=Best)
    history: list[dict[str, Any]] = field(default_factory=list)
    again: bool = False

    @property
    def inside(self) -> bool:
        """True unless an epoch has just ended, or none has begun."""
        return self.step % self.steps_per_epoch != 0

    def passed(self) -> Passed:
        """Return where it is now, with the time."""
        return Passed(self.step, self.step // self.steps_per_epoch, time.monotonic())

    def begin_epoch(self) -> int:
        """Return how many steps of the epoch were taken before a restart; without any, its sums begin at 0."""
        skip, self.skip = self.skip, 0
        if not skip:
            self.totals = Totals()
        return skip

    def to_json(self, totals: Totals, seed: int) -> dict[str, Any]:
        """Return the numbers that a checkpoint keeps.

        Args:
            totals: of all processes.
            seed: of the training.
        """
        best = None if math.isnan(self.best.value) else self.best.value
        return {
            "epoch": self.epoch, "step": self.step, "seconds": self.seconds, "seed": seed,
            "best": best, "best_epoch": self.best.epoch,
            "sums": {name: float(value) for name, value in totals.sums.items()}, "total": float(totals.weight),
        }  # fmt: skip

    def go_back(self, done: Mapping[str, Any], best: dict[str, Tensor], device: torch.device, *, first: bool) -> bool:
        """Go back to where a checkpoint was written; returns True if that is inside an epoch, which is taken up again.

        Args:
            done: the numbers that it keeps.
            best: the best weights, on `device`.
            device: of the sums.
            first: True in the first process, whose sums are those of all from here on.
        """
        self.again = True
        self.epoch, self.step, self.seconds = int(done["epoch"]), int(done["step"]), float(done["seconds"])
        if done["best"] is not None:
            self.best = Best(float(done["best"]), int(done["best_epoch"]), best)
        skip = self.step - max(self.epoch - 1, 0) * self.steps_per_epoch
        inside = skip < self.steps_per_epoch and self.epoch > 0
        self.skip = skip if inside else 0
        if inside:
            self.epoch -= 1
            share = float(first)
            sums = {name: _wide(share * value, device) for name, value in done["sums"].items()}
            self.totals = Totals(sums, _wide(share * done["total"], device))
        return inside


def _wide(value: float, device: torch.device) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, device=device)
