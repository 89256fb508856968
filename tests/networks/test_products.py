"""Convolutions as matrix products, against torch's own, in float64."""

import pytest
import torch
import torch.nn.functional as F

from lowerbound.networks import products
from lowerbound.networks.products import ConvolutionsAsProducts, convolution, transposed_convolution

CASES = [  # kernel, stride, padding, size of the image
    ((4, 4), (2, 2), (1, 1), (13, 10)),
    ((3, 3), (1, 1), (1, 1), (6, 7)),
    ((3, 2), (2, 3), (0, 1), (9, 11)),
    ((1, 1), (1, 1), (0, 0), (5, 4)),
    ((2, 5), (3, 1), (1, 2), (8, 6)),
]


def tensors(*shapes):
    draws = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=draws, dtype=torch.float64, requires_grad=True) for shape in shapes]


def check(one, other, given):
    """Compare values and the gradients of a weighted sum."""
    assert one.shape == other.shape
    torch.testing.assert_close(one, other)
    weight = torch.randn(one.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for a, b in zip(*(torch.autograd.grad((weight * y).sum(), given) for y in (one, other)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), CASES)
def test_a_convolution_is_torch_s(kernel, stride, padding, size, in_parts, monkeypatch):
    if in_parts:
        monkeypatch.setattr(products, "_BYTES", 1)
    x, weight, bias = tensors((7, 3, *size), (5, 3, *kernel), (5,))
    ours = convolution(x, weight, bias, stride, padding)
    check(ours, F.conv2d(x, weight, bias, stride, padding), (x, weight, bias))


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), CASES)
def test_a_transposed_convolution_is_torch_s(kernel, stride, padding, size, extra, in_parts, monkeypatch):
    if in_parts:
        monkeypatch.setattr(products, "_BYTES", 1)
    more = tuple(min(extra, s - 1) for s in stride)
    x, weight, bias = tensors((7, 3, *size), (3, 5, *kernel), (5,))
    ours = transposed_convolution(x, weight, bias, stride, padding, more)
    check(ours, F.conv_transpose2d(x, weight, bias, stride, padding, more), (x, weight, bias))


def test_a_part_of_the_examples_is_not_the_whole(monkeypatch):
    # the tests in parts would see nothing if there were one part
    monkeypatch.setattr(products, "_BYTES", 1)
    of = products.Windows((3, 3), (1, 1), (1, 1), (6, 7), (6, 7))
    assert len(list(of.parts(7, 3, 8))) == 7


LAYERS = {
    "conv": torch.nn.Conv2d(3, 5, 4, 2, 1),
    "transposed": torch.nn.ConvTranspose2d(3, 5, 3, 2, 1, 1),
    "no bias": torch.nn.Conv2d(3, 5, 3, bias=False),
    "groups": torch.nn.Conv2d(3, 6, 3, groups=3),
    "dilated": torch.nn.Conv2d(3, 5, 3, dilation=2),
    "same": torch.nn.Conv2d(3, 5, 3, padding="same"),
    "reflected": torch.nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_what_it_gave(name, monkeypatch):
    taken = []
    for function in ("convolution", "transposed_convolution"):
        real = getattr(products, function)
        monkeypatch.setattr(products, function, lambda *given, real=real: taken.append(1) or real(*given))
    layer, x = LAYERS[name], torch.rand(7, 3, 8, 9, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before = layer(x)
        with ConvolutionsAsProducts():
            assert torch.equal(layer(x), before)  # without autocast nothing changes
            assert not taken
            with torch.autocast("cpu", torch.bfloat16):
                after = layer(x)
    assert bool(taken) == (name not in ("groups", "dilated", "same"))
    assert after.dtype == torch.bfloat16
    torch.testing.assert_close(after.float(), before, rtol=0.02, atol=0.02)
