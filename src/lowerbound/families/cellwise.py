"""What families of independent cells share: their distribution, bends that keep exp finite, and two stable sums."""

import math
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Size, Tensor

from ..core.distribution import Distribution, Sizes
from ..core.errors import UsageError
from ..core.model import Family

Spread: TypeAlias = Literal["network", "shared"]
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
_STIRLING_FROM = 8.0
_NEAR = 0.1


class CellwiseDistribution(Distribution):
    """Independent cells, each with its own parameters, which broadcast against each other.

    A subclass gives `_log_prob_elements`, `mean`, `variance` and draws of a cell; `parts` are its parameters, expanded.
    """

    def __init__(self, *parts: Tensor, event_dims: int) -> None:
        self.parts = torch.broadcast_tensors(*parts)
        shape = self.parts[0].shape
        cut = len(shape) - event_dims
        super().__init__(Size(shape[:cut]), Size(shape[cut:]))

    def elements(self) -> "CellwiseDistribution":
        """Return one distribution for each cell."""
        return type(self)(*self.parts, event_dims=0)

    def _uniform(self, sample_shape: Sizes) -> Tensor:
        """Return uniform numbers in [0, 1), `[*sample_shape, *batch_shape, *event_shape]`."""
        like = self.parts[0]
        return torch.rand(self._extended_shape(Size(sample_shape)), dtype=like.dtype, device=like.device)

    def _normal(self, sample_shape: Sizes) -> Tensor:
        """Return standard normal numbers of the same shape."""
        like = self.parts[0]
        return torch.randn(self._extended_shape(Size(sample_shape)), dtype=like.dtype, device=like.device)

    def _exponential(self, sample_shape: Sizes) -> Tensor:
        """Return draws of Exponential(1), of the same shape, none of them 0."""
        draws = -torch.log1p(-self._uniform(sample_shape))
        return draws.clamp_min(torch.finfo(draws.dtype).tiny)


class CellwiseFamily(Family):
    """Base of the families of independent cells that read `blocks` parameters for each cell."""

    def __init__(self, event_shape: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.params = self.event_shape if blocks == 1 else (blocks, *self.event_shape)

    def split(self, params: Tensor) -> tuple[Tensor, ...]:
        """Return the parameters `[..., blocks, *event]` block by block, each `[..., *event]`."""
        dims = len(self.event_shape)
        return params.unbind(-1 - dims) if len(self.params) > dims else (params,)

    def join(self, *blocks: Tensor) -> Tensor:
        """Return what `split` parts."""
        return torch.stack(blocks) if len(self.params) > len(self.event_shape) else blocks[0]


def check_positive(name: str, value: float) -> float:
    """Return `value`, or raise UsageError unless it is finite and above 0."""
    if not 0 < value < math.inf:
        raise UsageError(f"the {name} cannot be {value}", expected="a finite number above 0")
    return value


def check_spread(name: str, value: Spread) -> Spread:
    """Return `value`, or raise UsageError unless it is "network" or "shared"."""
    if value not in ("network", "shared"):
        raise UsageError(f"there is no {name} {value!r}", expected="network or shared")
    return value


def bent(raw: Tensor, low: float, high: float) -> Tensor:
    """Return `raw` between `low` and `high`, and a smooth bend towards either beyond: exp of it fits float32.

    >>> bent(torch.tensor([-1e4, 0.5, 1e4]), -60.0, 20.0)
    tensor([-60.0000,   0.5000,  20.0000])
    """
    capped = raw - F.softplus(raw - high)
    return capped + F.softplus(low - capped)


def inverse_softplus(value: Tensor) -> Tensor:
    """Return y with log(1 + exp(y)) = value > 0."""
    return value + torch.log(-torch.expm1(-value))


def stirling_rest(x: Tensor) -> Tensor:
    """Return log Gamma(x) - (x - 1/2) log x + x - 1/2 log(2 pi) for x > 0, which no large terms cancel in.

    >>> round(float(stirling_rest(torch.tensor(1.0))), 4)  # 1 - log(2 pi) / 2
    0.0811
    """
    large = x > _STIRLING_FROM
    small_x, large_x = torch.where(large, 1.0, x), torch.where(large, x, _STIRLING_FROM)
    small = torch.lgamma(small_x) - (small_x - 0.5) * small_x.log() + small_x - HALF_LOG_2PI
    square, series = large_x.reciprocal().square(), torch.zeros_like(large_x)
    for coefficient in reversed(_STIRLING):
        series = series * square + coefficient
    return torch.where(large, series / large_x, small)


def log_factorial_rest(x: Tensor) -> Tensor:
    """Return log Gamma(x + 1) - x log x + x for x >= 0, so that log p of a Poisson is -deviance - this."""
    positive = x.clamp_min(torch.finfo(x.dtype).tiny)
    return torch.where(x > 0, stirling_rest(positive) + 0.5 * positive.log() + HALF_LOG_2PI, 0.0)


def deviance(x: Tensor, mean: Tensor, log_mean: Tensor) -> Tensor:
    """Return x log(x / mean) + mean - x >= 0, without cancellation where x is near the mean (Loader 2000).

    Args:
        x: values of 0 or more.
        mean: positive.
        log_mean: its log.
    """
    near = (x - mean).abs() < _NEAR * (x + mean)
    far = torch.xlogy(x, x) - x * log_mean + mean - x
    close_x, close_mean = torch.where(near, x, 1.0), torch.where(near, mean, 1.0)
    v = (close_x - close_mean) / (close_x + close_mean)
    square, series = v.square(), torch.zeros_like(v)
    for odd in range(17, 1, -2):  # x log(x / mean) = 2 x (v + v^3 / 3 + v^5 / 5 + ...)
        series = (series + 1 / odd) * square
    return torch.where(near, (close_x - close_mean) * v + 2 * close_x * v * series, far)
