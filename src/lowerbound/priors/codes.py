"""Priors of codes: uniform, and autoregressive."""

from math import log, prod

import torch
from torch import Size, Tensor, nn

from ..core.distribution import Distribution, Sizes, Support
from ..core.errors import UsageError
from ..core.record import recorded
from ..core.types import Infer


class UniformOverCodes(Distribution):
    """Independent codes, each of `classes` with the same probability; a code is a whole number from 0 on."""

    def __init__(self, zero: Tensor, classes: int) -> None:
        super().__init__(Size(()), zero.shape)
        self.zero, self.classes = zero, classes

    @property
    def centre(self) -> Tensor:
        """Codes 0: none is more probable."""
        return self.zero.long()

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Draw codes `[*sample_shape, *event]`."""
        shape = self._extended_shape(Size(sample_shape))
        return torch.randint(self.classes, shape, device=self.zero.device)

    def log_prob(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return -n log(classes) for n codes."""
        batch = value.shape[: value.ndim - self.zero.ndim]
        return self.zero.new_full(batch, -self.zero.numel() * log(self.classes))


@recorded
class UniformCodes(nn.Module):
    r"""P(codes) = classes^-n for n codes: the rate of a quantiser is n log(classes) nats (van den Oord et al. 2017).

    van den Oord et al. 2017, arXiv 1711.00937, sec. 3.1.

    Args:
        event_shape: (stages, *places).
        classes: number of codes of each place and stage.

    Raises:
        UsageError: if there are fewer than two classes.

    >>> round(UniformCodes((1, 7, 7), 128)(None, None).log_prob(torch.zeros(1, 7, 7)).item(), 3)  # 49 log 128
    -237.749
    """

    support: Support = "codes"
    discrete = True
    zero: Tensor

    def __init__(self, event_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.event_shape, self.classes = check_codes(event_shape, classes)
        self.register_buffer("zero", torch.zeros(self.event_shape), persistent=False)

    def forward(self, y: Tensor | None, infer: Infer | None) -> UniformOverCodes:
        """Return the uniform distribution, whatever y is."""
        return UniformOverCodes(self.zero, self.classes)


def check_codes(event_shape: tuple[int, ...], classes: int) -> tuple[tuple[int, ...], int]:
    """Return the shape and number of codes.

    Raises:
        UsageError: if there is no code, or nothing to choose.
    """
    if not event_shape or prod(event_shape) < 1:
        raise UsageError(f"there are no codes in {tuple(event_shape)}", expected="(stages, *places)")
    if not isinstance(classes, int) or classes < 2:
        raise UsageError(f"a place cannot choose from {classes} codes", expected="a whole number, 2 or more")
    return tuple(event_shape), classes
