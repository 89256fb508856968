"""What every family returns: torch's Distribution with a mask, and with a draw that comes with its density."""

from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution as TorchDistribution

Sizes: TypeAlias = Size | list[int] | tuple[int, ...]
Support: TypeAlias = Literal[
    "binary",
    "levels",
    "inner",
    "unit",
    "count",
    "positive",
    "real",
    "sphere",
    "hyperbolic",
    "product",
    "onehot",
    "simplex",
    "codes",
    "mixed",
    "symbols",
]
"""Where values lie: {0, 1}; evenly spaced levels 0, 1/n, ..., 1; (0, 1); [0, 1]; 0, 1, 2, ...; (0, inf); R; the unit
sphere; hyperbolic space, with densities with respect to its volume; a product of spaces; one-hot vectors; the open
simplex; the vectors of a code book; columns of several kinds; the numbers of symbols."""

_CONTAINS: dict[Support, tuple[Support, ...]] = {
    "binary": ("binary",),
    "levels": ("binary", "levels"),
    "inner": ("inner",),
    "unit": ("binary", "levels", "inner", "unit"),
    "count": ("binary", "count"),
    "positive": ("inner", "positive"),
    "real": ("binary", "levels", "inner", "unit", "count", "positive", "real"),
    "sphere": ("sphere",),
    "hyperbolic": ("hyperbolic",),
    "product": ("product",),
    "onehot": ("onehot",),
    "simplex": ("simplex",),
    "codes": ("codes",),
    "mixed": ("mixed",),
    "symbols": ("symbols",),
}


def contains(outer: Support, inner: Support) -> bool:
    """Return whether values of support `inner` all lie in `outer`.

    >>> contains("real", "binary"), contains("binary", "unit")
    (True, False)
    """
    return inner in _CONTAINS[outer]


class Distribution(TorchDistribution):
    """Base of the distributions of `lowerbound`; densities are in nats, summed over the event dimensions.

    A subclass gives `_log_prob_elements`, `rsample` or `sample`, `mean` and `variance`. Values of `batch_shape`
    broadcast, so x of shape `[B, *event]` is scored under parameters `[K, B, *event]` without being copied.
    """

    arg_constraints = MappingProxyType({})  # pyright: ignore  (none: `Family.support` is what is checked)
    has_density = True
    normal = False  # True if it is a normal of independent dimensions, which mean and variance say all about
    penalty: Tensor | None = None  # what training adds to the loss for this distribution, `[*batch_shape]`
    filler = 0.0  # a value inside the support, put into masked cells before they are scored

    def __init__(self, batch_shape: Size, event_shape: Size) -> None:
        super().__init__(batch_shape, event_shape, validate_args=False)

    def _log_prob_elements(self, value: Tensor) -> Tensor:
        raise NotImplementedError

    def _sum_events(self, value: Tensor) -> Tensor:
        dims = len(self.event_shape)
        return value.flatten(-dims).sum(-1) if dims > 1 else value.sum(-1) if dims else value

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-density of `value` in nats; cells where `mask` is 0 count nothing, whatever they hold."""
        if mask is None:
            return self._sum_events(self._log_prob_elements(value))
        observed = mask.bool()
        elements = self._log_prob_elements(torch.where(observed, value, self.filler))
        return self._sum_events(torch.where(observed, elements, 0.0))

    def log_prob_parts(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return log_prob of each of the modalities that a value is made of, `[M, *batch]`; of one kind it is one."""
        return self.log_prob(value, mask)[None]

    @property
    def centre(self) -> Tensor:
        """One representative value inside the support: the mean, unless that lies outside."""
        return self.mean

    def centre_and_log_prob(self) -> tuple[Tensor, Tensor]:
        """Return the centre and its log-density; families that can score only what they drew override this."""
        return self.centre, self.log_prob(self.centre)

    def elements(self) -> "Distribution | None":
        """Return the same distribution with each event dimension an event of its own; None unless they are independent.

        Batch and event axes then are all batch axes: a closed-form KL comes out for each dimension.
        """
        return None

    def independent(self) -> "Distribution":
        """Return this distribution as one whose draws do not depend on each other, as those of most do not."""
        return self

    def rsample_and_log_prob(self, shape: Sizes = ()) -> tuple[Tensor, Tensor]:
        """Draw z and return it with log q(z); families that can score only what they drew override this."""
        z = self.rsample(shape) if self.has_rsample else self.sample(shape)
        return z, self.log_prob(z)

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw without gradient, `[*sample_shape, *batch_shape, *event_shape]`."""
        with torch.no_grad():
            return self.rsample(sample_shape).detach()

    def sample_at(self, temperature: float, sample_shape: Sizes = ()) -> Tensor:
        """Draw without gradient, each draw then moved to mean + temperature * (draw - mean)."""
        drawn = self.sample(sample_shape)
        return self.mean + temperature * (drawn - self.mean)


def sample_shape(distribution: TorchDistribution, shape: tuple[int, ...]) -> Size:
    """Return the sample shape that makes draws of `distribution` come out as `[*shape, *event]`.

    >>> from lowerbound.families import Normal
    >>> q = Normal((2,))(torch.zeros(5, 2, 2))  # one distribution for each of 5 data points
    >>> sample_shape(q, (3, 5))
    torch.Size([3])
    """
    return Size(shape[: len(shape) - len(distribution.batch_shape)])


def wide(params: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return `params` in float32 or wider: densities lose digits in half precision."""
    return params.float() if params.dtype in (torch.float16, torch.bfloat16) else params
