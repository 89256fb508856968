"""The Normal likelihood whose variance is computed from the training residuals, not learned by gradient."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..core.distribution import wide
from ..core.errors import UsageError
from ..core.model import Family, Stateful
from ..core.record import recorded
from ..core.types import Batch, Trace
from .normal import DiagonalNormal


@recorded
class OptimalNormal(Family, Stateful):
    r"""N(f(z), sigma^2 I) with sigma^2 the running mean of the training steps' squared errors |x - f(z)|^2 / D.

    For fixed f the sigma^2 that maximises the likelihood is the mean squared error (Rybkin et al. 2021,
    arXiv 2006.13202, sec. 3). There it is that of the batch that is scored; a density must not depend on other rows,
    so here it is v <- decay v + (1 - decay) MSE, moved once after each step, and x is scored under the v of before.

    Args:
        event_shape: shape of one example.
        decay: share of the old value that a step keeps.
        floor: sigma is never below this.

    Raises:
        UsageError: if decay is outside [0, 1) or floor is not positive.

    >>> family = OptimalNormal((3,))
    >>> family(torch.zeros(4, 3)).variance.unique().tolist()  # until the data say otherwise
    [1.0]
    """

    support = "real"
    additive = True
    mean_square: Tensor

    def __init__(self, event_shape: tuple[int, ...], decay: float = 0.95, floor: float = 1e-3) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise UsageError(f"the decay cannot be {decay}", expected="0 or more and below 1")
        if not 0 < floor < float("inf"):
            raise UsageError(f"the floor cannot be {floor}", expected="a finite number above 0")
        self.event_shape = self.params = tuple(event_shape)
        self.decay, self.floor = decay, floor
        self.register_buffer("mean_square", torch.ones(()))

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the mean, and start at the data's variance averaged over dimensions."""
        self.mean_square.copy_(variance.mean())
        return mean

    def statistics(self, trace: Trace, batch: Batch) -> dict[str, Tensor]:
        """Return the squared errors of all observed values, and their number, by weight."""
        square = (batch.x - trace.px.mean).square()  # [K, B, *event]
        weight = torch.ones_like(batch.x) if batch.mask is None else batch.mask.to(square)
        if batch.weight is not None:
            weight = weight * batch.weight.reshape(-1, *([1] * len(self.event_shape)))
        share = trace.log_share.softmax(0)[(..., *[None] * len(self.event_shape))]
        return {"square": (share * torch.where(weight > 0, square, 0.0) * weight).sum(), "weight": weight.sum()}

    def after_step(self, sums: Mapping[str, Tensor]) -> None:
        """Move sigma^2 towards the mean squared error of the step."""
        error = sums["square"] / sums["weight"]
        known = torch.where(sums["weight"] > 0, error, self.mean_square)  # a batch of no observed cells says nothing
        self.mean_square.lerp_(known.to(self.mean_square), 1 - self.decay)

    def forward(self, params: Tensor) -> DiagonalNormal:
        """Return N(params, sigma^2)."""
        scale = wide(self.mean_square).clamp_min(self.floor**2).sqrt()
        return DiagonalNormal(wide(params), scale, len(self.event_shape))
