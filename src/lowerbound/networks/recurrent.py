"""Gated recurrent units that read the numbers of symbols, one after the other."""

import torch
from torch import Tensor, nn

from ..core.errors import ShapeError
from ..core.model import Network
from ..core.record import recorded
from .mlp import check_sizes


class Cells(nn.Module):
    """The weights of `nn.GRU` and its kernel, called so that the whole pass can become one graph.

    Args:
        inputs: size of what is read at each place.
        width: of the state.
        layers: one above the other.
    """

    def __init__(self, inputs: int, width: int, layers: int = 1) -> None:
        super().__init__()
        self.width, self.layers = width, layers
        sizes = [size for i in range(layers) for size in ((width if i else inputs), width, 0, 0)]
        bound = width**-0.5
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(3 * width, *([size] if size else [])).uniform_(-bound, bound)) for size in sizes
        )

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read `[N, T, inputs]` from a state `[layers, N, width]` on; return all outputs `[N, T, width]` and the next.

        Without a state it starts at 0.
        """
        weights = list(self.weights)
        if state is None:
            state = x.new_zeros(self.layers, x.shape[0], self.width)
        return torch.gru(x, state.to(x), weights, True, self.layers, 0.0, self.training, False, True)  # noqa: FBT003


@recorded
class Recurrent(Network):
    """A GRU on embedded symbols (Cho et al. 2014, arXiv 1406.1078, eq. 5 to 8): the output at t depends on 0 to t.

    Its state starts at a linear map of the context, and every place reads the context, too.

    Args:
        in_shape: (T,), the most symbols that are read.
        out_shape: (T, values at each place).
        symbols: how many symbols there are, numbered from 0.
        width: of embedding and state.
        layers: one above the other.
        context: size of a vector that every place reads; 0 for none.

    Raises:
        ShapeError: if the output has not one row for each symbol.

    >>> network = Recurrent((9,), (9, 4), symbols=5, width=8, context=2)
    >>> network(torch.zeros(3, 6, dtype=torch.long), torch.zeros(3, 2)).shape  # fewer symbols are read as well
    torch.Size([3, 6, 4])
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        symbols: int,
        width: int = 64,
        layers: int = 1,
        context: int = 0,
    ) -> None:
        super().__init__()
        check_sizes("sizes of a recurrent network", (*in_shape, *out_shape, symbols, width, layers))
        if len(in_shape) != 1 or len(out_shape) != 2 or out_shape[0] != in_shape[0]:
            raise ShapeError(f"a recurrent network from {in_shape} to {out_shape}", expected="(T,) and (T, values)")
        self.in_shape, self.out_shape, self.context = tuple(in_shape), tuple(out_shape), context
        self.symbols, self.layers = symbols, layers
        self.embedding = nn.Embedding(symbols, width)
        self.first = nn.Linear(context, layers * width) if context else None
        self.cells = Cells(width + context, width, layers)
        self.out = nn.Linear(width, out_shape[1])

    def start_at(self, bias: Tensor) -> None:
        """Set the output's bias to the mean over the places of `bias` `[T, values]`."""
        self.out.bias.copy_(bias.mean(0))

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """Map numbers `[N, t]`, t <= T, and a context `[N, *]`, to `[N, t, values]`."""
        if tokens.shape[1] > self.in_shape[0]:
            raise ShapeError(f"{tokens.shape[1]} symbols were given", expected=f"{self.in_shape[0]} at most")
        return self._through(tokens, self.begin(context))[0]

    def begin(self, context: Tensor | None = None) -> tuple[Tensor | None, Tensor | None]:
        """Return the state before the first symbol, for `step`."""
        if self.first is None:
            return None, None
        if context is None or context.shape[-1] != self.context:
            given = None if context is None else tuple(context.shape[1:])
            raise ShapeError(f"a GRU was given a context of shape {given}", expected=f"({self.context},)")
        start = self.first(context).unflatten(-1, (self.layers, -1)).transpose(0, 1).tanh().contiguous()
        return start, context

    def step(
        self, token: Tensor, state: tuple[Tensor | None, Tensor | None]
    ) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
        """Read one more symbol `[N]` and return the output at it `[N, values]` and the next state."""
        out, state = self._through(token[:, None], state)
        return out[:, 0], state

    def _through(
        self, tokens: Tensor, state: tuple[Tensor | None, Tensor | None]
    ) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
        now, context = state
        read = self.embedding(tokens)
        if context is not None:
            read = torch.cat([read, context[:, None].expand(*read.shape[:2], -1).to(read)], -1)
        out, now = self.cells(read, now)
        return self.out(out), (now, context)
