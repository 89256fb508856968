"""Fully connected networks of any depth."""

from math import prod
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from ..core.errors import UsageError
from ..core.model import Network
from ..core.record import recorded

Activation: TypeAlias = Literal["relu", "gelu", "silu", "elu", "tanh", "softplus", "leaky_relu", "none"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "leaky_relu": nn.LeakyReLU,
    "none": nn.Identity,
}


def activation_layers(names: Activation | tuple[Activation, ...], count: int) -> list[nn.Module]:
    """Return `count` activations: one name for all, or one for each.

    Raises:
        UsageError: if a name is unknown or their number is wrong.
    """
    each = (names,) * count if isinstance(names, str) else tuple(names)
    if len(each) != count:
        raise UsageError(f"{len(each)} activations for {count} hidden layers", expected="one, or one for each layer")
    for name in each:
        if name not in ACTIVATIONS:
            raise UsageError(f"there is no activation {name!r}", expected=", ".join(ACTIVATIONS))
    return [ACTIVATIONS[name]() for name in each]


def check_sizes(name: str, sizes: tuple[int, ...]) -> None:
    """Raise UsageError unless every size is a whole number above 0."""
    if any(not isinstance(s, int) or s < 1 for s in sizes):
        raise UsageError(f"{name} cannot be {sizes}", expected="whole numbers above 0")


def he_initialised(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Draw the weights from N(0, 2 / fan_in) and set the bias to 0 (He et al. 2015, arXiv 1502.01852, eq. 10)."""
    if not layer.weight.is_meta:  # without memory there is nothing to draw, and torch would load its compiler for it
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


@recorded
class MLP(Network):
    """Linear layers with activations between them; `hidden=()` is one linear map.

    Args:
        in_shape: shape of one input, flattened.
        out_shape: shape of one output.
        hidden: width of each hidden layer.
        activation: one name for all hidden layers, or one for each.
        dropout: probability of dropping a hidden unit in training.
        condition: size of y, appended to the input; 0 without a condition.
        squash: pass the output through a sigmoid, for means that must lie in [0, 1].

    >>> MLP((1, 28, 28), (2, 20), hidden=(512,))(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 2, 20])
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        hidden: tuple[int, ...] = (512,),
        activation: Activation | tuple[Activation, ...] = "relu",
        dropout: float = 0.0,
        condition: int = 0,
        *,
        squash: bool = False,
    ) -> None:
        super().__init__()
        check_sizes("hidden sizes", tuple(hidden))
        check_sizes("network sizes", (*in_shape, *out_shape))
        if not 0 <= dropout < 1:
            raise UsageError(f"dropout cannot be {dropout}", expected="0 or more and below 1")
        self.in_shape, self.out_shape, self.condition = tuple(in_shape), tuple(out_shape), condition
        self.squash, self.affine = squash, not hidden and not squash
        layers: list[nn.Module] = []
        width = prod(in_shape) + condition
        for size, act in zip(hidden, activation_layers(activation, len(hidden)), strict=True):
            linear = nn.Linear(width, size)
            he_initialised(linear)
            layers += [linear, act, nn.Dropout(dropout)] if dropout else [linear, act]
            width = size
        self.body = nn.Sequential(*layers)
        self.out = nn.Linear(width, prod(out_shape))

    def start_at(self, bias: Tensor) -> None:
        """Set the last layer's bias so that input 0 gives about `bias` `[*out_shape]`."""
        flat = bias.flatten()
        self.out.bias.copy_(torch.logit(flat, eps=1e-4) if self.squash else flat)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map x `[N, *in_shape]`, and y `[N, C]` if conditional, to `[N, *out_shape]`."""
        self.check(x, y)
        flat = x.flatten(1)
        if self.condition and y is not None:
            flat = torch.cat([flat, y], 1)
        out = self.out(self.body(flat)).unflatten(1, self.out_shape)
        return out.sigmoid() if self.squash else out
