"""Laplace distributions: absolute error as a density, and a sparse posterior."""

import math

import torch
from torch import Tensor

from ..core.distribution import Sizes, wide
from ..core.kl import register_kl
from ..core.model import Scale
from ..core.record import recorded
from .cellwise import HALF_LOG_2PI, CellwiseDistribution, CellwiseFamily, Spread, bent, check_positive, check_spread
from .normal import DiagonalNormal

LOG_SCALE_RANGE = (-60.0, 20.0)


class CellwiseLaplace(CellwiseDistribution):
    """p(x) = exp(-|x - loc| / scale) / (2 scale) for each cell."""

    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, *, event_dims: int) -> None:
        super().__init__(loc, scale, event_dims=event_dims)
        self.loc, self.scale = loc, scale

    @property
    def mean(self) -> Tensor:
        """The mean, which is also the median."""
        return self.parts[0]

    @property
    def variance(self) -> Tensor:
        """The variance 2 scale^2."""
        return 2 * self.parts[1].square()

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw loc + scale * s * e: s a fair sign, e exponential."""
        sign = 1.0 - 2.0 * (self._uniform(sample_shape) < 0.5).to(self.loc.dtype)
        return self.loc + self.scale * (sign * self._exponential(sample_shape))

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        return -((value - self.loc) / self.scale).abs() - self.scale.log() - math.log(2)

    def entropy(self) -> Tensor:
        """The entropy 1 + log(2 scale) in nats, summed over cells."""
        return self._sum_events(1 + math.log(2) + self.parts[1].log())


@register_kl(CellwiseLaplace, CellwiseLaplace)
def _kl_laplace_laplace(q: CellwiseLaplace, p: CellwiseLaplace) -> Tensor:
    # E_q|z - m_p| = |m_q - m_p| + b_q exp(-|m_q - m_p| / b_q)
    shift = (q.loc - p.loc).abs()
    near = q.scale * torch.exp(-shift / q.scale)
    return q._sum_events((near + shift) / p.scale - 1 - (q.scale / p.scale).log())


@register_kl(CellwiseLaplace, DiagonalNormal)
def _kl_laplace_normal(q: CellwiseLaplace, p: DiagonalNormal) -> Tensor:
    # E_q (z - m_p)^2 = (m_q - m_p)^2 + 2 b^2
    spread = ((q.loc - p.loc) / p.scale).square() + 2 * (q.scale / p.scale).square()
    return q._sum_events(0.5 * spread + HALF_LOG_2PI - 1 - math.log(2) - (q.scale / p.scale).log())


@register_kl(DiagonalNormal, CellwiseLaplace)
def _kl_normal_laplace(q: DiagonalNormal, p: CellwiseLaplace) -> Tensor:
    # E_q|z - m_p| is the mean of a folded normal
    shift = (q.loc - p.loc) / q.scale
    folded = math.sqrt(2 / math.pi) * torch.exp(-0.5 * shift.square()) + shift * torch.erf(shift / math.sqrt(2))
    return q._sum_events(q.scale / p.scale * folded - (q.scale / p.scale).log() + math.log(2) - HALF_LOG_2PI - 0.5)


@recorded
class Laplace(CellwiseFamily):
    r"""Laplace(mu, b): log p(x) = -|x - mu| / b - log(2 b), so that its error is the absolute one.

    b = floor + exp(h), where h comes from the network, or is one learned number for all cells, and bends towards 20.

    Args:
        event_shape: shape of one event.
        scale: where b comes from: "network", or "shared", learned and the same everywhere.
        floor: no b is below this.

    Raises:
        UsageError: if scale is no such word, or floor not positive.

    >>> px = Laplace((1,))(torch.tensor([[0.5], [0.0]]))  # mu, log b
    >>> px.mean.item(), round(px.log_prob(torch.tensor([0.5])).exp().item(), 4)
    (0.5, 0.5)
    """

    support = "real"

    def __init__(self, event_shape: tuple[int, ...], scale: Spread = "network", floor: float = 1e-6) -> None:
        super().__init__(event_shape, blocks=2 if check_spread("scale", scale) == "network" else 1)
        self.scale, self.floor = scale, check_positive("floor", floor)
        if scale == "shared":
            self.log_scale = Scale(torch.zeros(()))

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the mean, and the log b at which the variance is the data's."""
        shared = self.scale == "shared"
        scale = ((variance.mean() if shared else variance) / 2).sqrt()
        log_scale = (scale - self.floor).clamp_min(self.floor).log()
        if not shared:
            return self.join(mean, log_scale)
        self.log_scale.copy_(log_scale)
        return mean

    def forward(self, params: Tensor) -> CellwiseLaplace:
        """Return the distribution; params `[..., 2, *event]`, or `[..., *event]` if b is shared."""
        loc, *rest = self.split(wide(params))
        raw = rest[0] if rest else wide(self.log_scale)
        return CellwiseLaplace(loc, bent(raw, *LOG_SCALE_RANGE).exp() + self.floor, event_dims=len(self.event_shape))
