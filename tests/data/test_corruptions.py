"""Corruptions: their distribution, their freshness, and their ranges. Bounds of 6 standard errors: 2e-9 by chance."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from lowerbound.core.errors import UsageError
from lowerbound.core.record import describe, rebuild
from lowerbound.data.corruptions import Blur, GaussianNoise, Haze, Mask, MultiplyAdd, SaltAndPepper, corruption

ROWS, VALUES = 211, 503
N = ROWS * VALUES
GREY = 0.375


def grey():
    return torch.full((ROWS, VALUES), GREY)


def near(found, share):
    assert abs(float(found) - share) < 6 * (share * (1 - share) / N) ** 0.5 + 1e-7


def test_gaussian_noise_has_its_scale_and_is_not_clipped():
    noise = GaussianNoise(0.7)(grey()) - GREY
    assert abs(float(noise.mean())) < 6 * 0.7 / N**0.5
    assert float(noise.std()) == pytest.approx(0.7, rel=6 / (2 * N) ** 0.5)
    assert float(noise.min()) < -1
    assert float(noise.max()) > 1


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_mask_sets_its_share_to_zero_and_keeps_the_rest(share):
    seen = Mask(share)(grey())
    assert bool(((seen == 0) | (seen == GREY)).all())
    near((seen == 0).float().mean(), share)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_salt_and_pepper_are_equally_frequent(share):
    seen = SaltAndPepper(share)(grey())
    for value, expected in ((0.0, share / 2), (1.0, share / 2), (GREY, 1 - share)):
        near((seen == value).float().mean(), expected)


def test_multiply_add_has_its_four_outcomes_with_one_quarter_each():
    seen = MultiplyAdd()(grey())
    for value in (0.0, GREY, 1.0, 1.0 + GREY):
        near((seen == value).float().mean(), 0.25)


@pytest.mark.parametrize("name", ["gaussian", "mask", "salt-and-pepper", "multiply-add"])
def test_each_call_draws_anew_from_the_default_generator_and_leaves_x_alone(name):
    noise, x = corruption(name, 0.4), grey()
    torch.manual_seed(2)
    first, second = noise(x), noise(x)
    torch.manual_seed(2)
    assert torch.equal(noise(x), first)
    assert not torch.equal(first, second)
    assert torch.equal(x, grey())
    assert noise(x.double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("name", "amount"),
    [("gaussian", -0.1), ("gaussian", float("nan")), ("gaussian", float("inf")), ("mask", 1.1), ("mask", -0.1),
     ("salt-and-pepper", 2.0), ("salt-and-pepper", float("nan")), ("blur", -0.1), ("blur", float("nan")),
     ("blur", float("inf")), ("haze", -0.1), ("haze", float("nan")), ("haze", float("inf"))],
)  # fmt: skip
def test_amounts_out_of_range(name, amount):
    with pytest.raises(UsageError, match=str(amount)):
        corruption(name, amount)


@pytest.mark.parametrize("light", [-0.1, 1.1, float("nan")])
def test_light_out_of_range(light):
    with pytest.raises(UsageError, match=str(light)):
        Haze(1.0, light)


@pytest.mark.parametrize("sigma", [0.0, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("shape", [(2, 3, 17, 11), (3, 1, 4, 5), (2, 1, 1, 3)])
def test_blur_is_that_of_scipy_on_each_channel(sigma, shape):
    x = torch.rand(shape, dtype=torch.float64)
    expected = x.numpy()
    if sigma:
        radius = math.ceil(3 * sigma)
        expected = ndimage.gaussian_filter(x.numpy(), sigma, mode="nearest", radius=radius, axes=(2, 3))
    found = Blur(sigma)(x)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)
    assert found.data_ptr() != x.data_ptr()
    torch.testing.assert_close(Blur(sigma)(x.float()), found.float(), rtol=0, atol=1e-6)


def test_haze_leaves_a_law_that_fits_its_draws():
    """Black and white images of one draw give t and A in every row; both follow the law."""
    n, height, thickness = 997, 5, 0.8
    torch.manual_seed(3)
    black = Haze(thickness)(torch.zeros(n, 2, height, 3, dtype=torch.float64))
    torch.manual_seed(3)
    white = Haze(thickness)(torch.ones(n, 2, height, 3, dtype=torch.float64))
    t = white - black
    assert bool((t - t[:, :1, :, :1]).abs().max() < 1e-12)  # one depth for all channels and columns
    t, air = t[:, 0, :, 0], (black / (1 - t))[:, 0, :, 0]
    factor = -t.log() / thickness / torch.tensor([1.0, 0.825, 0.65, 0.475, 0.3], dtype=torch.float64)
    for drawn, middle, half in ((factor, 1.0, 0.5), (air, 0.9, 0.05)):
        assert float((drawn - drawn[:, :1]).abs().max()) < 1e-9  # one draw for each image
        assert float((drawn - middle).abs().max()) <= half + 1e-9
        assert abs(float(drawn[:, 0].mean()) - middle) < 6 * half / 3**0.5 / n**0.5
        # the square of a uniform draw on [-1, 1] has mean 1/3 and variance 4/45
        assert abs(float((((drawn[:, 0] - middle) / half) ** 2).mean()) - 1 / 3) < 6 * (4 / 45 / n) ** 0.5
    assert abs(float(torch.corrcoef(torch.stack((factor[:, 0], air[:, 0])))[0, 1])) < 6 / n**0.5


def test_haze_ends_at_the_image_and_at_the_light_which_is_clipped():
    x = torch.rand(101, 1, 3, 2)
    assert torch.equal(Haze(0.0)(x), x)
    thick = Haze(1e6, 1.0)(x)
    assert float(thick.max()) == 1
    assert 0.95 <= float(thick.min()) < 1


@pytest.mark.parametrize(("name", "fresh"), [("blur", False), ("haze", True)])
def test_corruptions_of_images_leave_x_alone_and_can_be_saved(name, fresh):
    part, x = corruption(name, 0.7), torch.rand(4, 3, 5, 7)
    before = x.clone()
    torch.manual_seed(2)
    first, second = part(x), part(x)
    torch.manual_seed(2)
    assert torch.equal(part(x), first)
    assert torch.equal(first, second) != fresh
    assert torch.equal(x, before)
    assert 0 <= float(first.min()) < float(first.max()) <= 1 + 1e-6
    assert describe(rebuild(describe(part))) == describe(part)


@pytest.mark.parametrize("name", ["blur", "haze"])
@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 7)])
def test_corruptions_of_images_refuse_what_is_none(name, shape):
    with pytest.raises(UsageError, match=f"{name} needs images"):
        corruption(name, 0.5)(torch.zeros(shape))
