"""A multilayer perceptron whose layers gate themselves."""

from math import prod

import torch
from torch import Tensor, nn

from ..core.errors import UsageError
from ..core.model import Network
from ..core.record import recorded
from .mlp import check_sizes, he_initialised


class GatedLinear(nn.Module):
    r"""h = (W x + b) * sigmoid(V x + c) (Dauphin et al. 2017, arXiv 1612.08083, eq. 1).

    Args:
        inputs: size of x.
        outputs: size of h.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.both = nn.Linear(inputs, 2 * outputs)
        he_initialised(self.both)

    def forward(self, x: Tensor) -> Tensor:
        """Return h `[N, outputs]`."""
        return nn.functional.glu(self.both(x), -1)


@recorded
class GatedMLP(Network):
    """Gated linear layers and a linear output (Tomczak & Welling 2018, arXiv 1705.07120, sec. 5.1).

    Args:
        in_shape: shape of one input, flattened.
        out_shape: shape of one output.
        hidden: width of each hidden layer.
        condition: size of y, appended to the input; 0 without a condition.

    Raises:
        UsageError: if a size is no whole number above 0, or there is no hidden layer.

    >>> GatedMLP((1, 28, 28), (2, 40), hidden=(300, 300))(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 2, 40])
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        hidden: tuple[int, ...] = (300, 300),
        condition: int = 0,
    ) -> None:
        super().__init__()
        check_sizes("hidden sizes", tuple(hidden))
        check_sizes("network sizes", (*in_shape, *out_shape))
        if not hidden:
            raise UsageError("a gated network has no hidden layer", expected="hidden sizes, such as 300,300")
        self.in_shape, self.out_shape, self.condition = tuple(in_shape), tuple(out_shape), condition
        widths = (prod(in_shape) + condition, *hidden)
        self.body = nn.Sequential(*(GatedLinear(a, b) for a, b in zip(widths, hidden, strict=False)))
        self.out = nn.Linear(hidden[-1], prod(out_shape))

    def start_at(self, bias: Tensor) -> None:
        """Set the last layer's bias so that input 0 gives about `bias` `[*out_shape]`."""
        self.out.bias.copy_(bias.flatten())

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map x `[N, *in_shape]`, and y `[N, C]` if conditional, to `[N, *out_shape]`."""
        self.check(x, y)
        flat = x.flatten(1)
        if self.condition and y is not None:
            flat = torch.cat([flat, y], 1)
        return self.out(self.body(flat)).unflatten(1, self.out_shape)
