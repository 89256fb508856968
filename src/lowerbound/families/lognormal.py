"""Log-normal distributions of positive values."""

import torch
from torch import Tensor

from ..core.distribution import Sizes, wide
from ..core.kl import register_kl
from ..core.record import recorded
from .cellwise import HALF_LOG_2PI, CellwiseDistribution, CellwiseFamily, bent, check_positive

LOG_SIGMA_RANGE = (-60.0, 20.0)
_REACH = 80.0


class CellwiseLogNormal(CellwiseDistribution):
    """log x ~ N(loc, scale^2) for each cell."""

    has_rsample = True
    filler = 1.0

    def __init__(self, loc: Tensor, scale: Tensor, *, event_dims: int) -> None:
        super().__init__(loc, scale, event_dims=event_dims)
        self.loc, self.scale = loc, scale

    @property
    def mean(self) -> Tensor:
        """exp(loc + scale^2 / 2), infinite where it does not fit the dtype."""
        loc, scale = self.parts
        return torch.exp(loc + 0.5 * scale.square())

    @property
    def variance(self) -> Tensor:
        """(exp(scale^2) - 1) mean^2."""
        loc, square = self.parts[0], self.parts[1].square()
        return torch.exp(2 * (loc + square)) * -torch.expm1(-square)

    @property
    def centre(self) -> Tensor:
        """The mean, kept between exp(-80) and exp(80)."""
        loc, scale = self.parts
        return torch.exp((loc + 0.5 * scale.square()).clamp(-_REACH, _REACH))

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw exp(loc + scale * eps), eps ~ N(0, I), kept between exp(-80) and exp(80), which fit float32."""
        return torch.exp((self.loc + self.scale * self._normal(sample_shape)).clamp(-_REACH, _REACH))

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        log_value = value.log()
        return -0.5 * ((log_value - self.loc) / self.scale).square() - HALF_LOG_2PI - self.scale.log() - log_value

    def entropy(self) -> Tensor:
        """The entropy loc + 1/2 + log(2 pi scale^2) / 2 in nats, summed over cells."""
        loc, scale = self.parts
        return self._sum_events(loc + 0.5 + HALF_LOG_2PI + scale.log())


@register_kl(CellwiseLogNormal, CellwiseLogNormal)
def _kl_lognormal_lognormal(q: CellwiseLogNormal, p: CellwiseLogNormal) -> Tensor:
    # that of the two normals of log x: a change of variables changes no KL
    ratio = (q.scale / p.scale).square()
    return q._sum_events(0.5 * (ratio + ((q.loc - p.loc) / p.scale).square() - 1 - ratio.log()))


@recorded
class LogNormal(CellwiseFamily):
    r"""Positive values whose log is normal: log p(x) = log N(log x; mu, sigma^2) - log x.

    sigma = floor + exp(h), where h follows the network and bends towards 20 (Johnson, Kotz & Balakrishnan 1994,
    "Continuous Univariate Distributions", chapter 14).

    Args:
        event_shape: shape of one event.
        floor: no sigma is below this.

    Raises:
        UsageError: if floor is not positive.

    >>> px = LogNormal((1,))(torch.zeros(2, 1))  # mu 0, sigma 1.001
    >>> round(px.mean.item(), 4), round(px.log_prob(torch.ones(1)).item(), 4)
    (1.6504, -0.9199)
    """

    support = "positive"

    def __init__(self, event_shape: tuple[int, ...], floor: float = 1e-3) -> None:
        super().__init__(event_shape, blocks=2)
        self.floor = check_positive("floor", floor)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return mu and the raw sigma with the data's mean and variance; a mean of 0 is taken for 0.0001."""
        mean = mean.clamp_min(1e-4)
        square = torch.log1p(variance / mean.square()).clamp(4 * self.floor**2, 9.0)
        return self.join(mean.log() - 0.5 * square, (square.sqrt() - self.floor).log())

    def forward(self, params: Tensor) -> CellwiseLogNormal:
        """Return the distribution, params `[..., 2, *event]`."""
        loc, raw = self.split(wide(params))
        scale = bent(raw, *LOG_SIGMA_RANGE).exp() + self.floor
        return CellwiseLogNormal(loc, scale, event_dims=len(self.event_shape))
