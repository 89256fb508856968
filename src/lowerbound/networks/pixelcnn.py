"""A convolutional network in which each pixel sees only the pixels before it: rows from the top, each from the left."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import ShapeError
from ..core.model import Network
from ..core.record import recorded
from .mlp import check_sizes, he_initialised

_SMALL = 0.1  # of the usual weights: with it an output begins near its bias
_FIRST = 3  # rows and columns before a pixel that the first layer sees


@recorded
class PixelCNN(Network):
    """Gated causal convolutions: the output at a pixel depends on the pixels before it alone, and not on itself.

    Van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", arXiv 1606.05328, sec. 2.1 to 2.3
    and fig. 2: one stack sees the rows above, one the pixels to the left and what the first saw, so that no pixel is
    hidden from both. The channels of one pixel do not see each other. Kernels are shifted where others are masked.

    Args:
        in_shape: (channels, height, width).
        out_shape: (channels, height, width) of the same height and width.
        channels: inside.
        blocks: gated layers after the first; each lets a pixel see one row and one column more.
        context: channels of a map, or size of a vector, that every pixel reads, too; 0 for none.

    Raises:
        ShapeError: if input and output are no images of one size.

    >>> import torch
    >>> PixelCNN((1, 5, 4), (7, 5, 4), channels=8, context=2)(torch.zeros(3, 1, 5, 4), torch.zeros(3, 2)).shape
    torch.Size([3, 7, 5, 4])
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        channels: int = 32,
        blocks: int = 3,
        context: int = 0,
    ) -> None:
        super().__init__()
        check_sizes("channels and blocks", (channels, blocks))
        check_sizes("network sizes", (*in_shape, *out_shape))
        self.in_shape, self.out_shape, self.context = tuple(in_shape), tuple(out_shape), context
        if len(in_shape) != 3 or len(out_shape) != 3 or in_shape[1:] != out_shape[1:]:
            raise ShapeError(
                f"a PixelCNN from {self.in_shape} to {self.out_shape}",
                expected="(channels, height, width), both of the same height and width",
            )
        self.above = nn.Conv2d(in_shape[0], channels, (_FIRST, 2 * _FIRST + 1))
        self.left = nn.Conv2d(in_shape[0], channels, (1, _FIRST))
        self.joined = nn.Conv2d(channels, channels, 1)
        self.blocks = nn.ModuleList(
            _Block(channels, context, last=i + 1 == blocks) for i in range(blocks)
        )  # the last has no rows above to pass on
        self.out = nn.Conv2d(channels, out_shape[0], 1)
        for layer in (self.above, self.left, self.joined, self.out):
            he_initialised(layer)
        self.out.weight.data.mul_(_SMALL)

    @property
    def reach(self) -> int:
        """How many rows above a pixel its output depends on."""
        return _FIRST + len(self.blocks)

    def start_at(self, bias: Tensor) -> None:
        """Set the output's bias to the mean over the pixels of `bias` `[*out_shape]`."""
        assert self.out.bias is not None, "the output has a bias"
        self.out.bias.copy_(bias.flatten(1).mean(1))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Map images `[N, C, H, W]`, and a context `[N, *]` or `[N, *, H, W]`, to `[N, out, H, W]`.

        Rows may be fewer than those it was built for, but for those at the top that lie beyond `reach`.

        Raises:
            ShapeError: if there is no context where one is read.
        """
        if x.shape[1] != self.in_shape[0] or x.shape[3] != self.in_shape[2]:
            raise ShapeError(f"a PixelCNN was given images of shape {tuple(x.shape[1:])}", expected=f"{self.in_shape}")
        if self.context and (context is None or context.shape[1] != self.context):
            given = None if context is None else tuple(context.shape[1:])
            raise ShapeError(f"a PixelCNN was given a context of shape {given}", expected=f"{self.context} channels")
        if context is not None and context.ndim == 2:
            context = context[:, :, None, None]
        # out of the last row nothing is seen from above, nor of the last column from the left
        above = self.above(F.pad(x, (_FIRST, _FIRST, _FIRST, 0))[:, :, :-1])
        left = self.left(F.pad(x, (_FIRST, 0))[..., :-1]) + self.joined(above)
        for block in self.blocks:
            above, left = block(above, left, context if self.context else None)
        return self.out(F.silu(left))


class _Block(nn.Module):
    """One gated layer of both stacks; the left one is residual."""

    def __init__(self, channels: int, context: int, *, last: bool) -> None:
        super().__init__()
        self.above = nn.Conv2d(channels, 2 * channels, (2, 3))
        self.left = nn.Conv2d(channels, 2 * channels, (1, 2))
        self.joined = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.context = nn.Conv2d(context, 2 * channels, 1, bias=False) if context else None
        self.last = last
        for layer in (self.above, self.left, self.joined, self.out, *([self.context] if self.context else [])):
            he_initialised(layer)

    def forward(self, above: Tensor, left: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        seen = self.above(F.pad(above, (1, 1, 1, 0)))
        both = self.left(F.pad(left, (1, 0))) + self.joined(seen)
        if self.context is not None and context is not None:
            both = both + self.context(context)
        return (above if self.last else _gated(seen)), left + self.out(_gated(both))


def _gated(x: Tensor) -> Tensor:
    value, gate = x.chunk(2, 1)
    return value.tanh() * gate.sigmoid()
