"""Uniform dequantisation: a density of real values, used as a bound on the probability of levels."""

import math

import torch
from torch import Size, Tensor

from ..core.distribution import Distribution, Sizes
from ..core.errors import UsageError
from ..core.model import Family
from ..core.record import recorded
from .discretized_logistic import check_levels
from .normal import SharedNormal


class DequantizedDensity(Distribution):
    """Levels k / (n-1), k = 0, ..., n-1, of a density `inside` of v = (k + u) / n with u ~ U(0, 1)."""

    def __init__(self, inside: Distribution, levels: int) -> None:
        self.inside, self.levels = inside, levels
        super().__init__(inside.batch_shape, inside.event_shape)

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """One draw of u in log p((k + u) / n) - D log n, in nats: in expectation a lower bound on log P(value).

        Each of K samples gets a u of its own, so that each p((k + u) / n) n^-D is an unbiased estimate of P(value): the
        log of their weighted average is a bound that K brings nearer, with an error that shows between samples.
        """
        dims = len(self.event_shape)
        shape = torch.broadcast_shapes(value.shape, self._extended_shape())
        number = (value * (self.levels - 1)).round().expand(shape)
        noisy = (number + torch.rand_like(number)) / self.levels
        cells = torch.ones_like(value[(0,) * (value.ndim - dims)]) if mask is None else mask.to(value.dtype)
        return self.inside.log_prob(noisy, mask) - self._sum_events(cells) * math.log(self.levels)

    def _to_levels(self, v: Tensor) -> Tensor:
        return ((v * self.levels - 0.5) / (self.levels - 1)).clamp(0, 1)

    @property
    def mean(self) -> Tensor:
        """The density's mean in units of the levels, E[v] = (E[k] + 1/2) / n, kept within [0, 1]."""
        return self._to_levels(self.inside.mean)

    @property
    def centre(self) -> Tensor:
        """The level nearest to the mean."""
        return (self.mean * (self.levels - 1)).round() / (self.levels - 1)

    @property
    def variance(self) -> Tensor:
        """The density's variance in units of the levels, without that of u."""
        steps = self.inside.variance * self.levels**2 - 1 / 12
        return steps.clamp_min(0) / (self.levels - 1) ** 2

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw v and return its level; what lies outside [0, 1] becomes the first or last level."""
        v = self.inside.sample(Size(sample_shape))
        return (v * self.levels).floor().clamp(0, self.levels - 1) / (self.levels - 1)


@recorded
class Dequantized(Family):
    r"""A density as a likelihood of n levels, by uniform noise: log P(x) >= E_u log p((k + u) / n) - D log n.

    k = (n - 1) x is the level's number and P(x) the integral of p over its cell of side 1/n (Uria et al. 2013,
    arXiv 1306.0186; Theis et al. 2016, arXiv 1511.01844, sec. 3.1). Each call of `log_prob` draws a u for each row and
    sample: its expectation is a bound, which is exact where p is constant within cells.

    Args:
        event_shape: shape of one example.
        family: the density of v in (0, 1); None: Normal with one learned variance, whose mass outside is lost.
        levels: n.

    Raises:
        UsageError: if there are fewer than two levels, or the family is none of densities of this shape.

    >>> px = Dequantized((1,), levels=4)(torch.tensor([0.5]))
    >>> px.mean.tolist(), px.sample((100,)).max().item()
    ([0.5], 1.0)
    """

    support = "levels"
    discrete = True
    reparameterised = False
    estimated = True

    def __init__(self, event_shape: tuple[int, ...], family: Family | None = None, levels: int = 256) -> None:
        super().__init__()
        self.event_shape, self.levels = tuple(event_shape), check_levels(levels)
        self.family = SharedNormal(self.event_shape) if family is None else family
        if self.family.discrete or tuple(self.family.event_shape) != self.event_shape or not self.family.has_density:
            raise UsageError(
                f"a {type(self.family).__name__} of shape {tuple(self.family.event_shape)} cannot be dequantised",
                expected=f"a density of real values of shape {self.event_shape}",
            )
        self.params, self.factorised = self.family.params, self.family.factorised
        self.target = "a bound on log p(x) by dequantisation"

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return what the family wants for the mean and variance of the dequantised data."""
        share = (self.levels - 1) / self.levels
        return self.family.bias_for(mean * share + 0.5 / self.levels, variance * share**2 + 1 / (12 * self.levels**2))

    def forward(self, params: Tensor) -> DequantizedDensity:
        """Return the dequantised distribution with these parameters."""
        return DequantizedDensity(self.family(params), self.levels)
