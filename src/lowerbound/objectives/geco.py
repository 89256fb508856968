"""GECO: the smallest rate at which the distortion keeps below a tolerance."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import UsageError
from ..core.model import VAE, Stateful
from ..core.objective import Objective, Outcome
from ..core.record import recorded
from ..core.types import Batch, Trace

LIMIT = math.log(1e4)
PENALTY = 10.0


@recorded
class GECO(Stateful, Objective):
    r"""min KL(q||p) subject to E_q[-log p(x|z)] <= tolerance D, by a Lagrange multiplier (Rezende & Viola 2018).

    loss = rate + lambda (distortion - tolerance D), D the number of observed values of an example. After each step,
    with the constraint c = distortion / D - tolerance and its moving average a <- decay a + (1 - decay) c, which starts
    at the first c: log lambda <- log lambda + speed a, within +-log 10^4. arXiv 1810.00597, algorithm 1. The constraint
    is on the distortion in nats for each value, where the paper's is most often on the squared error: so every
    likelihood, and every parameter of one, is covered. How low a distortion can be differs from data to data, so
    without a tolerance it is `gain` below the distortion for each value of the first step's batch, where training by
    a recipe starts the decoder at the data's mean. At lambda = 1 the gradient is the ELBO's. The best weights are
    those of the lowest rate + 10 max(0, mean distortion - tolerance D), `penalized`: an exact penalty, whose minimum is
    the constrained one, where the multiplier is at most 10 in the end.

    Args:
        tolerance: the distortion that is allowed, in nats for each value of an example, or None.
        speed: how fast log lambda follows the violated constraint.
        decay: of the constraint's moving average.
        gain: how far below the first distortion the tolerance lies where none is given.

    Raises:
        UsageError: if a number is out of its range.

    >>> GECO(0.2).multiplier.item()
    1.0
    """

    monitor = "penalized"
    maximize = False
    log_multiplier: Tensor
    average: Tensor
    first: Tensor
    steps: Tensor

    def __init__(
        self, tolerance: float | None = None, speed: float = 0.3, decay: float = 0.9, gain: float = 0.12
    ) -> None:
        super().__init__()
        finite = math.isfinite(gain) and (tolerance is None or math.isfinite(tolerance))
        if not (finite and 0 <= speed < math.inf and 0 <= decay < 1):
            raise UsageError(
                f"GECO cannot use tolerance={tolerance}, speed={speed}, decay={decay}, gain={gain}",
                expected="a finite tolerance and gain, a speed of 0 or more, and 0 <= decay < 1",
            )
        self.tolerance, self.speed, self.decay, self.gain = tolerance, speed, decay, gain
        self.register_buffer("log_multiplier", torch.zeros(()))
        self.register_buffer("average", torch.zeros(()))
        self.register_buffer("first", torch.zeros(()))
        self.register_buffer("steps", torch.zeros(()))

    @property
    def multiplier(self) -> Tensor:
        """The Lagrange multiplier lambda."""
        return self.log_multiplier.exp()

    def forward(self, model: VAE, batch: Batch, step: Tensor) -> Outcome:
        """Return the rate plus the multiplier times the violated constraint; the terms say both."""
        trace = model(batch)
        terms = trace.terms()
        above = terms["distortion"] - self._allowed(_each(trace, batch)) * _observed(batch)
        loss = batch.mean(terms["rate"] + self.multiplier * above)
        terms["above_tolerance"], terms["multiplier"] = above, self.multiplier.expand_as(above)
        terms["penalized"] = terms["rate"] + PENALTY * batch.mean(above).clamp_min(0)
        return Outcome({"model": loss}, terms, trace)

    def statistics(self, trace: Trace, batch: Batch) -> dict[str, Tensor]:
        """Return the distortion and the number of observed values of all rows."""
        rows = len(batch.x)
        distortion = batch.mean(-trace.mean(trace.log_px)).detach()
        return {"distortion": rows * distortion, "observed": rows * batch.mean(_observed(batch))}

    def after_step(self, sums: Mapping[str, Tensor]) -> None:
        """Move the multiplier by the moving average of the constraint."""
        distortion = sums["distortion"] / sums["observed"]
        constraint = distortion - self._allowed(distortion)
        self.first.copy_(torch.where(self.steps > 0, self.first, distortion))
        moved = torch.where(self.steps > 0, self.average.lerp(constraint.to(self.average), 1 - self.decay), constraint)
        self.average.copy_(moved)
        self.log_multiplier.add_(self.speed * self.average).clamp_(-LIMIT, LIMIT)
        self.steps.add_(1)

    def _allowed(self, distortion: Tensor) -> Tensor | float:
        """Return the tolerance; `distortion` is that of this pass, which is the first one at step 0."""
        if self.tolerance is not None:
            return self.tolerance
        return torch.where(self.steps > 0, self.first, distortion) - self.gain


def _each(trace: Trace, batch: Batch) -> Tensor:
    """Return the batch's distortion for each observed value."""
    return batch.mean(-trace.mean(trace.log_px)).detach() / batch.mean(_observed(batch))


def _observed(batch: Batch) -> Float[Tensor, " B"]:
    """Return the number of observed values of each example."""
    return (torch.ones_like(batch.x) if batch.mask is None else batch.mask).flatten(1).sum(1)
