"""Layers of latents inferred from the bottom up, as one group: the decoder reads the lowest."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Size, Tensor, nn

from ..core.distribution import Distribution, Sizes
from ..core.errors import Incompatible, ShapeError
from ..core.model import Conditional, Family, Group
from ..core.record import recorded
from ..core.types import Infer
from .flat import Prior, borrows


class Chain(Distribution):
    """A chain of vectors, each given the one before it: p(a, b, c) = p(a) p(b|a) p(c|b).

    Args:
        first: distribution of the first vector.
        after: each returns the distribution of a vector given the one before it.
        sizes: of the vectors, in that order.
        reverse: True if values hold the last vector first.
        batch_shape: of the whole chain.
    """

    def __init__(
        self,
        first: Distribution,
        after: Sequence[Callable[[Tensor], Distribution]],
        sizes: Sequence[int],
        batch_shape: Size,
        *,
        reverse: bool,
    ) -> None:
        self.first, self.after, self.sizes, self.reverse = first, list(after), list(sizes), reverse
        super().__init__(batch_shape, Size((sum(sizes),)))

    @property
    def has_rsample(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True if the first vector, like all others, can be drawn with a gradient."""
        return self.first.has_rsample

    @property
    def mean(self) -> Tensor:
        """The chain of means, each given the mean before it: one representative value, exact where all are linear."""
        values = [self.first.mean]
        for after in self.after:
            values.append(after(values[-1]).mean)
        return self._joined(values)

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw from the first vector on: a path for the gradient."""
        values = [self.first.rsample(sample_shape)]
        for after in self.after:
            values.append(after(values[-1]).rsample())
        return self._joined(values)

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw without gradient."""
        with torch.no_grad():
            values = [self.first.sample(sample_shape)]
            for after in self.after:
                values.append(after(values[-1]).sample())
            return self._joined(values)

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the log-density of all vectors together, in nats."""
        assert mask is None, "latents are never masked"
        total = self.first.log_prob(self._parts(value)[0])
        for after, (given, part) in zip(self.after, self._pairs(value), strict=True):
            total = total + after(given).log_prob(part)
        return total

    def _pairs(self, value: Tensor) -> list[tuple[Tensor, Tensor]]:
        parts = self._parts(value)
        return list(pairwise(parts))

    def _parts(self, value: Tensor) -> list[Tensor]:
        sizes = self.sizes[::-1] if self.reverse else self.sizes
        parts = list(value.split(sizes, -1))
        return parts[::-1] if self.reverse else parts

    def _joined(self, values: list[Tensor]) -> Tensor:
        lead = torch.broadcast_shapes(*(v.shape[:-1] for v in values))
        values = [v.expand(*lead, -1) for v in values]
        return torch.cat(values[::-1] if self.reverse else values, -1)


@recorded
class Stacked(Group):
    r"""Layers z_1, ..., z_L as one latent: q(z_1|x) q(z_2|z_1) ..., and p(z_L) p(z_{L-1}|z_L) ... p(z_1|z_2).

    Rezende et al. 2014, arXiv 1401.4082, eq. 5, with the recognition model from the bottom up of Burda et al. 2016,
    arXiv 1509.00519, sec. 2. The decoder reads z_1 alone. q of the upper layers does not look at x, so layers above
    the first are often left unused (Sonderby et al. 2016, arXiv 1602.02282, sec. 3).

    Args:
        posterior_family: turns the encoder's feature into q(z_1|x).
        up: q(z_2|z_1), ..., from the bottom up.
        prior_part: p(z_L).
        down: p(z_{L-1}|z_L), ..., p(z_1|z_2), from the top down.

    Raises:
        ShapeError: if a layer does not read what the one before it gives.
        Incompatible: if the prior is made of posteriors.

    >>> from lowerbound.families import Normal
    >>> from lowerbound.networks import MLP
    >>> from lowerbound.priors import StandardNormal
    >>> low, high = Normal((3,)), Normal((2,))
    >>> up, down = Conditional(MLP((3,), high.params), high), Conditional(MLP((2,), low.params), low)
    >>> group = Stacked(low, [up], StandardNormal((2,)), [down])
    >>> group.prior(None, None, None).sample((7, 5)).shape, group.merge(None, torch.zeros(7, 5, 5)).shape
    (torch.Size([7, 5, 5]), torch.Size([7, 5, 3]))
    """

    def __init__(
        self, posterior_family: Family, up: Sequence[Conditional], prior_part: Prior, down: Sequence[Conditional]
    ) -> None:
        super().__init__()
        self.lowest, self.up, self.prior_part, self.down = (
            posterior_family,
            nn.ModuleList(up),
            prior_part,
            nn.ModuleList(down),
        )
        self.sizes = [f.event_shape[0] for f in (posterior_family, *(u.family for u in up))]
        _check_chain("up", up, self.sizes)
        _check_chain("down", down, self.sizes[::-1])
        if borrows(prior_part):
            raise Incompatible("a prior made of posteriors cannot be used for the top of a stack", fix="use another")
        self.posterior_family = _Whole(posterior_family, sum(self.sizes))

    def prior(self, state: Tensor | None, y: Tensor | None, infer: Infer | None) -> Distribution:
        """Return p(z_1, ..., z_L), batch shape that of the top prior."""
        top = self.prior_part(y, infer)
        return Chain(top, list(self.down), self.sizes[::-1], top.batch_shape, reverse=True)

    def posterior(self, state: Tensor | None, feature: Tensor, p: Distribution | None) -> Distribution:
        """Return q(z_1, ..., z_L|x) from the encoder's feature `[B, *params]`."""
        low = self.lowest(feature)
        return Chain(low, list(self.up), self.sizes, low.batch_shape, reverse=False)

    def merge(self, state: Tensor | None, z: Tensor) -> Tensor:
        """Return z_1."""
        return z[..., : self.sizes[0]]

    def posterior_parts(self) -> tuple[nn.Module, ...]:
        """Return the families and networks of q."""
        return (self.lowest, self.up)


class _Whole(Family):
    """What a stack says of all its layers together; its distributions are made by the group."""

    factorised = False

    def __init__(self, lowest: Family, size: int) -> None:
        super().__init__()
        self.event_shape, self.params, self.support = (size,), tuple(lowest.params), lowest.support
        self.has_density, self.discrete = lowest.has_density, lowest.discrete
        self.reparameterised, self.rescorable = lowest.reparameterised, lowest.rescorable


def _check_chain(name: str, layers: Sequence[Conditional], sizes: Sequence[int]) -> None:
    found = [(tuple(c.network.in_shape), tuple(c.family.event_shape)) for c in layers]
    wanted = [((a,), (b,)) for a, b in pairwise(sizes)]
    if found != wanted:
        raise ShapeError(f"the layers `{name}` of a stack map {found}", expected=f"{wanted}")
