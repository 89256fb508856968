"""Beta distributions on (0, 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions.gamma import _standard_gamma

from ..core.distribution import Sizes, wide
from ..core.kl import register_kl
from ..core.record import recorded
from .cellwise import (
    HALF_LOG_2PI,
    CellwiseDistribution,
    CellwiseFamily,
    check_positive,
    inverse_softplus,
    stirling_rest,
)


def log_beta(a: Tensor, b: Tensor) -> Tensor:
    """Return log B(a, b) = log Gamma(a) + log Gamma(b) - log Gamma(a + b), by Stirling's formula without large terms.

    >>> round(log_beta(torch.tensor(2.0), torch.tensor(3.0)).exp().item(), 6)  # 1/12
    0.083333
    """
    total = a + b
    rests = stirling_rest(a) + stirling_rest(b) - stirling_rest(total)
    shares = (a - 0.5) * torch.log1p(b / a) + (b - 0.5) * torch.log1p(a / b)
    return HALF_LOG_2PI + rests - shares - 0.5 * total.log()


class CellwiseBeta(CellwiseDistribution):
    """p(x) = x^(a - 1) (1 - x)^(b - 1) / B(a, b) on (0, 1) for each cell.

    Where a dtype's numbers in (0, 1) end, all mass beyond is drawn, and the density is the mean one of that cell.
    """

    has_rsample = True
    filler = 0.5

    def __init__(self, a: Tensor, b: Tensor, *, event_dims: int) -> None:
        super().__init__(a, b, event_dims=event_dims)
        self.a, self.b = a, b

    @property
    def mean(self) -> Tensor:
        """The mean a / (a + b)."""
        a, b = self.parts
        return a / (a + b)

    @property
    def variance(self) -> Tensor:
        """The variance a b / ((a + b)^2 (a + b + 1))."""
        a, b = self.parts
        return self.mean * (b / (a + b)) / (a + b + 1)

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw sigmoid(log g - log h), g ~ Gamma(a), h ~ Gamma(b), with their implicit gradients."""
        logit = self._log_gamma(self.parts[0], sample_shape) - self._log_gamma(self.parts[1], sample_shape)
        return logit.sigmoid().clamp(*_ends(logit.dtype))

    def _log_gamma(self, shape: Tensor, sample_shape: Sizes) -> Tensor:
        """Draw log g, g ~ Gamma(shape): log of Gamma(shape + 1), plus log u / shape, which does not underflow."""
        above = _standard_gamma((shape + 1).expand(self._extended_shape(torch.Size(sample_shape))).contiguous())
        return above.log() - self._exponential(sample_shape) / shape

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        low, high = _ends(value.dtype)
        log_p = (self.a - 1) * value.log() + (self.b - 1) * torch.log1p(-value) - log_beta(self.a, self.b)
        # int_0^h x^(a - 1) dx / h = h^(a - 1) / a
        return log_p - torch.where(value <= low, self.a.log(), torch.where(value >= high, self.b.log(), 0.0))


def _ends(dtype: torch.dtype) -> tuple[float, float]:
    """Return the smallest normal number above 0 and the largest below 1."""
    limits = torch.finfo(dtype)
    return limits.tiny, 1 - 0.5 * limits.eps


@register_kl(CellwiseBeta, CellwiseBeta)
def _kl_beta_beta(q: CellwiseBeta, p: CellwiseBeta) -> Tensor:
    # E_q[log x] = psi(a) - psi(a + b)
    down_a, down_b = q.a - p.a, q.b - p.b
    means = down_a * torch.digamma(q.a) + down_b * torch.digamma(q.b) - (down_a + down_b) * torch.digamma(q.a + q.b)
    return q._sum_events(log_beta(p.a, p.b) - log_beta(q.a, q.b) + means)


@recorded
class Beta(CellwiseFamily):
    r"""Values in (0, 1): log p(x) = (a - 1) log x + (b - 1) log(1 - x) - log B(a, b).

    a and b are floor + log(1 + exp(h)). Where one is below 1 the density is infinite at that end, so 0 and 1
    themselves cannot be scored (Johnson, Kotz & Balakrishnan 1995, "Continuous Univariate Distributions", chapter 25).

    Args:
        event_shape: shape of one event.
        floor: neither a nor b is below this.

    Raises:
        UsageError: if floor is not positive.

    >>> px = Beta((1,), floor=1.0)(torch.full((2, 1), -100.0))  # a = b = 1: uniform
    >>> px.mean.item(), abs(round(px.log_prob(torch.tensor([0.2])).item(), 4))
    (0.5, 0.0)
    """

    support = "inner"

    def __init__(self, event_shape: tuple[int, ...], floor: float = 1e-3) -> None:
        super().__init__(event_shape, blocks=2)
        self.floor = check_positive("floor", floor)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the raw a and b with the data's mean, kept 0.01 away from 0 and 1, and where one has it, variance."""
        mean = mean.clamp(0.01, 0.99)
        total = (mean * (1 - mean) / variance.clamp_min(1e-6) - 1).clamp(1.0, 1000.0)
        total = torch.maximum(total, 2 * self.floor / torch.minimum(mean, 1 - mean))  # both above the floor
        return self.join(*(inverse_softplus(share * total - self.floor) for share in (mean, 1 - mean)))

    def forward(self, params: Tensor) -> CellwiseBeta:
        """Return the distribution, params `[..., 2, *event]`."""
        a, b = (F.softplus(raw) + self.floor for raw in self.split(wide(params)))
        return CellwiseBeta(a, b, event_dims=len(self.event_shape))
