"""Convolutional networks for images of any size and any number of channels."""

from math import prod

import torch
from torch import Tensor, nn

from ..core.errors import ShapeError, UsageError
from ..core.model import Network
from ..core.record import recorded
from .mlp import Activation, activation_layers, check_sizes, he_initialised

KERNEL, STRIDE, PADDING = 4, 2, 1


def pyramid(height: int, width: int, levels: int) -> list[tuple[int, int]]:
    """Return the sizes of an image halved `levels` times (odd sizes round down, never below 1).

    >>> pyramid(28, 30, 3)
    [(28, 30), (14, 15), (7, 7), (3, 3)]
    """
    sizes = [(height, width)]
    for _ in range(levels):
        h, w = sizes[-1]
        sizes.append((max(h // 2, 1), max(w // 2, 1)))
    return sizes


def _image(shape: tuple[int, ...], what: str) -> tuple[int, int, int]:
    if len(shape) < 3:
        raise ShapeError(
            f"a convolutional network needs images, its {what} has shape {shape}",
            expected="(channels, height, width)",
            fix="use an MLP recipe, such as `vae` or `gaussian_vae`",
        )
    *lead, height, width = shape
    return prod(lead), height, width


def of_size(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images with the last row and column repeated or cut: an odd size lost one when it was halved."""
    for axis, length in ((-2, size[0]), (-1, size[1])):
        missing = length - images.shape[axis]
        # not by padding: the compiled gradient of `replication_pad2d` fails where convolutions have channels last
        if missing > 0:
            last = images.narrow(axis, images.shape[axis] - 1, 1)
            images = torch.cat([images, *[last] * missing], axis)
    return images[..., : size[0], : size[1]]


@recorded
class ConvEncoder(Network):
    """Strided convolutions, each halving the image, then one linear layer.

    Args:
        in_shape: (channels, height, width).
        out_shape: shape of one output.
        channels: channels after each convolution.
        activation: one name for all layers, or one for each.
        condition: size of y, appended as constant channels; 0 without a condition.

    Raises:
        ShapeError: if the input is no image.

    >>> ConvEncoder((3, 17, 23), (2, 5), channels=(8, 16))(torch.zeros(2, 3, 17, 23)).shape
    torch.Size([2, 2, 5])
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        channels: tuple[int, ...] = (32, 64),
        activation: Activation | tuple[Activation, ...] = "relu",
        condition: int = 0,
    ) -> None:
        super().__init__()
        check_sizes("channels", tuple(channels))
        check_sizes("network sizes", (*in_shape, *out_shape))
        self.in_shape, self.out_shape, self.condition = tuple(in_shape), tuple(out_shape), condition
        depth, height, width = _image(self.in_shape, "input")
        sizes = pyramid(height, width, len(channels))
        self.convs, previous = nn.ModuleList(), depth + condition
        for channel in channels:
            conv = nn.Conv2d(previous, channel, KERNEL, STRIDE, PADDING)
            he_initialised(conv)
            self.convs.append(conv)
            previous = channel
        self.activations = nn.ModuleList(activation_layers(activation, len(channels)))
        self.pool = nn.AdaptiveAvgPool2d(sizes[-1])  # a no-op unless an image is too small to halve again
        self.out = nn.Linear(previous * prod(sizes[-1]), prod(out_shape))

    def start_at(self, bias: Tensor) -> None:
        """Set the last layer's bias to `bias` `[*out_shape]`."""
        self.out.bias.copy_(bias.flatten())

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map images `[N, *in_shape]`, and y `[N, C]` if conditional, to `[N, *out_shape]`."""
        self.check(x, y)
        h = x.flatten(1, -3)
        if self.condition and y is not None:
            h = torch.cat([h, y[..., None, None].expand(*y.shape, *h.shape[-2:])], 1)
        for conv, activation in zip(self.convs, self.activations, strict=True):
            if min(h.shape[-2:]) < STRIDE:
                h = nn.functional.pad(h, (0, max(0, STRIDE - h.shape[-1]), 0, max(0, STRIDE - h.shape[-2])))
            h = activation(conv(h))
        return self.out(self.pool(h).flatten(1)).unflatten(1, self.out_shape)


@recorded
class ConvDecoder(Network):
    """One linear layer, then transposed convolutions, each doubling the image up to the exact output size.

    Args:
        in_shape: shape of one input, flattened.
        out_shape: (..., height, width); leading axes are channels.
        channels: channels before each doubling.
        activation: one name for all layers, or one for each.
        condition: size of y, appended to the input; 0 without a condition.

    Raises:
        ShapeError: if the output is no image.

    >>> ConvDecoder((5,), (2, 3, 17, 23), channels=(16, 8))(torch.zeros(4, 5)).shape
    torch.Size([4, 2, 3, 17, 23])
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        channels: tuple[int, ...] = (64, 32),
        activation: Activation | tuple[Activation, ...] = "relu",
        condition: int = 0,
    ) -> None:
        super().__init__()
        check_sizes("channels", tuple(channels))
        check_sizes("network sizes", (*in_shape, *out_shape))
        if not channels:
            raise UsageError("a convolutional decoder needs at least one layer", expected="channels, such as (64, 32)")
        self.in_shape, self.out_shape, self.condition = tuple(in_shape), tuple(out_shape), condition
        depth, height, width = _image(self.out_shape, "output")
        self.sizes = pyramid(height, width, len(channels))[::-1]
        self.start = (channels[0], *self.sizes[0])
        self.inner = nn.Linear(prod(in_shape) + condition, prod(self.start))
        he_initialised(self.inner)
        self.convs = nn.ModuleList()
        for i, channel in enumerate(channels):
            following = channels[i + 1] if i + 1 < len(channels) else depth
            self.convs.append(
                nn.ConvTranspose2d(channel, following, KERNEL, STRIDE, PADDING, bias=i + 1 < len(channels))
            )
        self.activations = nn.ModuleList(activation_layers(activation, len(channels)))
        self.bias = nn.Parameter(torch.zeros(self.out_shape))  # one for each output value: borders differ from centres

    def start_at(self, bias: Tensor) -> None:
        """Set the output bias to `bias` `[*out_shape]`."""
        self.bias.copy_(bias)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map x `[N, *in_shape]`, and y `[N, C]` if conditional, to images `[N, *out_shape]`."""
        self.check(x, y)
        flat = x.flatten(1)
        if self.condition and y is not None:
            flat = torch.cat([flat, y], 1)
        h = self.inner(flat).unflatten(1, self.start)
        for conv, activation, size in zip(self.convs, self.activations, self.sizes[1:], strict=True):
            h = of_size(conv(activation(h)), size)
        return h.reshape(-1, *self.out_shape) + self.bias
