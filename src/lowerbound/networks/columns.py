"""What a network sees of a table: categories one-hot, and which cells are observed."""

from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.model import Network
from ..core.record import recorded


def width_of(sizes: tuple[int, ...], *, masked: bool) -> int:
    """Return how many values `ColumnInputs` gives the network inside for columns of these sizes.

    >>> width_of((0, 1, 3), masked=True)
    8
    """
    return sum(max(size, 1) for size in sizes) + masked * len(sizes)


@recorded
class ColumnInputs(Network):
    """Another network behind columns: categories become one-hot, and a mask, if it is read, is appended.

    A missing cell is 0 in all its values, which alone would look like a column's mean; the mask tells them apart.

    Args:
        network: the network inside, with `in_shape` (width_of(sizes, masked=masked),).
        sizes: for each column 0 (real), 1 (0/1) or the number of its categories.
        masked: True if it reads which cells are observed.

    >>> from lowerbound.networks import MLP
    >>> inside = MLP((width_of((0, 3), masked=True),), (5,), hidden=())
    >>> ColumnInputs(inside, (0, 3), masked=True)(torch.zeros(7, 2), None, None).shape
    torch.Size([7, 5])
    """

    def __init__(self, network: Network, sizes: tuple[int, ...], *, masked: bool = False) -> None:
        super().__init__()
        self.network, self.sizes, self.reads_mask = network, tuple(sizes), masked
        # neighbours of one width go through one kernel: a kernel for each column would cost a wide table its speed
        self.runs = [(width, len(list(run))) for width, run in groupby(max(size, 1) for size in self.sizes)]
        self.in_shape, self.out_shape, self.condition = (len(sizes),), network.out_shape, network.condition

    def start_at(self, bias: Tensor) -> None:
        """Pass on to the network inside."""
        self.network.start_at(bias)

    def forward(self, x: Tensor, y: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Map rows `[N, D]`, labels `[N, C]` if conditional, and a mask `[N, D]` to `[N, *out_shape]`."""
        self.check(x, y)
        known = torch.ones_like(x) if mask is None else mask.to(x.dtype)
        counts = [count for _, count in self.runs]
        parts = [
            (F.one_hot(part.long(), width) * seen[..., None]).flatten(1) if width > 1 else part * seen
            for (width, _), part, seen in zip(self.runs, x.split(counts, 1), known.split(counts, 1), strict=True)
        ]
        if self.reads_mask:
            parts.append(known)
        return self.network(torch.cat(parts, 1), y)
