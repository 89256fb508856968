"""Residual networks between images of any two sizes."""

from math import prod
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import ShapeError
from ..core.model import Network
from ..core.record import recorded
from .conv import KERNEL, PADDING, STRIDE, of_size, pyramid
from .mlp import Activation, activation_layers, check_sizes, he_initialised

Cell: TypeAlias = Literal["residual", "squeezed", "separable"]
EXPANSION, REDUCTION = 6, 16  # of channels: in separable cells, and in what looks at a whole image
_SMALL = 0.1  # of the usual weights: with it a branch begins as a correction, and an output near its bias


@recorded
class ResNet(Network):
    """Convolutions to the new size, then residual blocks of two 3 x 3 ones (He et al. 2016, arXiv 1603.05027).

    A smaller image comes from strided convolutions, a larger one from its pixels repeated. There is no normalisation:
    the last layer of each block starts small instead. Blocks may be the cells of Vahdat & Kautz 2020, arXiv 2007.03898,
    sec. 3.1: "squeezed" ones (of their encoder) weigh the channels by what is in the whole image (squeeze and
    excitation: Hu et al. 2018, arXiv 1709.01507); "separable" ones (of their generative model) also have a 5 x 5
    convolution of each channel alone, between two 1 x 1 ones, in 6 times as many channels.

    Args:
        in_shape: (channels, height, width).
        out_shape: (..., height, width); leading axes are channels.
        channels: inside.
        blocks: number of residual blocks.
        activation: before each convolution of a block.
        cell: what a block is.

    Raises:
        ShapeError: if input or output are no images.

    >>> ResNet((3, 7, 5), (2, 4, 14, 11), channels=8)(torch.zeros(6, 3, 7, 5)).shape
    torch.Size([6, 2, 4, 14, 11])
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        channels: int = 32,
        blocks: int = 1,
        activation: Activation = "silu",
        cell: Cell = "residual",
    ) -> None:
        super().__init__()
        check_sizes("channels and blocks", (channels, blocks))
        check_sizes("network sizes", (*in_shape, *out_shape))
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        if len(in_shape) != 3 or len(out_shape) < 3:
            raise ShapeError(
                f"a ResNet from {self.in_shape} to {self.out_shape}",
                expected="images: (channels, height, width)",
                fix="use an MLP recipe, such as `ladder_vae`",
            )
        self.size = (out_shape[-2], out_shape[-1])
        self.enter = nn.ModuleList(_entrance(in_shape, channels, self.size))
        self.blocks = nn.ModuleList(_Block(channels, activation, cell) for _ in range(blocks))
        self.out = nn.Conv2d(channels, prod(out_shape[:-2]), 1, bias=False)
        self.bias = nn.Parameter(
            self.out.weight.new_zeros(self.out_shape)
        )  # for each value: borders differ from centres

    def start_at(self, bias: Tensor) -> None:
        """Set the output bias to `bias` `[*out_shape]`."""
        self.bias.copy_(bias)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map images `[N, *in_shape]` to `[N, *out_shape]`."""
        self.check(x, y)
        h = x
        for conv in self.enter:
            h = conv(h)
        if h.shape[-2:] != self.size:
            larger = h.shape[-2] < self.size[0] or h.shape[-1] < self.size[1]
            h = F.interpolate(h, self.size, mode="nearest") if larger else F.adaptive_avg_pool2d(h, self.size)
        for block in self.blocks:
            h = block(h)
        return self.out(h).unflatten(1, self.out_shape[:-2]) + self.bias


