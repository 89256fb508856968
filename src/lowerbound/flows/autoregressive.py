"""Autoregressive flows: the map of each dimension depends on the dimensions before it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Flow
from .coupling import START
from .elements import Elements


class MaskedLinear(nn.Module):
    """A linear layer whose weights are 0 where an input may not reach an output.

    Args:
        before: degree of each input.
        after: degree of each output; it reads the inputs of no higher degree.
    """

    mask: Tensor

    def __init__(self, before: Tensor, after: Tensor) -> None:
        super().__init__()
        self.linear = nn.Linear(len(before), len(after))
        self.register_buffer("mask", before <= after[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product with the weights that are left, and the bias."""
        return F.linear(x, self.linear.weight * self.mask, self.linear.bias)


def masked_network(size: int, context: int, count: int, hidden: tuple[int, ...]) -> nn.Sequential:
    """Return a network of (x, context) whose outputs `[size * count]` for dimension d read x_1 .. x_{d-1} alone.

    Germain et al. 2015, arXiv 1502.03509, eq. 8-9: a unit of degree g reads what has no higher degree; x_d has degree
    d, the context 0, hidden units take 0 .. D - 1 in turn, and what dimension d is given has degree d - 1.
    """
    degrees = torch.cat([torch.arange(1, size + 1), torch.zeros(context, dtype=torch.long)])
    layers: list[nn.Module] = []
    for width in hidden:
        after = torch.arange(width) % size
        layers += [MaskedLinear(degrees, after), nn.SiLU()]
        degrees = after
    last = MaskedLinear(degrees, torch.arange(size).repeat_interleave(count))
    with torch.no_grad():
        last.linear.weight.mul_(START)
        last.linear.bias.zero_()
    return nn.Sequential(*layers, last)


class Autoregressive(Flow):
    r"""y_d = f(x_d; theta_d(x_1, ..., x_{d-1}, context)), with all theta from one masked network.

    Germain et al. 2015 (MADE), arXiv 1502.03509. Forward is one pass of the network: the step of an inverse
    autoregressive flow (Kingma et al. 2016, arXiv 1606.04934, sec. 3). The inverse takes D passes, one for each
    dimension. Backwards it is the step of a masked autoregressive flow (Papamakarios et al. 2017, arXiv 1705.07057).

    Args:
        size: number of dimensions D.
        elements: the map f of one dimension.
        hidden: widths of the masked network's hidden layers.
        context: size of the context it reads, 0 for none.

    >>> from lowerbound.flows import Gate
    >>> y, log_det = Autoregressive(3, Gate(), hidden=(8,), context=2)(torch.zeros(4, 5, 3), torch.zeros(5, 2))
    >>> y.shape, log_det.shape
    (torch.Size([4, 5, 3]), torch.Size([4, 5]))
    """

    def __init__(self, size: int, elements: Elements, hidden: tuple[int, ...] = (320,), context: int = 0) -> None:
        super().__init__()
        self.size, self.elements, self.reads = size, elements, context
        # Without a context the network reads a constant, which the first dimension depends on.
        self.network = masked_network(size, max(context, 1), elements.count, hidden)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return y and the log-determinant, by one pass of the network."""
        y, log_slope = self.elements(x, self._raw(x, context))
        return y, log_slope.sum(-1)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return x and the log-determinant, by one pass of the network for each dimension."""
        x, total = y[..., :0], y.new_zeros(())
        for d in range(self.size):
            raw = self._raw(F.pad(x, (0, self.size - d)), context)[..., d : d + 1, :]
            value, log_slope = self.elements.inverse(y[..., d : d + 1], raw)
            x = torch.cat([x.expand(*value.shape[:-1], d), value], -1)
            total = total + log_slope[..., 0]
        return x, total

    def _raw(self, x: Tensor, context: Tensor | None) -> Tensor:
        given = x.new_ones(1) if not self.reads or context is None else context
        lead = torch.broadcast_shapes(x.shape[:-1], given.shape[:-1])
        inputs = torch.cat([x.expand(*lead, self.size), given.expand(*lead, given.shape[-1])], -1)
        return self.network(inputs).unflatten(-1, (self.size, self.elements.count))
