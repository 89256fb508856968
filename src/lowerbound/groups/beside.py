"""Groups below another one: side by side with it, or conditioned on it."""

import torch
from torch import Tensor, nn

from ..core.distribution import Distribution
from ..core.errors import Incompatible, ShapeError
from ..core.model import Family, Group, Network
from ..core.record import recorded
from ..core.types import Infer
from ..core.walk import folded
from .flat import GroupWithPrior, Prior


def joined(first: Tensor, second: Tensor | None) -> Tensor:
    """Return two sets of vectors as one, `[..., D1 + D2]`; their leading axes broadcast.

    >>> joined(torch.zeros(5, 2), torch.ones(3, 5, 4)).shape
    torch.Size([3, 5, 6])
    """
    if second is None:
        return first
    lead = torch.broadcast_shapes(first.shape[:-1], second.shape[:-1])
    return torch.cat([first.expand(*lead, -1), second.expand(*lead, -1)], -1)


def _check_below(group: Group) -> None:
    if len(group.posterior_family.event_shape) != 1:
        shape = tuple(group.posterior_family.event_shape)
        raise ShapeError(f"{type(group).__name__} was given a z of shape {shape}", expected="a vector, to join others")
    if group.borrows:
        raise Incompatible(
            f"a prior made of posteriors cannot be used in a {type(group).__name__} group: "
            "it is lent the posterior of the top group, whose z is another one",
            where="borrowed posterior x lower group",
            fix="use it in the top group, or a prior with weights of its own",
        )


@recorded
class Beside(GroupWithPrior):
    r"""A latent whose z is joined to those above it: q(z, c|x) = q(z|x) q(c|x), p(z, c) = p(z) p(c).

    Dupont 2018, arXiv 1804.00104, sec. 3, where z is continuous and c relaxed categorical.

    Args:
        posterior_family: turns the encoder's feature into q(z|x), z a vector.
        prior_part: p(z) or p(z|y).

    Raises:
        ShapeError: if z is no vector.
        Incompatible: if the prior is made of posteriors.

    >>> from lowerbound.families import Normal
    >>> from lowerbound.priors import StandardNormal
    >>> Beside(Normal((2,)), StandardNormal((2,))).merge(torch.zeros(3, 5, 4), torch.ones(3, 5, 2)).shape
    torch.Size([3, 5, 6])
    """

    def __init__(self, posterior_family: Family, prior_part: Prior) -> None:
        super().__init__(posterior_family, prior_part)
        _check_below(self)

    def prior(self, state: Tensor | None, y: Tensor | None, infer: Infer) -> Distribution:
        """Return p(z|y)."""
        return self.prior_part(y, infer)

    def posterior(self, state: Tensor | None, feature: Tensor, p: Distribution | None) -> Distribution:
        """Return q(z|x) from the encoder's feature `[B, *params]`."""
        return self.posterior_family(feature)

    def merge(self, state: Tensor | None, z: Tensor) -> Tensor:
        """Return the state with z behind it."""
        return z if state is None else joined(state, z)


@recorded
class Conditioned(GroupWithPrior):
    r"""z below the state s of the groups above: q(z|x, s), and p(z) or p(z|s).

    Below a `Flat` group of one-hot labels it is the continuous latent of M2 (`keeps_state`: the decoder reads z and the
    label; Kingma et al. 2014, arXiv 1406.5298, eq. 2 and 4), or of clusters (p(z|s), and the decoder reads z alone).

    Args:
        network: reads the encoder's feature and s, joined, and feeds the family.
        posterior_family: turns that into q(z|x, s), z a vector.
        prior_part: p(z), or a prior of a condition (`ConditionalPrior`), which is given s in its place.
        keeps_state: True if the next state is z and s joined, False if it is z alone.

    Raises:
        ShapeError: if network and family do not fit, or z or what the network reads is no vector.
        Incompatible: if the prior is made of posteriors.

    >>> from lowerbound.families import Normal
    >>> from lowerbound.networks import MLP
    >>> from lowerbound.priors import StandardNormal
    >>> q = Normal((2,))
    >>> group = Conditioned(MLP((7 + 3,), q.params), q, StandardNormal((2,)), keeps_state=True)
    >>> label = torch.eye(3)[:, None].expand(3, 5, 3)  # each of 3 labels for each of 5 rows
    >>> z = group.posterior(label, torch.zeros(5, 7), None).sample()
    >>> z.shape, group.merge(label, z).shape
    (torch.Size([3, 5, 2]), torch.Size([3, 5, 5]))
    """

    def __init__(self, network: Network, posterior_family: Family, prior_part: Prior, *, keeps_state: bool) -> None:
        super().__init__(posterior_family, prior_part)
        _check_below(self)
        if len(network.in_shape) != 1 or tuple(network.out_shape) != tuple(posterior_family.params):
            raise ShapeError(
                f"{type(network).__name__} maps {tuple(network.in_shape)} to {tuple(network.out_shape)}",
                expected=f"a vector (feature and state, joined) to {tuple(posterior_family.params)}",
            )
        self.network, self.keeps_state = network, keeps_state

    def prior(self, state: Tensor | None, y: Tensor | None, infer: Infer) -> Distribution:
        """Return p(z|state)."""
        return self.prior_part(state, infer)

    def posterior(self, state: Tensor | None, feature: Tensor, p: Distribution | None) -> Distribution:
        """Return q(z|x, state), batch shape that of the state, from the feature `[B, F]`."""
        return self.posterior_family(folded(self.network, (joined(feature, state), 1)))

    def merge(self, state: Tensor | None, z: Tensor) -> Tensor:
        """Return z, with the state behind it if it is kept."""
        return joined(z, state) if self.keeps_state else z

    def posterior_parts(self) -> tuple[nn.Module, ...]:
        """Return the network and the family of q."""
        return (self.network, self.posterior_family)
