"""Coupling flows: one part of the dimensions is mapped by parameters that the other part gives."""

import torch
from torch import Tensor, nn

from ..core.distribution import wide
from .base import Flow
from .elements import Elements

START = 0.01
"""Factor on the weights of the last layer, so that a flow starts near the identity and every weight has a gradient."""


class Conditioner(nn.Module):
    """A network of x and a context whose leading axes broadcast; the context's part is computed once for all samples.

    Args:
        inputs: size of x; may be 0.
        outputs: size of the output.
        hidden: widths of the hidden layers, at least one.
        context: size of the context, 0 for none.
    """

    def __init__(self, inputs: int, outputs: int, hidden: tuple[int, ...], context: int = 0) -> None:
        super().__init__()
        first, *more = hidden
        self.from_x = nn.Linear(inputs, first) if inputs else None
        self.from_context = nn.Linear(context, first) if context else None
        self.neither = None if inputs or context else nn.Parameter(torch.zeros(first))
        layers: list[nn.Module] = [nn.ReLU()]
        for size, width in zip(hidden, more, strict=False):
            layers += [nn.Linear(size, width), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.out = nn.Linear(hidden[-1], outputs)
        with torch.no_grad():
            self.out.weight.mul_(START)
            self.out.bias.zero_()

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return `[..., outputs]`."""
        first = None if self.from_x is None else self.from_x(x)
        if self.from_context is not None and context is not None:
            given = self.from_context(context)
            first = given if first is None else first + given
        if first is None:
            assert self.neither is not None, "a conditioner that reads a context was given none"
            first = self.neither
        return self.out(self.body(first))


class Coupling(Flow):
    r"""y = (f(b; theta(a, context)), a) for x = (a, b): the two parts change places, so that couplings can follow.

    Dinh et al. 2017, "Density estimation using Real NVP", arXiv 1605.08803, eq. 7-8. Both directions cost one pass of
    the network.

    Args:
        size: number of dimensions D.
        keep: size of a; 0 leaves nothing to read but the context.
        elements: the map f of one dimension.
        hidden: widths of the network's hidden layers.
        context: size of the context it reads, 0 for none.

    >>> from lowerbound.flows import Affine
    >>> flow = Coupling(5, 2, Affine(), hidden=(8,))
    >>> flow(torch.arange(5.0))[0][3:].tolist()  # a, which comes last
    [0.0, 1.0]
    """

    def __init__(
        self, size: int, keep: int, elements: Elements, hidden: tuple[int, ...] = (128,), context: int = 0
    ) -> None:
        super().__init__()
        self.keep, self.moved, self.elements, self.reads = keep, size - keep, elements, context
        self.network = Conditioner(keep, self.moved * elements.count, tuple(hidden), context)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return (f(b), a) and the log-determinant."""
        a, b = x.split([self.keep, self.moved], -1)
        b, log_slope = self.elements(b, self._raw(a, context))
        return torch.cat([b, a.expand(*b.shape[:-1], self.keep)], -1), log_slope.sum(-1).expand(b.shape[:-1])

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return (a, f^-1(b)) and the log-determinant."""
        b, a = y.split([self.moved, self.keep], -1)
        b, log_slope = self.elements.inverse(b, self._raw(a, context))
        return torch.cat([a.expand(*b.shape[:-1], self.keep), b], -1), log_slope.sum(-1).expand(b.shape[:-1])

    def _raw(self, a: Tensor, context: Tensor | None) -> Tensor:
        # The parameters of one kind lie together, so that reading one of them copies nothing.
        return wide(self.network(a, context)).unflatten(-1, (self.elements.count, self.moved)).transpose(-1, -2)
