"""The VampPrior: a mixture of posteriors of learned pseudo-inputs."""

from typing import Literal

import torch
from torch import Tensor, nn

from ..core.errors import ShapeError, UsageError
from ..core.model import Starting
from ..core.record import recorded
from ..core.types import Batch, Infer
from ..families.mixture import Mixture

_EDGE = 0.02  # how far from 0 and 1 a pseudo-input starts: nearer, its sigmoid would hardly move
_APART = 0.01


@recorded
class VampPrior(Starting, nn.Module):
    r"""p(z) = 1/M sum_m q(z|u_m), with learned pseudo-inputs u_m (Tomczak & Welling 2018, arXiv 1705.07120, eq. 10).

    The posterior is the encoder's own, lent by `infer`, so its weights are stored once and learn from the prior too.
    The pseudo-inputs start at random training examples. For values in [0, 1] they are sigmoids of what is learned
    (the authors clip to [0, 1] instead, where the gradient vanishes); real values are learned as they are. An encoder
    that reads which cells are missing takes pseudo-inputs for complete examples.

    Args:
        event_shape: shape of z.
        in_shape: shape of one example.
        pseudo_inputs: their number M.
        values: "unit" for data in [0, 1] (binary ones included), "real" for others.

    Raises:
        UsageError: if there is no pseudo-input, or `values` is neither.

    >>> from lowerbound.families import Normal
    >>> prior = VampPrior((2,), (3,), pseudo_inputs=5)
    >>> p = prior(None, lambda u: Normal((2,))(torch.stack([u[:, :2], u[:, 1:]], 1)))
    >>> p.log_prob(torch.zeros(4, 2)).shape
    torch.Size([4])
    """

    support = None  # z lies where the posteriors do
    borrows = True
    learns_inputs = True

    def __init__(
        self,
        event_shape: tuple[int, ...],
        in_shape: tuple[int, ...],
        pseudo_inputs: int = 500,
        values: Literal["real", "unit"] = "real",
    ) -> None:
        super().__init__()
        if pseudo_inputs < 1:
            raise UsageError(f"there cannot be {pseudo_inputs} pseudo-inputs", expected="at least 1")
        if values not in ("real", "unit"):
            raise UsageError(f"there are no pseudo-inputs of {values!r} values", expected="real or unit")
        self.event_shape, self.in_shape = tuple(event_shape), tuple(in_shape)
        self.wants, self.values = pseudo_inputs, values
        self.raw = nn.Parameter(torch.randn(pseudo_inputs, *self.in_shape))

    @property
    def inputs(self) -> Tensor:
        """The pseudo-inputs, `[M, *in_shape]`."""
        return self.raw.sigmoid() if self.values == "unit" else self.raw

    def start_from(self, examples: Batch) -> None:
        """Start at what the encoder sees of these examples; those used twice, for lack of others, are moved apart."""
        seen = seen_of(examples)
        start = torch.logit(seen, eps=_EDGE) if self.values == "unit" else seen
        places = torch.arange(self.wants) % len(start)
        again = (torch.arange(self.wants) >= len(start)).reshape(-1, *(1 for _ in self.in_shape))
        self.raw.copy_(start[places] + _APART * again * torch.randn(self.raw.shape))

    def forward(self, y: Tensor | None, infer: Infer | None) -> Mixture:
        """Return the mixture of the pseudo-inputs' posteriors."""
        return Mixture(lent(infer, self)(self.inputs), self.raw.new_zeros(self.wants))


def seen_of(examples: Batch) -> Tensor:
    """Return what the encoder sees of examples; missing cells, whatever they hold, are 0."""
    seen = examples.x if examples.seen is None else examples.seen
    return seen if examples.mask is None else torch.where(examples.mask.bool(), seen, 0.0)


def lent(infer: Infer | None, prior: nn.Module) -> Infer:
    """Return `infer`, or raise ShapeError: a prior made of posteriors is nothing without them."""
    if infer is None:
        raise ShapeError(f"a {type(prior).__name__} was lent no posterior", fix="ask the model: model.sample(...)")
    return infer
