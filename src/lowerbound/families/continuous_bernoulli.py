"""The continuous Bernoulli on [0, 1], from logits; torch's own loses digits near logit 0 and overflows far from it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.distribution import Sizes, wide
from ..core.record import recorded
from .cellwise import CellwiseDistribution, CellwiseFamily

# B_2n / (2n (2n)!), n = 1..10: log(sinh(l/2) / (l/2)) = sum_n of these times l^2n, for |l| < 2 pi
_SERIES = (
    1 / 24, -1 / 2880, 1 / 181440, -1 / 9676800, 1 / 479001600, -691 / 15692092416000, 1 / 1046139494400,
    -3617 / 170729965486080000, 43867 / 91963695909076992000, -174611 / 16057153253965824000000,
)  # fmt: skip
_SERIES_BELOW = 1.0
_DRAW_SERIES_BELOW = 0.02
_START = 1e-2


def _polynomial(coefficients: Sequence[float | Tensor], x: Tensor) -> Tensor:
    """Return sum_n coefficients[n] x^n."""
    total = torch.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


class LogitContinuousBernoulli(CellwiseDistribution):
    """p(x) = exp(l x) l / (exp(l) - 1) on [0, 1] for each cell, l its logit."""

    has_rsample = True

    def __init__(self, logits: Tensor, *, event_dims: int) -> None:
        super().__init__(logits, event_dims=event_dims)
        self.logits = logits

    def _parted(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return where the series holds, l there (else 0), and |l| elsewhere (else 1)."""
        near = self.logits.abs() < _SERIES_BELOW
        return near, torch.where(near, self.logits, 0.0), torch.where(near, 1.0, self.logits.abs())

    @property
    def log_normalizer(self) -> Tensor:
        """The log of C in p(x) = C s(l)^x (1 - s(l))^(1 - x), for each cell (Loaiza-Ganem & Cunningham 2019)."""
        near, h, a = self._parted()
        even = torch.where(near, h.square() * _polynomial(_SERIES, h.square()), _far(a) + 0.5 * a)
        size = self.logits.abs()  # log C is even in l: softplus(l) - l/2 - even
        return torch.log1p(torch.exp(-size)) + 0.5 * size - even

    @property
    def mean(self) -> Tensor:
        """The mean 1 / (1 - exp(-l)) - 1 / l."""
        near, h, a = self._parted()
        slopes = [2 * n * c for n, c in enumerate(_SERIES, 1)]
        low = 1 / a - torch.exp(-a) / -torch.expm1(-a)  # of logit -a
        far = torch.where(self.logits > 0, 1 - low, low)
        return torch.where(near, 0.5 + h * _polynomial(slopes, h.square()), far)

    @property
    def variance(self) -> Tensor:
        """The variance 1 / l^2 - exp(l) / (exp(l) - 1)^2."""
        near, h, a = self._parted()
        curves = [2 * n * (2 * n - 1) * c for n, c in enumerate(_SERIES, 1)]
        far = a.square().reciprocal() - torch.exp(-a) / torch.expm1(-a).square()
        return torch.where(near, _polynomial(curves, h.square()), far)

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw by the inverse of the distribution function: log(1 + u (exp(l) - 1)) / l, u uniform."""
        u = self._uniform(sample_shape)
        up = self.logits > 0
        near = self.logits.abs() < _DRAW_SERIES_BELOW
        a = torch.where(near, 1.0, self.logits.abs())
        side = torch.where(up, 1 - u, u).clamp_max(1 - torch.finfo(u.dtype).eps)
        low = -torch.log1p(side * torch.expm1(-a)) / a  # of logit -a
        w = u * (1 - u)  # the Taylor series in l around 0
        odd, h = 1 - 2 * u, torch.where(near, self.logits, 0.0)
        terms = (w / 2, w * odd / 6, w * (1 - 6 * w) / 24, w * odd * (1 - 12 * w) / 120)
        series = h * _polynomial([*terms, w * (1 - 30 * w + 120 * w.square()) / 720], h)
        return torch.where(near, u + series, torch.where(up, 1 - low, low)).clamp(0, 1)

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        near, h, a = self._parted()
        close = h * (value - 0.5) - h.square() * _polynomial(_SERIES, h.square())
        far = -a * torch.where(self.logits > 0, 1 - value, value) - _far(a)
        return torch.where(near, close, far)


def _far(a: Tensor) -> Tensor:
    """Return log((1 - exp(-a)) / a)."""
    return torch.log(-torch.expm1(-a)) - a.log()


@recorded
class ContinuousBernoulli(CellwiseFamily):
    r"""Values in [0, 1] with p(x) = C(lambda) lambda^x (1 - lambda)^(1 - x), lambda = sigmoid(logit).

    Loaiza-Ganem & Cunningham 2019, arXiv 1907.06845: the Bernoulli formula for grey values, with the constant C that
    makes it a density. In the logit l: log p(x) = l x - log((exp(l) - 1) / l). The mean is not lambda.

    Args:
        event_shape: shape of one example.

    >>> px = ContinuousBernoulli((1,))(torch.zeros(1))
    >>> px.log_prob(torch.tensor([0.3])).item(), px.mean.item()  # uniform
    (0.0, 0.5)
    >>> round(ContinuousBernoulli((1,))(torch.tensor([2.0])).mean.item(), 4)
    0.6565
    """

    support = "unit"

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__(event_shape, blocks=1)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the logit with the data's mean, kept away from 0 and 1 by 0.01 (logits within +-100)."""
        target = mean.double().clamp(_START, 1 - _START)
        low, high = torch.full_like(target, -101.0), torch.full_like(target, 101.0)
        for _ in range(60):
            middle = 0.5 * (low + high)
            above = LogitContinuousBernoulli(middle, event_dims=0).mean > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (0.5 * (low + high)).to(mean.dtype)

    def forward(self, params: Tensor) -> LogitContinuousBernoulli:
        """Return the distribution with these logits, `[..., *event]`."""
        return LogitContinuousBernoulli(wide(params), event_dims=len(self.event_shape))
