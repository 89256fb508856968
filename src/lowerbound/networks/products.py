"""Convolutions as matrix products: how bfloat16 is fast on a processor, whose convolutions barely gain from it.

The patches that a kernel sees become the rows of a matrix, which the kernel multiplies (im2col: Chellapilla et al.
2006). A transposed convolution is the adjoint: a product first, whose rows are then added up as patches.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..core.distribution import wide

Pair = tuple[int, int]
_BYTES = 1 << 25  # of patches at a time: they are several times as large as what they are made of


@dataclass(frozen=True)
class Windows:
    """Where a kernel lies on an image: `places` (rows, columns) times, `stride` apart, on an image of size `image`."""

    kernel: Pair
    stride: Pair
    padding: Pair
    image: Pair
    places: Pair

    def patches(self, x: Tensor) -> Tensor:
        """Return what the kernel sees of images `[N, *image, C]`, as rows `[N * places, kernel * C]`."""
        (kh, kw), (sh, sw), (ph, pw), (h, w) = self.kernel, self.stride, self.padding, self.places
        high, wide = ((h - 1) * sh + kh - ph - x.shape[1], (w - 1) * sw + kw - pw - x.shape[2])
        x = F.pad(x, (0, 0, pw, max(wide, 0), ph, max(high, 0))).contiguous()
        n, row, column, _ = x.stride()
        strides = (n, row * sh, column * sw, row, column, 1)
        return x.as_strided((len(x), h, w, kh, kw, x.shape[3]), strides).reshape(-1, kh * kw * x.shape[3])

    def add_up(self, rows: Tensor, channels: int) -> Tensor:
        """Return the images `[N, *image, C]` that are the sums of such rows: the adjoint of `patches`."""
        (kh, kw), (sh, sw), (ph, pw), (h, w) = self.kernel, self.stride, self.padding, self.places
        rows = rows.view(-1, h, w, kh, kw, channels)
        height, width = self.image
        whole = (max(height + 2 * ph, (h - 1) * sh + kh), max(width + 2 * pw, (w - 1) * sw + kw))
        out = rows.new_zeros(len(rows), *whole, channels)
        for i in range(kh):
            for j in range(kw):
                out[:, i : i + sh * h : sh, j : j + sw * w : sw].add_(rows[:, :, :, i, j])
        return out[:, ph : ph + height, pw : pw + width]

    def parts(self, examples: int, channels: int, size: int) -> Iterator[slice]:
        """Yield examples whose patches fit into some memory together; `size` is the bytes of a value."""
        each = self.places[0] * self.places[1] * self.kernel[0] * self.kernel[1] * channels * size
        step = max(1, _BYTES // max(each, 1))
        for start in range(0, examples, step):
            yield slice(start, start + step)


def _seen(x: Tensor, matrix: Tensor, of: Windows) -> Tensor:
    """Return patches of x `[N, *image, C]` times a matrix `[kernel * C, O]`: `[N, *places, O]`."""
    parts = of.parts(len(x), x.shape[3], x.element_size())
    return torch.cat([of.patches(x[part]) @ matrix for part in parts]).view(len(x), *of.places, matrix.shape[1])


def _spread(x: Tensor, matrix: Tensor, of: Windows) -> Tensor:
    """Return x `[N, *places, O]` times a matrix `[O, kernel * C]`, added up as patches: `[N, *image, C]`."""
    channels = matrix.shape[1] // (of.kernel[0] * of.kernel[1])
    parts = of.parts(len(x), channels, x.element_size())
    return torch.cat([of.add_up(x[part].flatten(0, 2) @ matrix, channels) for part in parts])


def _between(x: Tensor, y: Tensor, of: Windows) -> Tensor:
    """Return the sum over places of patches of x `[N, *image, C]` times y `[N, *places, O]`: `[kernel * C, O]`."""
    parts = of.parts(len(x), x.shape[3], x.element_size())
    products = [of.patches(x[part]).t() @ y[part].flatten(0, 2) for part in parts]
    return products[0] if len(products) == 1 else torch.stack([wide(p) for p in products]).sum(0)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, of: Windows) -> Tensor:
        ctx.save_for_backward(x, matrix)
        ctx.of = of
        return _seen(x, matrix, of)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (x, matrix), (gradient,) = ctx.saved_tensors, gradients
        given = _spread(gradient, matrix.t(), ctx.of) if ctx.needs_input_grad[0] else None
        return given, _between(x, gradient, ctx.of).to(matrix), None


class _Transposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, of: Windows) -> Tensor:
        ctx.save_for_backward(x, matrix)
        ctx.of = of
        return _spread(x, matrix.t(), of)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (x, matrix), (gradient,) = ctx.saved_tensors, gradients
        given = _seen(gradient, matrix, ctx.of) if ctx.needs_input_grad[0] else None
        return given, _between(gradient, x, ctx.of).to(matrix), None


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
    """Return what `conv2d` does: images `[N, O, h, w]` of images `[N, C, H, W]` and a weight `[O, C, kh, kw]`."""
    kernel, image = _pair(weight.shape[2:]), _pair(x.shape[2:])
    places = _pair((n + 2 * p - k) // s + 1 for n, p, k, s in zip(image, padding, kernel, stride, strict=True))
    of = Windows(kernel, stride, padding, image, places)
    matrix = weight.permute(2, 3, 1, 0).reshape(-1, len(weight))
    y = _Convolution.apply(x.permute(0, 2, 3, 1), matrix, of)
    return _with_bias(y, bias)


def transposed_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, extra: Pair
) -> Tensor:
    """Return what `conv_transpose2d` does: `[N, O, H, W]` of `[N, C, h, w]` and a weight `[C, O, kh, kw]`."""
    kernel, places = _pair(weight.shape[2:]), _pair(x.shape[2:])
    sizes = zip(places, stride, padding, kernel, extra, strict=True)
    of = Windows(kernel, stride, padding, _pair((n - 1) * s - 2 * p + k + e for n, s, p, k, e in sizes), places)
    matrix = weight.permute(2, 3, 1, 0).reshape(-1, len(weight))  # [kernel * O, C]
    y = _Transposed.apply(x.permute(0, 2, 3, 1), matrix, of)
    return _with_bias(y, bias)


def _pair(values: Any) -> Pair:
    first, second = (int(v) for v in values)
    return first, second


def _with_bias(y: Any, bias: Tensor | None) -> Tensor:
    """Return images with channels first in their shape and last in memory, as the next convolution wants them."""
    y = y.permute(0, 3, 1, 2)
    return y if bias is None else y + bias[:, None, None]


class ConvolutionsAsProducts(TorchFunctionMode):
    """Inside, convolutions under autocast to bfloat16 on a processor are matrix products.

    Those with groups, dilation or padding by name, and of single images, stay as they are.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Pass a call on, or its place to a product."""
        given = dict(kwargs or {})
        if func in (torch.conv2d, torch.conv_transpose2d) and torch.is_autocast_enabled("cpu"):
            call = _plain(func is torch.conv_transpose2d, *args, **given)
            if call is not None:
                with torch.autocast("cpu", enabled=False):
                    return call()
        return func(*args, **given)


def _plain(
    transposed: bool,  # noqa: FBT001  (an internal switch)
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    *rest: Any,
    **named: Any,
) -> Callable[[], Tensor] | None:
    """Return the product that stands for such a call, or None if it has to stay as it is."""
    names = ("output_padding", "groups", "dilation") if transposed else ("dilation", "groups")
    more = {**dict(zip(names, rest, strict=False)), **named}
    simple = more.get("groups", 1) == 1 and _both(more.get("dilation", 1)) == (1, 1)
    if not simple or isinstance(padding, str) or x.ndim != 4 or x.device.type != "cpu":
        return None
    low = torch.bfloat16
    tensors = (x.to(low), weight.to(low), None if bias is None else bias.to(low))
    pairs = _both(stride), _both(padding)
    if transposed:
        return lambda: transposed_convolution(*tensors, *pairs, _both(more.get("output_padding", 0)))
    return lambda: convolution(*tensors, *pairs)


def _both(value: Any) -> Pair:
    """Return a size of both axes; one number, or a sequence of one, stands for two."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return _pair(values * 2 if len(values) == 1 else values)
