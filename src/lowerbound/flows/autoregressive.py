"""Autoregressive flows: the map of each dimension depends on the dimensions before it."""

from bisect import bisect_left

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.distribution import wide
from .base import Flow
from .coupling import START
from .elements import Elements


class MaskedLinear(nn.Module):
    """A linear layer whose weights are 0 where an input may not reach an output.

    Args:
        before: degree of each input.
        after: degree of each output, in order; it reads the inputs of no higher degree.
    """

    mask: Tensor

    def __init__(self, before: list[int], after: list[int]) -> None:
        super().__init__()
        self.linear = nn.Linear(len(before), len(after))
        self.register_buffer("mask", torch.tensor(before) <= torch.tensor(after)[:, None], persistent=False)
        self.degrees = after

    def weight(self) -> Tensor:
        """Return the weights that are left."""
        return self.linear.weight * self.mask

    def place(self, degree: int) -> int:
        """Return the place of the first output of this degree or a higher one; outputs are sorted by degree."""
        return bisect_left(self.degrees, degree)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product with the weights that are left, and the bias."""
        return F.linear(x, self.weight(), self.linear.bias)


def masked_network(size: int, context: int, count: int, hidden: tuple[int, ...]) -> nn.Sequential:
    """Return a network of (x, context) whose outputs `[size * count]` for dimension d read x_1 .. x_{d-1} alone.

    Germain et al. 2015, arXiv 1502.03509, eq. 8-9: a unit of degree g reads what has no higher degree; x_d has degree
    d, the context 0, hidden units have degrees 0 .. D - 1 in order, and what dimension d is given has degree d - 1.
    """
    degrees = [*range(1, size + 1), *[0] * context]
    layers: list[nn.Module] = []
    for width in hidden:
        after = sorted(unit % size for unit in range(width))
        layers += [MaskedLinear(degrees, after), nn.SiLU()]
        degrees = after
    last = MaskedLinear(degrees, sorted([*range(size)] * count))
    with torch.no_grad():
        last.linear.weight.mul_(START)
        last.linear.bias.zero_()
    return nn.Sequential(*layers, last)


class Autoregressive(Flow):
    r"""y_d = f(x_d; theta_d(x_1, ..., x_{d-1}, context)), with all theta from one masked network.

    Germain et al. 2015 (MADE), arXiv 1502.03509. Forward is one pass of the network: the step of an inverse
    autoregressive flow (Kingma et al. 2016, arXiv 1606.04934, sec. 3). The inverse goes from dimension to dimension.
    Backwards it is the step of a masked autoregressive flow (Papamakarios et al. 2017, arXiv 1705.07057).

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
        """Return x and the log-determinant, dimension by dimension; each weight of the network is used once.

        A unit of degree g reads x_1 .. x_g alone, so it is computed when these are known and not again: all dimensions
        together cost about one pass.
        """
        layers = self._layers()
        weights = [layer.weight() for layer in layers]
        waiting = self._from_context(y, context)
        x, total = y[..., :0], y.new_zeros(())
        for d in range(self.size):
            raw, waiting = self._advance(x, waiting, weights, layers)
            value, log_slope = self.elements.inverse(y[..., d : d + 1], raw)
            x = torch.cat([x.expand(*value.shape[:-1], d), value], -1)
            total = total + log_slope[..., 0]
        return x, total

    def _from_context(self, x: Tensor, context: Tensor | None) -> list[Tensor]:
        """Return, for each layer, what its units are given so far: the bias, and in the first the context's share."""
        given = x.new_ones(1) if not self.reads or context is None else context
        first, *others = self._layers()
        return [F.linear(given, first.weight()[:, self.size :], first.linear.bias), *(o.linear.bias for o in others)]

    def _advance(
        self, x: Tensor, waiting: list[Tensor], weights: list[Tensor], layers: list[MaskedLinear]
    ) -> tuple[Tensor, list[Tensor]]:
        """Compute in all layers the units whose degree is the number of dimensions known, x `[..., degree]`.

        Returns:
            what the next dimension is given, `[..., 1, count]`, and what the units of higher degrees are given so far.
        """
        degree, later, units = x.shape[-1], [], x
        for i, (layer, weight, so_far) in enumerate(zip(layers, weights, waiting, strict=True)):
            start, stop = layer.place(degree), layer.place(degree + 1)
            if i == 0:
                new = so_far[..., : stop - start] + F.linear(x, weight[start:stop, :degree])
            else:
                columns = slice(layers[i - 1].place(degree), layers[i - 1].place(degree + 1))
                so_far = so_far + F.linear(units, weight[start:, columns])
                new = so_far[..., : stop - start].clone()  # a copy, so that the rest is not kept for the gradient
            later.append(so_far[..., stop - start :])
            units = F.silu(new) if i + 1 < len(layers) else new
        return wide(units).unflatten(-1, (1, self.elements.count)), later

    def _layers(self) -> list[MaskedLinear]:
        return [layer for layer in self.network if isinstance(layer, MaskedLinear)]

    def _raw(self, x: Tensor, context: Tensor | None) -> Tensor:
        given = x.new_ones(1) if not self.reads or context is None else context
        lead = torch.broadcast_shapes(x.shape[:-1], given.shape[:-1])
        inputs = torch.cat([x.expand(*lead, self.size), given.expand(*lead, given.shape[-1])], -1)
        return wide(self.network(inputs)).unflatten(-1, (self.size, self.elements.count))
