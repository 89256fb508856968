"""Transformers that read the numbers of symbols: causal ones, and ones that see a sequence whole."""

import math
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import ShapeError, UsageError
from ..core.model import Network
from ..core.record import recorded
from .mlp import check_sizes

_SMALL = 0.02  # standard deviation of the weights at the start (Radford et al. 2019)
Past: TypeAlias = list[tuple[Tensor, Tensor]]
"""Keys and values `[N, heads, T, width]` of each layer, of the symbols read so far."""


@recorded
class Transformer(Network):
    """Transformer blocks on embedded symbols, normalised first (Vaswani et al. 2017, arXiv 1706.03762, sec. 3).

    Positions are sines of sec. 3.5, so the weights fit every length. The output at place t depends on the symbols up to
    t alone, that at t included, if it is causal.

    Args:
        in_shape: (T,), the most symbols that are read.
        out_shape: (T, values at each place).
        symbols: how many symbols there are, numbered from 0.
        width: of the embedding, an even multiple of `heads`.
        heads: of the attention.
        layers: number of blocks.
        causal: False lets every place see all.
        context: size of a vector that every place reads, too; 0 for none.

    Raises:
        ShapeError: if the output has not one row for each symbol.
        UsageError: if a size is no whole number above 0, or the width does not divide into heads.

    >>> network = Transformer((9,), (9, 4), symbols=5, width=8, context=2)
    >>> network(torch.zeros(3, 6, dtype=torch.long), torch.zeros(3, 2)).shape  # fewer symbols are read as well
    torch.Size([3, 6, 4])
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        symbols: int,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        context: int = 0,
        *,
        causal: bool = True,
    ) -> None:
        super().__init__()
        check_sizes("sizes of a transformer", (*in_shape, *out_shape, symbols, width, heads, layers))
        if width % (2 * heads):
            raise UsageError(f"a width of {width} cannot be that of {heads} heads", expected="a multiple of 2 x heads")
        if len(in_shape) != 1 or len(out_shape) != 2 or out_shape[0] != in_shape[0]:
            raise ShapeError(f"a transformer from {in_shape} to {out_shape}", expected="(T,) and (T, values)")
        self.in_shape, self.out_shape, self.context = tuple(in_shape), tuple(out_shape), context
        self.symbols, self.causal = symbols, causal
        self.embedding = nn.Embedding(symbols, width)
        self.reads = nn.Linear(context, width, bias=False) if context else None
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, out_shape[1])
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding) and not module.weight.is_meta:
                nn.init.normal_(module.weight, std=_SMALL if isinstance(module, nn.Embedding) else width**-0.5)
        self.register_buffer("places", _sines(in_shape[0], width), persistent=False)

    places: Tensor

    def start_at(self, bias: Tensor) -> None:
        """Set the output's bias to the mean over the places of `bias` `[T, values]`."""
        self.out.bias.copy_(bias.mean(0))

    def forward(self, tokens: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Map numbers `[N, t]`, t <= T, and a context `[N, *]`, to `[N, t, values]`.

        Args:
            tokens: whole numbers.
            context: read by every place.
            mask: 1 where a symbol may be seen, `[N, t]`, the first always; for networks that are not causal.
        """
        h, _ = self._through(tokens, context, None, None if mask is None else mask.bool()[:, None, None])
        return h

    def begin(self, context: Tensor | None = None) -> tuple[Tensor | None, Past]:
        """Return the state before the first symbol, for `step`."""
        return context, []

    def step(self, token: Tensor, state: tuple[Tensor | None, Past]) -> tuple[Tensor, tuple[Tensor | None, Past]]:
        """Read one more symbol `[N]` and return the output at it `[N, values]` and the next state."""
        context, past = state
        out, past = self._through(token[:, None], context, past, None)
        return out[:, 0], (context, past)

    def _through(
        self, tokens: Tensor, context: Tensor | None, past: Past | None, seen: Tensor | None
    ) -> tuple[Tensor, Past]:
        start = past[0][0].shape[2] if past else 0
        if start + tokens.shape[1] > self.in_shape[0]:
            raise ShapeError(
                f"a transformer was given {start + tokens.shape[1]} symbols", expected=f"{self.in_shape[0]} at most"
            )
        if self.reads is not None and (context is None or context.shape[-1] != self.context):
            given = None if context is None else tuple(context.shape[1:])
            raise ShapeError(f"a transformer was given a context of shape {given}", expected=f"({self.context},)")
        h = self.embedding(tokens) + self.places[start : start + tokens.shape[1]].to(self.embedding.weight)
        if self.reads is not None and context is not None:
            h = h + self.reads(context)[:, None]
        kept: Past = []
        for i, block in enumerate(self.blocks):
            h, pair = block(h, past[i] if past else None, seen, causal=self.causal and start == 0)
            kept.append(pair)
        return self.out(self.norm(h)), kept


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.reads = nn.Linear(width, 3 * width, bias=False)
        self.writes = nn.Linear(width, width)
        self.body = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(
        self, h: Tensor, past: tuple[Tensor, Tensor] | None, seen: Tensor | None, *, causal: bool
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        parts = self.reads(self.first(h)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        looked = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, is_causal=causal)
        h = h + self.writes(looked.transpose(1, 2).flatten(2))
        return h + self.body(self.second(h)), (key, value)


def _sines(length: int, width: int) -> Tensor:
    """Return the sines and cosines of each place, `[length, width]` (arXiv 1706.03762, sec. 3.5)."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
