"""Ladders: levels of latents that share one state on the way down, each looking at what the encoder saw."""

import torch
from torch import Tensor, nn

from ..core.distribution import Distribution
from ..core.errors import Incompatible, ShapeError
from ..core.model import Conditional, Family, Group, Network, Relation
from ..core.record import recorded
from ..core.types import Infer
from ..core.walk import folded
from .flat import GroupWithPrior, Prior


def together(first: Tensor, second: Tensor, event_dims: int) -> Tensor:
    """Return two features as one, joined along their first event axis (channels); leading axes broadcast.

    >>> together(torch.zeros(5, 2, 7, 7), torch.ones(3, 5, 4, 7, 7), 3).shape
    torch.Size([3, 5, 6, 7, 7])
    """
    lead = torch.broadcast_shapes(first.shape[:-event_dims], second.shape[:-event_dims])
    parts = (t.expand(*lead, *t.shape[-event_dims:]) for t in (first, second))
    return torch.cat(list(parts), -event_dims)


@recorded
class Top(GroupWithPrior):
    r"""The top of a ladder: q(z|x) and a prior of any kind, p(z); a network makes of z the state that goes down.

    Args:
        posterior_family: turns the encoder's feature into q(z|x).
        prior_part: p(z).
        down: from z to the first state.

    Raises:
        ShapeError: if the network does not read z.
    """

    def __init__(self, posterior_family: Family, prior_part: Prior, down: Network) -> None:
        super().__init__(posterior_family, prior_part)
        _check_reads("down", down, tuple(posterior_family.event_shape))
        self.down = down

    def prior(self, state: Tensor | None, y: Tensor | None, infer: Infer) -> Distribution:
        """Return p(z)."""
        return self.prior_part(y, infer)

    def posterior(self, state: Tensor | None, feature: Tensor, p: Distribution | None) -> Distribution:
        """Return q(z|x) from the encoder's feature `[B, *params]`."""
        return self.posterior_family(feature)

    def merge(self, state: Tensor | None, z: Tensor) -> Tensor:
        """Return the first state."""
        return folded(self.down, (z, len(self.posterior_family.event_shape)))


@recorded
class Level(Group):
    r"""One level of a ladder, below a state s: p(z|s), and q(z|x, s) of s and of what the encoder saw.

    All levels read and change one state, so that each is told of all above it (Sonderby et al. 2016, arXiv 1602.02282;
    Kingma et al. 2016, arXiv 1606.04934, sec. 3; Child 2021, arXiv 2011.10650, sec. 3.1).

    Args:
        prior_part: p(z|s), a normal from the state.
        posterior_family: turns the feature, or what `looks` makes of it and of s, into a normal of z.
        relation: makes q of that normal and the prior.
        looks: reads the encoder's feature; None: the feature is the family's parameters.
        sees_state: True if `looks` reads the feature and the state, joined.
        down: from z and the state, joined, to the next state; None: z is the next state.

    Raises:
        ShapeError: if the networks and families do not fit each other.
        Incompatible: if the relation is not made for the two families.

    >>> from lowerbound.families import Normal
    >>> from lowerbound.networks import MLP
    >>> from lowerbound.posteriors import Direct
    >>> family = Normal((2,))
    >>> p, looks = Conditional(MLP((3,), family.params, ()), family), MLP((5 + 3,), family.params)
    >>> level = Level(p, family, Direct(), looks, sees_state=True)
    >>> state = torch.zeros(4, 6, 3)
    >>> q = level.posterior(state, torch.ones(6, 5), level.prior(state, None, None))
    >>> level.merge(state, q.sample()).shape
    torch.Size([4, 6, 2])
    """

    shares = True

    def __init__(
        self,
        prior_part: Conditional,
        posterior_family: Family,
        relation: Relation,
        looks: Network | None = None,
        down: Network | None = None,
        *,
        sees_state: bool = False,
    ) -> None:
        super().__init__()
        self.prior_part, self.posterior_family, self.relation = prior_part, posterior_family, relation
        self.looks, self.down, self.sees_state = looks, down, sees_state
        latent, state = tuple(posterior_family.event_shape), tuple(prior_part.network.in_shape)
        if tuple(prior_part.family.event_shape) != latent:
            raise ShapeError(
                f"the prior of a level is of shape {tuple(prior_part.family.event_shape)}, its posterior of {latent}",
                expected="the same",
            )
        relation.check(posterior_family, prior_part.family)
        self.dims = len(latent)
        if down is not None:
            _check_reads("down", down, (latent[0] + state[0], *latent[1:]))
        if looks is not None and tuple(looks.out_shape) != tuple(posterior_family.params):
            raise ShapeError(
                f"{type(looks).__name__} gives {tuple(looks.out_shape)} to a {type(posterior_family).__name__}",
                expected=f"{tuple(posterior_family.params)}",
            )

    def prior(self, state: Tensor | None, y: Tensor | None, infer: Infer | None) -> Distribution:
        """Return p(z|state)."""
        return self.prior_part(_below(state))

    def posterior(self, state: Tensor | None, feature: Tensor, p: Distribution | None) -> Distribution:
        """Return q(z|x, state), from the feature `[B, ...]`."""
        seen = together(feature, _below(state), self.dims) if self.sees_state else feature
        if self.looks is not None:
            seen = folded(self.looks, (seen, self.dims))
        return self.relation(self.posterior_family(seen), self.prior(state, None, None) if p is None else p)

    def merge(self, state: Tensor | None, z: Tensor) -> Tensor:
        """Return the next state."""
        return z if self.down is None else folded(self.down, (together(z, _below(state), self.dims), self.dims))

    def posterior_parts(self) -> tuple[nn.Module, ...]:
        """Return what belongs to q alone."""
        return (self.posterior_family, *(() if self.looks is None else (self.looks,)))


def _below(state: Tensor | None) -> Tensor:
    if state is None:
        raise Incompatible("a level was put at the top of a model", fix="put a Flat or a Top group above it")
    return state


def _check_reads(name: str, network: Network, shape: tuple[int, ...]) -> None:
    if tuple(network.in_shape) != shape:
        raise ShapeError(
            f"the network `{name}` of a level reads {tuple(network.in_shape)}", expected=f"{shape}, what it is given"
        )
