"""Corruptions: their distribution, their freshness, and their ranges. Bounds of 6 standard errors: 2e-9 by chance."""

import pytest
import torch

from lowerbound.core.errors import UsageError
from lowerbound.data.corruptions import GaussianNoise, Mask, MultiplyAdd, SaltAndPepper, corruption

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
     ("salt-and-pepper", 2.0), ("salt-and-pepper", float("nan"))],
)  # fmt: skip
def test_amounts_out_of_range(name, amount):
    with pytest.raises(UsageError, match=str(amount)):
        corruption(name, amount)
