"""What the priors with small networks of their own share."""

import math
from math import prod

import torch
from torch import Tensor, nn

from ..core.distribution import Distribution, Sizes
from ..core.errors import UsageError
from ..flows import Flow

_DRAWS = 4096
_SEED = 2013
_WAVES = 4


def plain_mlp(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Return linear layers with SiLU between them.

    Raises:
        UsageError: if a width is no whole number above 0.
    """
    if any(not isinstance(width, int) or width < 1 for width in hidden):
        raise UsageError(f"hidden sizes cannot be {hidden}", expected="whole numbers above 0")
    sizes = (inputs, *hidden)
    layers = [m for a, b in zip(sizes, hidden, strict=False) for m in (nn.Linear(a, b), nn.SiLU())]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))


def timed(z: Tensor, t: Tensor) -> Tensor:
    """Return z `[..., D]` beside a time t `[..., 1]` in [0, 1] and some waves of it, as a network is to see both."""
    angles = math.pi * t * torch.arange(1, _WAVES + 1, device=z.device, dtype=z.dtype)
    seen = torch.cat([t, angles.sin(), angles.cos()], -1)
    return torch.cat([z, seen.expand(*z.shape[:-1], -1)], -1)


def timed_size(size: int) -> int:
    """Return the size of what `timed` makes of `size` values."""
    return size + 1 + 2 * _WAVES


class Scaling(Flow):
    """Shift and scale of the codes, so that a network sees each dimension with mean 0 and variance 1; set, not learned.

    As a flow it leads from the network's units to those of the codes.

    Args:
        size: number of dimensions.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def start_from_codes(self, z: Tensor) -> None:
        """Take mean and standard deviation of codes `[N, D]`; a dimension that does not vary keeps its scale."""
        spread = z.std(0, unbiased=False)
        self.loc.copy_(z.mean(0))
        self.scale.copy_(torch.where(spread > 1e-6 * (1 + z.abs().amax(0)), spread, 1.0))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return loc + scale x and sum_d log scale_d."""
        return self.outside(x), self.log_volume().expand(x.shape[:-1])

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return (y - loc) / scale and minus that sum."""
        return self.inside(y), -self.log_volume().expand(y.shape[:-1])

    def inside(self, z: Tensor) -> Tensor:
        """Return z as the network sees it."""
        return (z - self.loc) / self.scale

    def outside(self, inner: Tensor) -> Tensor:
        """Return z in its own units."""
        return self.loc + self.scale * inner

    def log_volume(self) -> Tensor:
        """Return sum_d log scale_d: log p(z) = log p(inner) - this."""
        return self.scale.log().sum()


class FromDraws(Distribution):
    """A distribution without closed-form moments; a subclass gives `_draw(noise [N, width], ...)` and `log_prob`.

    Mean and variance are estimates from 4,096 draws, always of the same noise.
    """

    noise: int
    """How many normal numbers make one draw."""

    def __init__(self, like: Tensor, event_shape: tuple[int, ...]) -> None:
        self.like = like
        super().__init__(torch.Size(), torch.Size(event_shape))

    def _draw(self, noise: Tensor) -> Tensor:
        raise NotImplementedError

    def _fixed_draws(self) -> Tensor:
        noise = torch.randn(_DRAWS, self.noise, generator=torch.Generator().manual_seed(_SEED))
        with torch.no_grad():
            return self._draw(noise.to(self.like)).unflatten(1, self.event_shape)

    @property
    def mean(self) -> Tensor:
        """The mean, estimated."""
        return self._fixed_draws().mean(0)

    @property
    def variance(self) -> Tensor:
        """The variance of each dimension, estimated."""
        return self._fixed_draws().var(0)

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw without gradient, `[*sample_shape, *event_shape]`."""
        with torch.no_grad():
            noise = torch.randn(prod(sample_shape), self.noise, dtype=self.like.dtype, device=self.like.device)
            return self._draw(noise).reshape(*sample_shape, *self.event_shape)
