"""Encoders of sequences: what comes after a sequence's end changes nothing."""

from math import prod
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from ..core.errors import UsageError
from ..core.model import Network
from ..core.record import recorded
from ..core.symbols import numbers_of, present
from .mlp import check_sizes
from .recurrent import Cells
from .transformer import Transformer

Reader: TypeAlias = Literal["gru", "transformer"]
_OTHERS = 2  # numbers beside the symbols': of the start (and what follows the end), and of a cell that was not seen


@recorded
class SequenceEncoder(Network):
    """Reads a sequence of symbols both ways by GRUs, or whole by a transformer, and maps what was read to its output.

    Args:
        in_shape: shape of one example; an image is read row by row.
        out_shape: shape of one output.
        symbols: how many there are.
        reader: "gru" (Cho et al. 2014, arXiv 1406.1078) or "transformer" (Vaswani et al. 2017, arXiv 1706.03762).
        scale: value times scale is the number of a symbol.
        width: of embedding and state.
        layers: of a transformer; GRUs have one.
        heads: of a transformer.
        ends: True if a sequence ends before its first cell that is masked or holds no symbol; else all cells are read,
            and those that are masked as unknown.

    Raises:
        UsageError: if there is no such reader.

    >>> SequenceEncoder((9,), (2, 5), symbols=4, width=8, ends=True)(torch.zeros(3, 9)).shape
    torch.Size([3, 2, 5])
    """

    reads_mask = True
    rounds = True

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        symbols: int,
        reader: Reader = "gru",
        scale: int = 1,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        *,
        ends: bool = False,
    ) -> None:
        super().__init__()
        check_sizes("sizes of an encoder", (*in_shape, *out_shape, symbols, width, layers, heads))
        if reader not in ("gru", "transformer"):
            raise UsageError(f"there is no reader {reader!r}", expected="gru or transformer")
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        self.symbols, self.scale, self.ends, length = symbols, scale, ends, prod(in_shape) + 1
        self.reader, read = reader, width
        if reader == "gru":
            self.embedding, read = nn.Embedding(symbols + _OTHERS, width), 2 * width
            self.forwards, self.backwards = Cells(width, width), Cells(width, width)
        else:
            sizes = {"width": width, "heads": heads, "layers": layers}
            self.body = Transformer((length,), (length, width), symbols + _OTHERS, **sizes, causal=False)
        self.out = nn.Linear(read, prod(out_shape))

    def start_at(self, bias: Tensor) -> None:
        """Set the output's bias to `bias` `[*out_shape]`."""
        self.out.bias.copy_(bias.flatten())

    def forward(self, x: Tensor, y: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Map values `[N, *in_shape]`, and a mask of the same shape, to `[N, *out_shape]`."""
        self.check(x, y)
        flat = x.flatten(1)
        seen = torch.ones_like(flat, dtype=torch.bool) if mask is None else mask.flatten(1).bool()
        numbers = numbers_of(torch.where(seen, flat, 0.0), self.symbols, self.scale)
        if self.ends:
            there = present(numbers, self.symbols, seen)
            numbers = torch.where(there, numbers, self.symbols)
        else:
            there = torch.ones_like(seen)
            numbers = torch.where(seen, numbers, self.symbols + 1)
        numbers = torch.cat([numbers.new_full((len(numbers), 1), self.symbols), numbers], 1)
        there = torch.cat([torch.ones_like(there[:, :1]), there], 1)
        read = self._both_ways(numbers, there) if self.reader == "gru" else self._whole(numbers, there)
        return self.out(read).unflatten(1, self.out_shape)

    def _both_ways(self, numbers: Tensor, there: Tensor) -> Tensor:
        """Return both states at the last symbol that each way reads, `[N, 2 * width]`."""
        last = there.sum(1) - 1
        places = torch.arange(numbers.shape[1], device=numbers.device)
        turned = numbers.gather(1, (last[:, None] - places).clamp_min(0))  # what follows the start again is not used
        states = []
        for cells, read in ((self.forwards, numbers), (self.backwards, turned)):
            out, _ = cells(self.embedding(read))
            states.append(out.gather(1, last[:, None, None].expand(-1, 1, out.shape[-1]))[:, 0])
        return torch.cat(states, 1)

    def _whole(self, numbers: Tensor, there: Tensor) -> Tensor:
        """Return the mean over the symbols of what a transformer gives, `[N, width]`."""
        out, share = self.body(numbers, None, there), there[..., None].to(self.out.weight)
        return (out * share).sum(1) / share.sum(1)
