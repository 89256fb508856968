"""Student's t: a Normal whose tails let outliers be."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.distribution import Sizes, wide
from ..core.errors import UsageError
from ..core.model import Scale
from ..core.record import recorded
from .cellwise import (
    HALF_LOG_2PI,
    CellwiseDistribution,
    CellwiseFamily,
    Spread,
    bent,
    check_positive,
    check_spread,
    inverse_softplus,
    stirling_rest,
)
from .laplace import LOG_SCALE_RANGE

_START_DF = 8.0


class CellwiseStudentT(CellwiseDistribution):
    """Student's t with `df` degrees of freedom, moved to loc and stretched by scale, for each cell; df > 1."""

    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, df: Tensor, *, event_dims: int) -> None:
        super().__init__(loc, scale, df, event_dims=event_dims)
        self.loc, self.scale, self.df = loc, scale, df

    @property
    def mean(self) -> Tensor:
        """The mean, which is also the mode."""
        return self.parts[0]

    @property
    def variance(self) -> Tensor:
        """The variance scale^2 df / (df - 2), infinite for df <= 2."""
        _, scale, df = self.parts
        finite = df > 2
        ratio = torch.where(finite, df, 3.0) / (torch.where(finite, df, 3.0) - 2)
        return torch.where(finite, scale.square() * ratio, math.inf)

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw loc + scale * sqrt(df (u^(-2 / df) - 1)) cos(2 pi v) (Bailey 1994): smooth in df, with no rejection."""
        angle = torch.cos(2 * math.pi * self._uniform(sample_shape))
        radius = (self.df * torch.expm1(2 * self._exponential(sample_shape) / self.df)).sqrt()
        return self.loc + self.scale * (radius * angle)

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        # log Gamma((n + 1) / 2) - log Gamma(n / 2) - log(pi n) / 2, with Stirling's large terms taken out by hand
        half = 0.5 * self.df
        shift = half * torch.log1p(0.5 / half) - 0.5 + stirling_rest(half + 0.5) - stirling_rest(half)
        tails = -(half + 0.5) * torch.log1p(((value - self.loc) / self.scale).square() / self.df)
        return tails + shift - HALF_LOG_2PI - self.scale.log()


@recorded
class StudentT(CellwiseFamily):
    r"""Student's t with location, scale and degrees of freedom from a network.

    p(x) ~ (1 + ((x - mu) / s)^2 / n)^(-(n + 1) / 2), with s = floor + exp(h) and n = least_df + log(1 + exp(g)): where
    n is small an outlier costs the log of its distance and not the square. As a likelihood: Takahashi et al. 2018,
    "Student-t Variational Autoencoder for Robust Density Estimation", IJCAI.

    Args:
        event_shape: shape of one event.
        spread: where s and n come from: "network", or "shared": one learned number each for all cells.
        least_df: n is above this, which must be 1 or more; a mean exists above 1 and a variance above 2.
        floor: no s is below this.

    Raises:
        UsageError: if an argument is out of its range.

    >>> px = StudentT((1,))(torch.zeros(3, 1))  # mu 0, s 1, n 2 + log 2
    >>> round(px.log_prob(torch.zeros(1)).exp().item(), 4), round(px.variance.item(), 4)
    (0.3639, 3.8932)
    """

    support = "real"

    def __init__(
        self, event_shape: tuple[int, ...], spread: Spread = "network", least_df: float = 2.0, floor: float = 1e-3
    ) -> None:
        super().__init__(event_shape, blocks=3 if check_spread("spread", spread) == "network" else 1)
        if not 1 <= least_df < math.inf:
            raise UsageError(f"the least df cannot be {least_df}", expected="a finite number of 1 or more")
        self.spread, self.least_df, self.floor = spread, least_df, check_positive("floor", floor)
        if spread == "shared":
            self.log_scale = Scale(torch.zeros(()))
            self.raw_df = Scale(torch.zeros(()))

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the mean, the scale at which the variance is the data's, and 8 degrees of freedom."""
        shared = self.spread == "shared"
        df = max(_START_DF, self.least_df + 1)
        scale = ((variance.mean() if shared else variance) * (df - 2) / df).sqrt()
        log_scale = (scale - self.floor).clamp_min(self.floor).log()
        raw_df = inverse_softplus(torch.full_like(log_scale, df - self.least_df))
        if not shared:
            return self.join(mean, log_scale, raw_df)
        self.log_scale.copy_(log_scale)
        self.raw_df.copy_(raw_df)
        return mean

    def forward(self, params: Tensor) -> CellwiseStudentT:
        """Return the distribution; params `[..., 3, *event]`, or `[..., *event]` if the spread is shared."""
        loc, *rest = self.split(wide(params))
        log_scale, raw_df = rest if rest else (wide(self.log_scale), wide(self.raw_df))
        scale = bent(log_scale, *LOG_SCALE_RANGE).exp() + self.floor
        df = F.softplus(raw_df) + self.least_df
        return CellwiseStudentT(loc, scale, df, event_dims=len(self.event_shape))
