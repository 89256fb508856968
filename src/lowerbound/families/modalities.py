"""Several kinds of data in one example, each with a likelihood of its own, independent given z."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from math import prod

import torch
from torch import Size, Tensor

from ..core.distribution import Distribution, Sizes
from ..core.errors import UsageError
from ..core.model import Family
from ..core.record import recorded


class SideBySide(Distribution):
    """Independent distributions whose values, flattened, lie side by side in one vector of `event_shape` (D,)."""

    def __init__(self, parts: Sequence[Distribution]) -> None:
        self.parts = tuple(parts)
        self.sizes = [prod(p.event_shape) for p in parts]
        self.has_density = all(p.has_density for p in parts)
        super().__init__(Size(torch.broadcast_shapes(*(p.batch_shape for p in parts))), Size((sum(self.sizes),)))

    def _together(self, values: Callable[[Distribution], Tensor]) -> Tensor:
        each = [values(p) for p in self.parts]
        flat = [v.flatten(v.ndim - len(p.event_shape)) for v, p in zip(each, self.parts, strict=True)]
        lead = torch.broadcast_shapes(*(v.shape[:-1] for v in flat))
        return torch.cat([v.expand(*lead, -1) for v in flat], -1)

    @property
    def mean(self) -> Tensor:
        """The mean of each part: of a category the probabilities of its classes."""
        return self._together(lambda p: p.mean)

    @property
    def variance(self) -> Tensor:
        """The variance of each value."""
        return self._together(lambda p: p.variance)

    @property
    def centre(self) -> Tensor:
        """A value of each part inside its support."""
        return self._together(lambda p: p.centre)

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw each part."""
        return self._together(lambda p: p.sample(sample_shape))

    def log_prob_parts(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the log-density of each part in nats, `[M, *batch]`; cells where `mask` is 0 count nothing."""
        values = value.split(self.sizes, -1)
        masks = [None] * len(values) if mask is None else mask.split(self.sizes, -1)
        each = [
            p.log_prob(v.unflatten(-1, p.event_shape), None if m is None else m.unflatten(-1, p.event_shape))
            for p, v, m in zip(self.parts, values, masks, strict=True)
        ]
        return torch.stack(torch.broadcast_tensors(*each))

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-density of `value` in nats, summed over the parts; cells where `mask` is 0 count nothing."""
        return self.log_prob_parts(value, mask).sum(0)


@recorded
class Modalities(Family):
    r"""log p(x|z) = sum_m log p_m(x_m|z): the modalities of an example are independent given z.

    Wu & Goodman 2018, arXiv 1802.05335, eq. 1. One of which nothing is observed counts nothing, whatever its cells
    hold, which integrates it out.

    Args:
        families: the likelihood of each modality, in the order of the data.

    Raises:
        UsageError: if there is none.

    >>> from lowerbound.families import Bernoulli, OneHot
    >>> family = Modalities((Bernoulli((1, 2, 2)), OneHot((3,))))
    >>> family.event_shape, family.params
    ((7,), (7,))
    >>> px = family(torch.zeros(7))
    >>> round(px.log_prob(torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0])).exp().item(), 4)  # 1/2^4 * 1/3
    0.0208
    """

    support = "mixed"
    factorised = False

    def __init__(self, families: tuple[Family, ...]) -> None:
        super().__init__()
        if not families:
            raise UsageError("there are no modalities", expected="the likelihood of at least one")
        self.families = torch.nn.ModuleList(families)
        self.event_shape = (sum(prod(f.event_shape) for f in families),)
        self.sizes = [prod(f.params) for f in families]
        self.params = (sum(self.sizes),)
        self.discrete = all(f.discrete for f in families)
        self.reparameterised = all(f.reparameterised for f in families)
        self.has_density = all(f.has_density for f in families)
        self.estimated = any(f.estimated for f in families)

    def _each(self) -> list[Family]:
        return [f for f in self.families if isinstance(f, Family)]

    def observations(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return what each modality's family makes of its values, side by side, and where that is observed."""
        dims, made = [prod(f.event_shape) for f in self._each()], []
        for family, part, seen in zip(self._each(), x.split(dims, 1), mask.split(dims, 1), strict=True):
            shape = family.event_shape
            made.append(family.observations(part.unflatten(1, shape), seen.unflatten(1, shape)))
        values, known = ([t.flatten(1) for t in each] for each in zip(*made, strict=True))
        return torch.cat(values, 1), torch.cat(known, 1)

    def bias_for(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the parameters at which each modality has the data's mean, and set own scales."""
        shapes = [self._observed_shape(f) for f in self._each()]
        ends = list(accumulate((prod(shape) for shape in shapes), initial=0))
        made = []
        for family, shape, (start, stop) in zip(self._each(), shapes, pairwise(ends), strict=True):
            one, other = (t[start:stop].reshape(shape) for t in (mean, variance))
            made.append(family.bias_for(one, other).flatten())
        return torch.cat(made)

    @staticmethod
    def _observed_shape(family: Family) -> tuple[int, ...]:
        blank = torch.zeros(1, *family.event_shape)
        return tuple(family.observations(blank, blank)[0].shape[1:])

    def forward(self, params: Tensor) -> SideBySide:
        """Return the distribution with these parameters, `[..., *self.params]`."""
        each = zip(self._each(), params.split(self.sizes, -1), strict=True)
        return SideBySide([family(part.unflatten(-1, family.params)) for family, part in each])
