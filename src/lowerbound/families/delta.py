"""The point distribution: the posterior of a plain autoencoder."""

import torch
from torch import Size, Tensor

from ..core.distribution import Distribution, Sizes, wide
from ..core.model import Family
from ..core.record import recorded


class Point(Distribution):
    """All mass on one point; against Lebesgue measure it has no density, so log_prob is +inf there."""

    has_rsample = True
    has_density = False

    def __init__(self, value: Tensor, event_dims: int) -> None:
        self.value = value
        cut = value.ndim - event_dims
        super().__init__(value.shape[:cut], value.shape[cut:])

    @property
    def mean(self) -> Tensor:
        """The point."""
        return self.value

    @property
    def variance(self) -> Tensor:
        """Zero."""
        return torch.zeros_like(self.value)

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Return the point itself, once for each sample."""
        return self.value.expand(self._extended_shape(Size(sample_shape)))

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return +inf at the point and -inf elsewhere, `[...]`; masked cells are not compared."""
        same = value == self.value
        if mask is not None:
            same = same | ~mask.bool()
        dims = len(self.event_shape)
        hit = same.flatten(-dims).all(-1) if dims else same
        return torch.where(hit, torch.inf, -torch.inf)


@recorded
class Delta(Family):
    r"""q(z|x) = delta(z - f(x)): the code of a plain autoencoder (Hinton & Salakhutdinov 2006).

    It has no density, so no bound on log p(x) exists: objectives that need one refuse it.

    Args:
        event_shape: shape of the code.

    >>> Delta((2,))(torch.ones(3, 2)).rsample((4,)).shape
    torch.Size([4, 3, 2])
    """

    support = "real"
    has_density = False

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.params = self.event_shape

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the mean."""
        return mean

    def forward(self, params: Tensor) -> Point:
        """Return the point `params`."""
        return Point(wide(params), len(self.event_shape))
