"""Counts 0, 1, 2, ...: Poisson and negative binomial, and either with more zeros than it has by itself."""

from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch.distributions.gamma import _standard_gamma

from ..core.distribution import Sizes, wide
from ..core.model import Scale
from ..core.record import recorded
from .cellwise import CellwiseDistribution, CellwiseFamily, Spread, bent, check_spread, deviance, log_factorial_rest

LOG_MEAN_RANGE = (-60.0, 20.0)
LOG_DISPERSION_RANGE = (-20.0, 20.0)
_LEAST_MEAN = 1e-4  # where the start puts a column of zeros
_LEAST_ODDS, _MOST_ODDS = 0.05, 20.0  # of an added zero, at the start
_SPARSE = 1e-3
_EXACT_BELOW = 80.0


class _Counts(CellwiseDistribution):
    @property
    def centre(self) -> Tensor:
        """The count nearest to the mean."""
        return self.mean.round()


class CellwisePoisson(_Counts):
    """p(x) = mean^x exp(-mean) / x! for each cell."""

    def __init__(self, log_mean: Tensor, *, event_dims: int) -> None:
        super().__init__(log_mean, event_dims=event_dims)
        self.log_mean, self._mean = log_mean, log_mean.exp()

    @property
    def mean(self) -> Tensor:
        """The mean."""
        return self._mean

    @property
    def variance(self) -> Tensor:
        """The mean."""
        return self._mean

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw counts."""
        with torch.no_grad():
            return torch.poisson(self._mean.expand(self._extended_shape(Size(sample_shape))))

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        return -deviance(value, self._mean, self.log_mean) - log_factorial_rest(value)


class CellwiseNegativeBinomial(_Counts):
    """A Poisson whose mean is Gamma distributed, with mean m and variance m^2 / r, for each cell."""

    def __init__(self, log_mean: Tensor, log_r: Tensor, *, event_dims: int) -> None:
        super().__init__(log_mean, log_r, event_dims=event_dims)
        self.log_mean, self._mean = self.parts[0], self.parts[0].exp()
        self.log_r, self.r = self.parts[1], self.parts[1].exp()

    @property
    def mean(self) -> Tensor:
        """The mean m."""
        return self._mean

    @property
    def variance(self) -> Tensor:
        """The variance m + m^2 / r."""
        return self._mean * (1 + self._mean / self.r)

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw counts: of a Poisson whose mean was drawn from a Gamma."""
        with torch.no_grad():
            shape = self._extended_shape(Size(sample_shape))
            share = _standard_gamma(self.r.expand(shape).contiguous()) / self.r
            return torch.poisson(share * self._mean)

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        # log Gamma(x + r) - log Gamma(r) - log x! + r log(r / (r + m)) + x log(m / (r + m)), after Loader 2000
        mean, r = self._mean, self.r
        # for small r two large deviances would cancel, for large r the two logs below
        sparse, least = r < 1 + _SPARSE * mean, value.clamp_min(1)
        little, ratio = torch.where(sparse, r, 1.0), torch.where(sparse, self.log_mean - self.log_r, 0.0)
        apart = value * (_softplus(-ratio) - torch.log1p(little / least))
        apart = apart + little * (_softplus(ratio) - torch.log1p(value / little))
        total = (mean + r).log()
        near = deviance(value, mean, self.log_mean) - deviance(value + r, mean + r, total)
        rests = log_factorial_rest(value + r) - log_factorial_rest(r) - log_factorial_rest(value)
        return rests - torch.log1p(value / r) - torch.where(sparse, apart, near)


Counts: TypeAlias = CellwisePoisson | CellwiseNegativeBinomial


