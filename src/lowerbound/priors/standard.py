"""Priors without learned parts, and the normal prior that reads a condition."""

import torch
from torch import Tensor, nn

from ..core.distribution import Distribution, Support
from ..core.errors import ShapeError
from ..core.model import NEEDS_Y, Conditional
from ..core.record import recorded
from ..core.types import Infer
from ..families.normal import DiagonalNormal


@recorded
class StandardNormal(nn.Module):
    r"""p(z) = N(0, I) (Kingma & Welling 2014, arXiv 1312.6114, sec. 3).

    Args:
        event_shape: shape of z.

    >>> StandardNormal((3,))(None, None).log_prob(torch.zeros(3)).item()  # -3/2 log(2 pi)
    -2.756815...
    """

    support: Support = "real"
    zero: Tensor
    one: Tensor

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.register_buffer("zero", torch.zeros(self.event_shape), persistent=False)
        self.register_buffer("one", torch.ones(self.event_shape), persistent=False)

    def forward(self, y: Tensor | None, infer: Infer | None) -> DiagonalNormal:
        """Return N(0, I), whatever y is."""
        return DiagonalNormal(self.zero, self.one, len(self.event_shape))


@recorded
class ConditionalPrior(nn.Module):
    r"""p(z|y): a network of the condition y that feeds a family (Sohn et al. 2015, NeurIPS, eq. 4).

    Args:
        conditional: the network (its input is y) and the family of z.

    >>> from lowerbound.families import Normal
    >>> from lowerbound.networks import MLP
    >>> family = Normal((2,))
    >>> prior = ConditionalPrior(Conditional(MLP((10,), family.params, hidden=()), family))
    >>> prior(torch.eye(10), None).batch_shape
    torch.Size([10])
    """

    def __init__(self, conditional: Conditional) -> None:
        super().__init__()
        self.conditional = conditional
        self.event_shape = tuple(conditional.family.event_shape)
        self.support: Support = conditional.family.support

    def forward(self, y: Tensor | None, infer: Infer | None) -> Distribution:
        """Return p(z|y) with batch shape `[B]`."""
        if y is None:
            raise ShapeError("a conditional prior was given no condition y", fix=NEEDS_Y)
        return self.conditional(y)
