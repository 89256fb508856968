"""Priors on hyperbolic space, and on products of spaces."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Size, Tensor, nn

from ..core.distribution import Distribution, Support
from ..core.errors import UsageError
from ..core.record import recorded
from ..core.types import Infer
from ..families.hyperbolic import HyperbolicNormalAtOrigin, check_hyperbolic
from ..families.product import ProductDistribution, space_of


@recorded
class WrappedNormalPrior(nn.Module):
    r"""p(z): a wrapped normal at the origin of hyperbolic space, with the same scale in all directions.

    Mathieu et al. 2019, arXiv 1901.06033, sec. 3; density with respect to the volume, as the posterior's.

    A learned scale is a learned curvature (Skopek et al. 2020, arXiv 1911.08411, sec. 3): with all lengths in units
    of the scale s, a space of curvature K with this prior is one of curvature s^2 K with the prior of scale 1, and
    log q - log p is the same. So spaces stay fixed, and their volumes the same in q and p.

    Args:
        event_shape: shape of z.
        curvature: of the space, below 0; the posterior's.
        learned: True if the scale, and with it the curvature in its units, is learned.

    Raises:
        UsageError: if the curvature is not a finite number below 0.

    >>> round(WrappedNormalPrior((3,))(None, None).log_prob(torch.zeros(3)).item(), 3)  # -3/2 log(2 pi)
    -2.757
    """

    support: Support = "hyperbolic"
    one: Tensor

    def __init__(self, event_shape: tuple[int, ...], curvature: float = -1.0, *, learned: bool = False) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.curvature = check_hyperbolic(curvature)
        self.space = (self.curvature,)
        self.register_buffer("one", torch.ones(Size(self.event_shape).numel()), persistent=False)
        self.log_scale = nn.Parameter(torch.zeros(())) if learned else None

    @property
    def learned_curvature(self) -> Tensor:
        """The curvature in units of the scale: scale^2 times that of the space."""
        square = self.one.new_ones(()) if self.log_scale is None else (2 * self.log_scale).exp()
        return self.curvature * square

    def forward(self, y: Tensor | None, infer: Infer | None) -> HyperbolicNormalAtOrigin:
        """Return the wrapped normal at the origin, whatever y is."""
        scale = self.one if self.log_scale is None else self.one * self.log_scale.exp()
        return HyperbolicNormalAtOrigin(scale, self.curvature, self.event_shape)


@recorded
class ProductPrior(nn.Module):
    r"""p(z) = prod_i p_i(z_i), for a `Product` posterior (Skopek et al. 2020, arXiv 1911.08411, sec. 3).

    Args:
        factors: the priors of the parts, in their order; they read no posterior.

    Raises:
        UsageError: if there are none, or one is discrete or made of posteriors.

    >>> from lowerbound.priors import HypersphericalUniform, StandardNormal
    >>> ProductPrior((StandardNormal((2,)), HypersphericalUniform((3,))))(None, None).event_shape
    torch.Size([5])
    """

    support: Support = "product"

    def __init__(self, factors: Sequence[nn.Module]) -> None:
        super().__init__()
        wrong = [f for f in factors if getattr(f, "discrete", False) or getattr(f, "support", None) is None]
        if not factors or wrong:
            raise UsageError("a product cannot be made of these priors", expected="one or more continuous priors")
        self.factors = nn.ModuleList(factors)
        self.bound = any(bool(getattr(factor, "bound", False)) for factor in factors)
        self.event_shape = (sum(Size(factor.event_shape).numel() for factor in factors),)  # pyright: ignore[reportArgumentType]
        self.space = space_of(factors)

    def forward(self, y: Tensor | None, infer: Infer | None) -> ProductDistribution:
        """Return the product of the priors, each given y."""
        return ProductDistribution([cast(Distribution, factor(y, infer)) for factor in self.factors])