class ZeroInflated(_Counts):
    """0 with probability sigmoid(gate), else a draw of `counts`, for each cell."""

    def __init__(self, counts: Counts, gate: Tensor, *, event_dims: int) -> None:
        super().__init__(gate, *counts.parts, event_dims=event_dims)
        self.counts, self.gate = counts, gate

    def elements(self) -> "ZeroInflated":
        """Return one distribution for each cell."""
        return ZeroInflated(type(self.counts)(*self.counts.parts, event_dims=0), self.gate, event_dims=0)

    @property
    def mean(self) -> Tensor:
        """The mean (1 - pi) m."""
        return (-self.parts[0]).sigmoid() * self.counts.mean

    @property
    def variance(self) -> Tensor:
        """The variance (1 - pi) (v + pi m^2)."""
        gate = self.parts[0]
        return (-gate).sigmoid() * (self.counts.variance + gate.sigmoid() * self.counts.mean.square())

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw counts."""
        with torch.no_grad():
            draws = self.counts.sample(sample_shape)
            return torch.where(torch.rand_like(draws) < self.gate.sigmoid(), 0.0, draws)

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        counted = F.logsigmoid(-self.gate) + self.counts._log_prob_elements(value)
        return torch.where(value == 0, torch.logaddexp(F.logsigmoid(self.gate), counted), counted)


def _log_mean_of(raw: Tensor) -> Tensor:
    return bent(raw, *LOG_MEAN_RANGE)


def _softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)), in full as far as exp fits float32."""
    return F.softplus(x, threshold=_EXACT_BELOW)


class _CountFamily(CellwiseFamily):
    support = "count"
    discrete = True
    reparameterised = False


class _OverdispersedFamily(_CountFamily):
    """Base of the families with a dispersion r: from the network, or one learned number for each cell."""

    def __init__(self, event_shape: tuple[int, ...], dispersion: Spread, blocks: int) -> None:
        super().__init__(event_shape, blocks=blocks + (check_spread("dispersion", dispersion) == "network"))
        self.dispersion = dispersion
        if dispersion == "shared":
            self.log_dispersion = Scale(torch.zeros(self.event_shape))

    def _joined(self, blocks: tuple[Tensor, ...], log_r: Tensor) -> Tensor:
        if self.dispersion == "network":
            return self.join(*blocks, log_r)
        self.log_dispersion.copy_(log_r)
        return self.join(*blocks)

    def _counts(self, raw_mean: Tensor, rest: tuple[Tensor, ...]) -> CellwiseNegativeBinomial:
        raw = rest[-1] if self.dispersion == "network" else wide(self.log_dispersion)
        log_r = bent(raw, *LOG_DISPERSION_RANGE)
        return CellwiseNegativeBinomial(_log_mean_of(raw_mean), log_r, event_dims=len(self.event_shape))


def _log_r_at(mean: Tensor, variance: Tensor) -> Tensor:
    """Return log r with variance = mean + mean^2 / r, r within 0.01 and 10,000; counts less spread get the latter."""
    return (mean.square() / (variance - mean).clamp_min(1e-12)).clamp(1e-2, 1e4).log()


