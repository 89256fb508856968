"""The exemplar prior: a mixture of normals around the codes of training examples."""

from typing import cast

import torch
from torch import Tensor, nn

from ..core.distribution import Support
from ..core.errors import UsageError
from ..core.model import Starting
from ..core.record import recorded
from ..core.types import Batch, Infer
from ..families.mixture import Mixture
from ..families.normal import SharedNormal
from .vamp import lent, seen_of


@recorded
class ExemplarPrior(Starting, nn.Module):
    r"""p(z) = 1/M sum_n N(z; mu(x_n), sigma^2 I) over training examples x_n (Norouzi et al. 2020, arXiv 2004.04795).

    mu(x) is the mean of q(z|x), lent by `infer`; one sigma is learned for all (sec. 3 of the paper). In training an
    example is left out of its own prior, which then has M - 1 components, or it would learn by heart:
    p(z|x_i) = 1/(M - 1) sum_{n != i} N(z; mu(x_n), sigma^2 I). The paper uses every training example, and in training
    an approximation by nearest neighbours; here M of them, drawn once, are used in full.

    Args:
        event_shape: shape of z.
        in_shape: shape of one example.
        exemplars: their number M.
        masked: True if the examples may have missing cells, so that it is kept which.

    Raises:
        UsageError: if there are not two exemplars at least.

    >>> from lowerbound.families import FixedNormal
    >>> prior = ExemplarPrior((3,), (3,), exemplars=4)
    >>> p = prior(None, lambda x, y, mask: FixedNormal((3,))(x))
    >>> p.log_prob(torch.zeros(5, 3)).shape
    torch.Size([5])
    """

    support: Support = "real"
    borrows = True
    inputs: Tensor
    places: Tensor
    observed: Tensor | None

    def __init__(
        self, event_shape: tuple[int, ...], in_shape: tuple[int, ...], exemplars: int = 500, *, masked: bool = False
    ) -> None:
        super().__init__()
        if exemplars < 2:
            raise UsageError(f"there cannot be {exemplars} exemplars", expected="at least 2: each is left out once")
        self.event_shape, self.in_shape, self.wants = tuple(event_shape), tuple(in_shape), exemplars
        self.around = SharedNormal(self.event_shape)
        self.register_buffer("inputs", torch.zeros(exemplars, *self.in_shape))
        self.register_buffer("places", torch.full((exemplars,), -1))
        self.register_buffer("observed", torch.ones_like(self.inputs) if masked else None)

    def start_from(self, examples: Batch) -> None:
        """Keep what the encoder sees of these examples, and their row numbers."""
        seen = seen_of(examples)
        chosen = torch.arange(self.wants) % len(seen)
        self.inputs.copy_(seen[chosen])
        if examples.index is not None:
            self.places.copy_(examples.index[chosen])
        if self.observed is not None and examples.mask is not None:
            self.observed.copy_(examples.mask[chosen])

    def forward(self, y: Tensor | None, infer: Infer | None) -> Mixture:
        """Return the mixture; where `infer.index` says which rows are scored, each without itself, batch `[B]`."""
        codes = lent(infer, self)(self.inputs, None, self.observed).mean
        index = cast("Tensor | None", getattr(infer, "index", None))
        log_weights = codes.new_zeros(self.wants)
        if index is not None:
            own = self.places == index[:, None]  # [B, M]
            log_weights = log_weights.masked_fill(own, -torch.inf)
        return Mixture(self.around(codes), log_weights)
