"""The flat latent: one group, whose state is z itself."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from ..core.distribution import Distribution, Support
from ..core.model import Family, Group
from ..core.record import recorded
from ..core.types import Infer


@runtime_checkable
class Prior(Protocol):
    """A module whose call returns a distribution of z; `infer` lends it the posterior."""

    @property
    def support(self) -> Support | None:
        """Where z may lie; None: where the posteriors do that it is a mixture of."""
        ...

    def __call__(self, y: Tensor | None, infer: Infer | None) -> Distribution:
        """Return p(z|y)."""
        ...


def borrows(prior: Prior) -> bool:
    """Return whether a prior reads posteriors, of pseudo-inputs or of examples."""
    return bool(getattr(prior, "borrows", False))


class GroupWithPrior(Group):
    """Base of the groups whose prior is a part of its own; not a group itself."""

    def __init__(self, posterior_family: Family, prior_part: Prior) -> None:
        super().__init__()
        self.posterior_family, self.prior_part = posterior_family, prior_part
        self.prior_event = posterior_family.prior_shape
        self.borrows = borrows(prior_part)
        mixes = prior_part.support is None
        self.prior_estimated = bool(getattr(prior_part, "bound", False))
        self.prior_tempers = bool(getattr(prior_part, "tempers", False))
        self.prior_support = prior_part.support or posterior_family.support
        self.prior_space = posterior_family.space if mixes else tuple(getattr(prior_part, "space", ()))
        self.prior_discrete = posterior_family.discrete if mixes else bool(getattr(prior_part, "discrete", False))


@recorded
class Flat(GroupWithPrior):
    """One latent variable that the decoder reads directly; as the top of several groups, the state they start from.

    Args:
        posterior_family: turns the encoder's feature into q(z|x).
        prior_part: p(z) or p(z|y).
    """

    def __init__(self, posterior_family: Family, prior_part: Prior) -> None:
        super().__init__(posterior_family, prior_part)

    def prior(self, state: Tensor | None, y: Tensor | None, infer: Infer) -> Distribution:
        """Return p(z|y)."""
        return self.prior_part(y, infer)

    def posterior(self, state: Tensor | None, feature: Tensor, p: Distribution | None) -> Distribution:
        """Return q(z|x) from the encoder's feature `[B, *params]`."""
        return self.posterior_family(feature)

    def merge(self, state: Tensor | None, z: Tensor) -> Tensor:
        """Return z."""
        return z