def _gate_at(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the odds of an added zero that explain the spread beyond a Poisson's, and the mean of the others."""
    odds = ((variance - mean) / mean.square()).clamp(_LEAST_ODDS, _MOST_ODDS)
    return odds, mean * (1 + odds)


@recorded
class Poisson(_CountFamily):
    r"""Counts with log p(x) = x log m - m - log x!, their mean m = exp(h) from the network.

    h follows the network between -60 and 20 and bends there. Count data most often spread wider: `NegativeBinomial`
    (Gronbech et al. 2020, "scVAE", Bioinformatics 36(16), compare them).

    Args:
        event_shape: shape of one example.

    >>> px = Poisson((1,))(torch.zeros(1))  # m = 1
    >>> round(px.log_prob(torch.tensor([2.0])).exp().item(), 4)  # exp(-1) / 2
    0.1839
    """

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__(event_shape, blocks=1)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the log of the mean; a mean of 0 is taken for 0.0001."""
        return mean.clamp_min(_LEAST_MEAN).log()

    def forward(self, params: Tensor) -> CellwisePoisson:
        """Return the distribution with these log means, `[..., *event]`."""
        return CellwisePoisson(_log_mean_of(wide(params)), event_dims=len(self.event_shape))


@recorded
class NegativeBinomial(_OverdispersedFamily):
    r"""Counts with mean m and variance m + m^2 / r: a Poisson whose mean is Gamma distributed.

    p(x) = Gamma(x + r) / (Gamma(r) x!) (r / (r + m))^r (m / (r + m))^x. The likelihood of scVI (Lopez et al. 2018,
    Nature Methods 15), with r for each cell, here without size factors and batch effects.

    Args:
        event_shape: shape of one example.
        dispersion: where r comes from: "shared", one learned number for each cell whatever z is, or "network".

    Raises:
        UsageError: if dispersion is no such word.

    >>> px = NegativeBinomial((1,))(torch.zeros(1))  # m = r = 1: 2^-(x + 1)
    >>> round(px.log_prob(torch.tensor([2.0])).exp().item(), 4), px.variance.item()
    (0.125, 2.0)
    """

    def __init__(self, event_shape: tuple[int, ...], dispersion: Spread = "shared") -> None:
        super().__init__(event_shape, dispersion, blocks=1)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the log of the mean (one of 0 is taken for 0.0001), and the log r with the data's variance."""
        mean = mean.clamp_min(_LEAST_MEAN)
        return self._joined((mean.log(),), _log_r_at(mean, variance))

    def forward(self, params: Tensor) -> CellwiseNegativeBinomial:
        """Return the distribution; params are log means `[..., *event]`, or these and log r `[..., 2, *event]`."""
        raw, *rest = self.split(wide(params))
        return self._counts(raw, tuple(rest))


@recorded
class ZeroInflatedPoisson(_CountFamily):
    r"""Counts that are 0 with probability pi and Poisson otherwise (Lambert 1992, Technometrics 34(1), sec. 2).

    Args:
        event_shape: shape of one example.

    >>> px = ZeroInflatedPoisson((1,))(torch.zeros(2, 1))  # m = 1, pi = 1/2
    >>> round(px.log_prob(torch.zeros(1)).exp().item(), 4), px.mean.item()  # (1 + exp(-1)) / 2
    (0.6839, 0.5)
    """

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__(event_shape, blocks=2)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return log m and the logit of pi with the data's mean and, if it is above the mean, variance."""
        odds, counted = _gate_at(mean.clamp_min(_LEAST_MEAN), variance)
        return self.join(counted.log(), odds.log())

    def forward(self, params: Tensor) -> ZeroInflated:
        """Return the distribution; params are log means and logits of pi, `[..., 2, *event]`."""
        raw, gate = self.split(wide(params))
        dims = len(self.event_shape)
        return ZeroInflated(CellwisePoisson(_log_mean_of(raw), event_dims=dims), gate, event_dims=dims)


@recorded
class ZeroInflatedNegativeBinomial(_OverdispersedFamily):
    r"""Counts that are 0 with probability pi and negative binomial otherwise: the dropout of scVI.

    Lopez et al. 2018, Nature Methods 15; Gronbech et al. 2020, Bioinformatics 36(16).

    Args:
        event_shape: shape of one example.
        dispersion: where r comes from: "shared", one learned number for each cell whatever z is, or "network".

    Raises:
        UsageError: if dispersion is no such word.

    >>> px = ZeroInflatedNegativeBinomial((1,))(torch.zeros(2, 1))  # m = r = 1, pi = 1/2
    >>> round(px.log_prob(torch.zeros(1)).exp().item(), 4)  # (1 + 1/2) / 2
    0.75
    """

    def __init__(self, event_shape: tuple[int, ...], dispersion: Spread = "shared") -> None:
        super().__init__(event_shape, dispersion, blocks=2)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return log m, the logit of a pi of 1/21, and the log r with which mean and variance are the data's."""
        odds = torch.full_like(mean, _LEAST_ODDS)
        mean = mean.clamp_min(_LEAST_MEAN)
        counted = mean * (1 + odds)
        inside = variance * (1 + odds) - odds / (1 + odds) * counted.square()  # the variance of the others
        return self._joined((counted.log(), odds.log()), _log_r_at(counted, inside))

    def forward(self, params: Tensor) -> ZeroInflated:
        """Return the distribution; params are log means, logits of pi, and log r unless shared."""
        raw, gate, *rest = self.split(wide(params))
        return ZeroInflated(self._counts(raw, tuple(rest)), gate, event_dims=len(self.event_shape))
