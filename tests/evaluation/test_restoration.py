"""PSNR and SSIM of each image: against their formulas written out over every window."""

import numpy as np
import pytest
import torch

from lowerbound.core.errors import DataError, ShapeError
from lowerbound.evaluation.restoration import mean_se, restoration, window_for


@pytest.fixture
def images():
    return torch.rand(3, 2, 13, 17)


def slow_ssim(a, b, window):
    """Wang et al. 2004, eq. 13, at each place where the window lies inside the image, channel by channel."""
    steps = np.arange(window) - window // 2
    line = np.exp(-((steps / (1.5 * window / 11)) ** 2) / 2)
    weight = np.outer(line, line) / line.sum() ** 2
    found = []
    for x, y in zip(a, b, strict=True):
        for top in range(x.shape[0] - window + 1):
            for left in range(x.shape[1] - window + 1):
                u, v = (p[top : top + window, left : left + window] for p in (x, y))
                mu, mv = (weight * u).sum(), (weight * v).sum()
                su, sv = (weight * (u - mu) ** 2).sum(), (weight * (v - mv) ** 2).sum()
                suv = (weight * (u - mu) * (v - mv)).sum()
                c1, c2 = 0.01**2, 0.03**2
                found.append((2 * mu * mv + c1) * (2 * suv + c2) / ((mu**2 + mv**2 + c1) * (su + sv + c2)))
    return np.mean(found)


def test_psnr_is_its_formula(images):
    other = (images + 0.1 * torch.randn(images.shape)).clamp(0, 1)
    error = ((images.double() - other.double()) ** 2).numpy().reshape(3, -1).mean(1)
    np.testing.assert_allclose(restoration(other, images).psnr, -10 * np.log10(error), rtol=1e-6)


@pytest.mark.parametrize(("size", "window"), [((13, 17), 11), ((11, 12), 11), ((10, 14), 9), ((8, 9), 7), ((2, 5), 1)])
def test_ssim_is_its_formula_over_every_window(size, window):
    clean, noisy = torch.rand(2, 3, *size), torch.rand(2, 3, *size)
    mixed = 0.6 * clean + 0.4 * noisy
    found = restoration(mixed, clean)
    assert found.window == window == window_for(*size)
    wanted = [slow_ssim(a, b, window) for a, b in zip(mixed.double().numpy(), clean.double().numpy(), strict=True)]
    np.testing.assert_allclose(found.ssim, wanted, rtol=1e-5)


def test_equal_images_are_the_best_there_is(images):
    same = restoration(images, images)
    torch.testing.assert_close(same.ssim, torch.ones(3, dtype=torch.float64))
    assert torch.isinf(same.psnr).all()
    assert same.to_json()["psnr"] == {"mean": None, "se": None}


@pytest.mark.parametrize("grey", [0.03, 0.5, 0.97])
def test_ssim_of_almost_flat_images(grey):
    clean = grey + 0.002 * torch.rand(1, 1, 12, 14)
    other = clean + 0.02
    wanted = slow_ssim(other[0].double().numpy(), clean[0].double().numpy(), 11)
    assert float(restoration(other, clean).ssim) == pytest.approx(wanted, abs=3e-4)


def test_ssim_does_not_ask_which_is_the_clean_one(images):
    other = images.flip(-1)
    torch.testing.assert_close(restoration(images, other).ssim, restoration(other, images).ssim)


def test_no_image_depends_on_the_others(images):
    many = torch.rand(503, 1, 4, 5)  # more than are compared at once
    together = restoration(many, many.flip(-1))
    alone = restoration(many[501:502], many[501:502].flip(-1))
    torch.testing.assert_close(together.psnr[501:502], alone.psnr)
    torch.testing.assert_close(together.ssim[501:502], alone.ssim)
    assert together.psnr.shape == together.ssim.shape == (503,)


def test_values_beyond_the_range_are_clipped(images):
    wide = 3 * images - 1
    torch.testing.assert_close(restoration(wide, images).psnr, restoration(wide.clamp(0, 1), images).psnr)


def test_mean_and_standard_error():
    values = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    assert mean_se(values) == pytest.approx({"mean": 3.0, "se": np.std([1, 2, 6], ddof=1) / np.sqrt(3)})
    assert mean_se(values[:1]) == {"mean": 1.0, "se": None}


def test_what_cannot_be_compared_is_refused(images):
    with pytest.raises(ShapeError, match=r"\(3, 2, 13, 17\)"):
        restoration(images[:2], images)
    with pytest.raises(DataError, match="at least one pixel"):
        restoration(images[:0], images[:0])
    broken = images.clone()
    broken[0, 0, 0, 0] = torch.nan
    with pytest.raises(DataError, match="1 values of the images"):
        restoration(broken, images)
