"""What an objective is: it reads a trace and returns one loss for each player, and honest terms."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .model import VAE, Group, Sums
from .spec import DataSpec
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
        trace: the pass they were read from; None if it was compiled and kept nothing else.
        sums: what stateful modules are to learn from that pass, if it was compiled.
    """

    losses: dict[str, Tensor]
    terms: dict[str, Tensor]
    trace: Trace | None
    sums: Sums = field(default_factory=dict)


TRAITS = (
    "couples_batch", "needs_density", "monitor", "maximize", "pathwise", "rescores", "weighs", "factorises",
    "parts_players", "needs_labels", "learns_prior", "enumerates", "moves", "commits", "reads_mean", "reads_weights",
)  # fmt: skip
"""What an objective declares about itself; one that wraps another declares the same, but for `corrupts`."""


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
        learns_prior: True if its gradient reaches the parameters of the prior.
        enumerates: numbers of the groups over all of whose values it sums.
        moves: True if it moves z along the gradient of log p(x, z).
        commits: True if its loss includes what posteriors cost beside the rate, `Trace.penalty`.
        reads_mean: True if a gradient goes through the mean of p(x|z).
        reads_weights: True if its loss reads the weights themselves, and not only what a pass makes of them.
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
    learns_prior = True
    enumerates: tuple[int, ...] = ()
    moves = False
    commits = False
    reads_mean = False
    reads_weights = False

    @property
    def settled(self) -> int:
        """The step from which no schedule changes any more; early stopping waits for it."""
        return max((s.settled for s in vars(self).values() if isinstance(s, Schedule)), default=0)

    def remarks(self, spec: DataSpec) -> tuple[str, ...]:
        """Return what must be said of it before a training on such data starts."""
        return ()

    def players(self, model: VAE) -> dict[str, list[nn.Parameter]]:
        """Return the parameters each player moves."""
        return {"model": list(model.parameters())}

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return losses (one for each player), terms `[B]` and the trace."""
        raise NotImplementedError

    __call__: Callable[..., Outcome]


def inference_parameters(model: VAE) -> list[nn.Parameter]:
    """Return the parameters of q(z|x): the encoder's, and those of each group's `posterior_parts`.

    Args:
        model: the model; a parameter that p(x, z) also reads is counted as one of q.
    """
    parts = [model.encoder, *(part for group in model.groups for part in cast(Group, group).posterior_parts())]
    return list({id(p): p for part in parts for p in part.parameters()}.values())


def first_step() -> Tensor:
    """Return step 0 as the 0-d tensor that objectives read."""
    return torch.zeros(())
