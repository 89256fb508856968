"""The distribution of a flow's image of simple noise."""

import math

import torch
from torch import Tensor

from ..core.distribution import Distribution, Sizes
from ..core.errors import Incompatible
from .base import Flow

GRID_DIMS = 2
GRID_POINTS = 144


def design(size: int) -> Tensor:
    """Return noise `[N, size]` of mean 0 and covariance I, spread like N(0, I), that stands for it in averages.

    Up to 2 dimensions: a grid of normal quantiles. From 3 on: the rows of a Hadamard matrix (Sylvester's) and their
    opposites, whose averages are exact for every cubic polynomial.

    >>> points = design(3)
    >>> points.shape, (points.T @ points / len(points)).tolist()
    (torch.Size([8, 3]), [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    """
    if size <= GRID_DIMS:
        count = round(GRID_POINTS ** (1 / size))
        axis = torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count)
        axis = axis / axis.square().mean().sqrt()
        return torch.cartesian_prod(*[axis] * size).reshape(-1, size)
    signs = torch.ones(1, 1, dtype=torch.float64)
    while len(signs) < size:
        signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
    return torch.cat([signs, -signs])[:, :size]


class Flowed(Distribution):
    r"""Distribution of z = f(e), e ~ base: log q(z) = log base(e) - log |det df/de| (Rezende & Mohamed 2015, eq. 5).

    Mean and variance of a flow have no closed form: they are averages of f over the points of `design`, the same at
    each call, exact where f is affine and an estimate elsewhere. The `centre` is f at the base's mean.

    Args:
        base: distribution of e, which must have a mean and a variance.
        flow: f, over the event's dimensions as one vector.
        context: what f reads, `[*batch, C]`.
    """

    has_rsample = True

    def __init__(self, base: Distribution, flow: Flow, context: Tensor | None = None) -> None:
        self.base, self.flow, self.context = base, flow, context
        super().__init__(base.batch_shape, base.event_shape)

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw f(e): a path for the gradient."""
        return self._push(self.base.rsample(sample_shape))[0]

    def rsample_and_log_prob(self, shape: Sizes = ()) -> tuple[Tensor, Tensor]:
        """Draw z = f(e) and return it with log q(z), by f alone and not its inverse."""
        return self._scored(self.base.rsample(shape))

    def centre_and_log_prob(self) -> tuple[Tensor, Tensor]:
        """Return the centre f(E[e]) and its log-density."""
        return self._scored(self.base.mean)

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return log q(value) in nats, by the inverse of f.

        Raises:
            Incompatible: if the inverse of f has no formula, or some cells are masked.
        """
        if mask is not None:
            raise Incompatible("a flow cannot leave out masked cells: its marginal densities have no formula")
        if not self.flow.invertible:
            raise Incompatible(
                "this flow knows log q(z) only of what it draws: its inverse has no formula",
                expected="the z that rsample_and_log_prob returns, with their density",
                fix="use an autoregressive, spline or radial posterior",
            )
        noise, log_det = self.flow.inverse(self._flat(value), self.context)
        return self.base.log_prob(self._event(noise)) + log_det

    @property
    def centre(self) -> Tensor:
        """The image of the mean of the base: one representative value."""
        return self._push(self.base.mean)[0]

    @property
    def mean(self) -> Tensor:
        """The mean: exact where f is affine, else estimated from the points of `design`."""
        return self._images().mean(0)

    @property
    def variance(self) -> Tensor:
        """The variance of each dimension: exact where f is affine, else estimated from the points of `design`."""
        return self._images().var(0, correction=0)

    def _images(self) -> Tensor:
        mean, scale = self.base.mean, self.base.variance.sqrt()
        points = design(math.prod(self.event_shape)).to(mean)
        points = points.reshape(-1, *[1] * len(self.batch_shape), *self.event_shape)
        return self._push(mean + scale * points)[0]

    def _scored(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = self._push(noise)
        return z, self.base.log_prob(noise) - log_det

    def _push(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = self.flow(self._flat(noise), self.context)
        return self._event(z), log_det

    def _flat(self, value: Tensor) -> Tensor:
        return value.reshape(*value.shape[: value.ndim - len(self.event_shape)], math.prod(self.event_shape))

    def _event(self, value: Tensor) -> Tensor:
        return value.reshape(*value.shape[:-1], *self.event_shape)