@recorded
class ResNetDecoder(Network):
    """Residual blocks on a small image, then transposed convolutions that double it up to the exact output size.

    It costs a fraction of a `ResNet` that enlarges, whose blocks work on the large image.

    Args:
        in_shape: (channels, height, width).
        out_shape: (..., height, width); leading axes are channels.
        channels: inside.
        blocks: number of residual blocks.
        activation: before each convolution.

    Raises:
        ShapeError: if the output halved some number of times is not of the input's size.

    >>> ResNetDecoder((5, 3, 2), (2, 1, 14, 11), channels=8)(torch.zeros(6, 5, 3, 2)).shape
    torch.Size([6, 2, 1, 14, 11])
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        channels: int = 32,
        blocks: int = 1,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        check_sizes("channels and blocks", (channels, blocks))
        check_sizes("network sizes", (*in_shape, *out_shape))
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        if len(in_shape) != 3 or len(out_shape) < 3 or not (sizes := _doublings(in_shape, out_shape)):
            raise ShapeError(
                f"a ResNetDecoder from {self.in_shape} to {self.out_shape}",
                expected="images, the second some number of times twice as large as the first",
                fix="use a ResNet",
            )
        self.sizes = sizes[1:]
        self.enter = nn.Conv2d(in_shape[0], channels, 3, padding=1)
        self.blocks = nn.Sequential(*(_Block(channels, activation, "residual") for _ in range(blocks)))
        self.activations = nn.ModuleList(activation_layers(activation, max(1, len(self.sizes))))
        larger = [nn.ConvTranspose2d(channels, channels, KERNEL, STRIDE, PADDING) for _ in self.sizes[1:]]
        self.convs, last = nn.ModuleList(larger), prod(out_shape[:-2])
        self.out = (
            nn.ConvTranspose2d(channels, last, KERNEL, STRIDE, PADDING, bias=False)
            if self.sizes
            else nn.Conv2d(channels, last, 3, padding=1, bias=False)
        )
        self.bias = nn.Parameter(torch.zeros(self.out_shape))  # for each value: borders differ from centres

    def start_at(self, bias: Tensor) -> None:
        """Set the output bias to `bias` `[*out_shape]`."""
        self.bias.copy_(bias)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map images `[N, *in_shape]` to `[N, *out_shape]`."""
        self.check(x, y)
        h = self.blocks(self.enter(x))
        for conv, activation, size in zip(self.convs, self.activations, self.sizes, strict=False):
            h = of_size(conv(activation(h)), size)
        h = of_size(self.out(self.activations[-1](h)), (self.out_shape[-2], self.out_shape[-1]))
        return h.unflatten(1, self.out_shape[:-2]) + self.bias


class _Block(nn.Module):
    def __init__(self, channels: int, activation: Activation, cell: Cell) -> None:
        super().__init__()
        if cell == "separable":
            inside = EXPANSION * channels
            depthwise = nn.Conv2d(inside, inside, 5, padding=2, groups=inside)
            convs = [nn.Conv2d(channels, inside, 1), depthwise, nn.Conv2d(inside, channels, 1)]
        else:
            convs = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)]
        for conv in convs:
            he_initialised(conv)
        convs[-1].weight.data.mul_(_SMALL)
        layers = zip(activation_layers(activation, len(convs)), convs, strict=True)
        last = [] if cell == "residual" else [_SqueezeExcitation(channels)]
        self.body = nn.Sequential(*(layer for pair in layers for layer in pair), *last)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.body(h)


def _doublings(small: tuple[int, ...], large: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the sizes on the way from a small image to a large one; none if halving does not lead back."""
    sizes = pyramid(large[-2], large[-1], max(large[-2:]).bit_length())
    height, width = small[-2:]
    return sizes[: sizes.index((height, width)) + 1][::-1] if (height, width) in sizes else []


class _SqueezeExcitation(nn.Module):
    """Each channel times a weight in (0, 1), read from the means of all (Hu et al. 2018, eq. 2 and 3).

    Of its few hidden units, rectified ones could all be off from the start: they have the activation of the cells.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, max(channels // REDUCTION, 4))
        self.excite = nn.Linear(self.squeeze.out_features, channels)

    def forward(self, h: Tensor) -> Tensor:
        weights = self.excite(F.silu(self.squeeze(h.mean((-2, -1))))).sigmoid()
        return h * weights[..., None, None]


def _entrance(in_shape: tuple[int, ...], channels: int, size: tuple[int, int]) -> list[nn.Conv2d]:
    """Return the convolutions that come first: as many strided ones as halve the image to about the size."""
    previous, height, width = in_shape
    convs = []
    while height >= 2 * size[0] and width >= 2 * size[1]:
        convs.append(nn.Conv2d(previous, channels, KERNEL, STRIDE, PADDING))
        previous, height, width = channels, height // 2, width // 2
    return convs or [nn.Conv2d(previous, channels, 1 if height < size[0] else 3, padding=0 if height < size[0] else 1)]
