"""Products: a latent of several parts, each with a family of its own."""

from collections.abc import Sequence

import torch
from torch import Size, Tensor, nn

from ..core.distribution import Distribution, Sizes, sample_shape
from ..core.errors import UsageError
from ..core.kl import kl_divergence, register_kl
from ..core.model import Family
from ..core.record import recorded


class ProductDistribution(Distribution):
    """Independent parts, laid out one after the other along one axis; batch shapes broadcast."""

    def __init__(self, parts: Sequence[Distribution]) -> None:
        self.parts, self.sizes = tuple(parts), [part.event_shape.numel() for part in parts]
        self.has_rsample = all(part.has_rsample for part in parts)
        self.has_density = all(part.has_density for part in parts)
        super().__init__(torch.broadcast_shapes(*(part.batch_shape for part in parts)), Size((sum(self.sizes),)))

    def _joined(self, values: Sequence[Tensor], lead: Size) -> Tensor:
        flat = (value.expand(*lead, *part.event_shape) for part, value in zip(self.parts, values, strict=True))
        return torch.cat([value.flatten(len(lead)) for value in flat], -1)

    @property
    def mean(self) -> Tensor:
        """The means of the parts."""
        return self._joined([part.mean for part in self.parts], self.batch_shape)

    @property
    def centre(self) -> Tensor:
        """The centres of the parts."""
        return self._joined([part.centre for part in self.parts], self.batch_shape)

    @property
    def variance(self) -> Tensor:
        """The variance of each coordinate, as the parts state it."""
        return self._joined([part.variance for part in self.parts], self.batch_shape)

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Sum of the parts' log-densities in nats, each with respect to its own measure.

        Raises:
            UsageError: if a mask is given.
        """
        if mask is not None:
            raise UsageError("a product of spaces cannot be observed in part", fix="leave out the mask")
        total = value.new_zeros(())
        for part, piece in zip(self.parts, value.split(self.sizes, -1), strict=True):
            total = total + part.log_prob(piece.unflatten(-1, part.event_shape))
        return total

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw the parts independently."""
        return self.rsample_and_log_prob(sample_shape)[0]

    def rsample_and_log_prob(self, shape: Sizes = ()) -> tuple[Tensor, Tensor]:
        """Draw the parts, and add up what each says of its draw."""
        lead = Size((*shape, *self.batch_shape))
        drawn = [part.rsample_and_log_prob(sample_shape(part, lead)) for part in self.parts]
        total = drawn[0][1].expand(lead)
        for _, log_q in drawn[1:]:
            total = total + log_q
        return self._joined([z for z, _ in drawn], lead), total


@register_kl(ProductDistribution, ProductDistribution)
def _kl_product_product(q: ProductDistribution, p: ProductDistribution) -> Tensor | None:
    if q.sizes != p.sizes:
        return None
    total = torch.zeros(())
    for one, other in zip(q.parts, p.parts, strict=True):
        divergence = kl_divergence(one, other)
        if divergence is None:
            return None
        total = total + divergence
    return total


@recorded
class Product(Family):
    r"""q(z) = prod_i q_i(z_i): parts on different spaces, such as hyperbolic, flat and spherical ones, as one latent.

    The parts stand one after the other along one axis, in z and in the parameters. Skopek et al. 2020, "Mixed-curvature
    Variational Autoencoders", arXiv 1911.08411, sec. 3.

    Args:
        factors: the families of the parts, continuous ones.

    Raises:
        UsageError: if there are none, or one is discrete.

    >>> from lowerbound.families import Normal, VonMisesFisher
    >>> family = Product((Normal((2,)), VonMisesFisher((3,))))
    >>> family.event_shape, family.params
    ((5,), (8,))
    """

    support = "product"
    factorised = False

    def __init__(self, factors: Sequence[Family]) -> None:
        super().__init__()
        if not factors or any(family.discrete for family in factors):
            raise UsageError("a product cannot be made of these families", expected="one or more continuous families")
        self.factors = nn.ModuleList(factors)
        self.families = tuple(factors)
        self.has_density = all(family.has_density for family in factors)
        self.reparameterised = all(family.reparameterised for family in factors)
        self.rescorable = all(family.rescorable for family in factors)
        self.event_shape = (sum(Size(family.event_shape).numel() for family in factors),)
        self.sizes = [Size(family.params).numel() for family in factors]
        self.params = (sum(self.sizes),)
        self.space = space_of(factors)

    def forward(self, params: Tensor) -> ProductDistribution:
        """Return the product of the factors' distributions, params `[..., sum of theirs]`."""
        pieces = params.split(self.sizes, -1)
        return ProductDistribution(
            [family(piece.unflatten(-1, family.params)) for family, piece in zip(self.families, pieces, strict=True)]
        )


def space_of(parts: Sequence[nn.Module]) -> tuple[object, ...]:
    """Return what must agree between a product posterior and a product prior: support, size and curvature of each."""
    return tuple((part.support, Size(part.event_shape).numel(), getattr(part, "space", ())) for part in parts)  # pyright: ignore[reportArgumentType]
