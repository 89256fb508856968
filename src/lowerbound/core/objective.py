"""What an objective is: it reads a trace and returns one loss for each player, and honest terms."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .model import VAE
from .types import Batch, Trace

Step: TypeAlias = Float[Tensor, ""]
"""The number of optimiser steps taken, as a 0-d tensor, so that a compiled graph does not freeze it."""


class Schedule:
    """A number that depends on the step alone; `settled` is the step from which it no longer changes."""

    settled: int = 0

    def __call__(self, step: Tensor) -> Tensor:
        """Return the value at `step`, a 0-d tensor."""
        raise NotImplementedError


def at(schedule: float | Schedule, step: Tensor) -> float | Tensor:
    """Return the value of a schedule, or of a plain number, at `step`."""
    return schedule(step) if isinstance(schedule, Schedule) else schedule


@dataclass
class Outcome:
    """What an objective returns.

    Args:
        losses: one scalar for each player that moves in this step, minimised.
        terms: named values `[B]`, nats for each example unless their name says otherwise.
        trace: the pass they were read from.
    """

    losses: dict[str, Tensor]
    terms: dict[str, Tensor]
    trace: Trace


class Objective(nn.Module):
    """Base of the objectives; a subclass gives `forward(model, batch, step) -> Outcome`.

    Attributes:
        couples_batch: True if examples of a batch influence each other's loss.
        needs_density: True if it is a bound on log p(x), so that every part must have a density.
        monitor: the term that says which weights are best.
        maximize: True if a larger monitor is better.
        corrupts: True if it adds noise to what the encoder sees.
        pathwise: True if its gradient for q goes through the draw, so that q must be reparameterised.
        rescores: True if it scores the draws of q once more under frozen parameters.
        weighs: True if it averages importance weights, so that log q and log p must be densities of the same kind.
        factorises: True if it needs q(z|x) of single dimensions.
        parts_players: True if its players are the inference and the generative network, which must not share weights.
        needs_labels: True if it reads labels y.
    """

    couples_batch = False
    needs_density = True
    monitor = "elbo"
    maximize = True
    corrupts = False
    pathwise = True
    rescores = False
    weighs = False
    factorises = False
    parts_players = False
    needs_labels = False

    @property
    def settled(self) -> int:
        """The step from which no schedule changes any more; early stopping waits for it."""
        return max((s.settled for s in vars(self).values() if isinstance(s, Schedule)), default=0)

    def players(self, model: VAE) -> dict[str, list[nn.Parameter]]:
        """Return the parameters each player moves."""
        return {"model": list(model.parameters())}

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return losses (one for each player), terms `[B]` and the trace."""
        raise NotImplementedError

    __call__: Callable[..., Outcome]


def first_step() -> Tensor:
    """Return step 0 as the 0-d tensor that objectives read."""
    return torch.zeros(())
