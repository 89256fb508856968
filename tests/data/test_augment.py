"""Augmentation: exact flips, rotations against SciPy, bounds of shifts and crops."""

import inspect
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from lowerbound.core.errors import UsageError
from lowerbound.core.record import describe, rebuild
from lowerbound.data.augment import AUGMENTATIONS, Augment, warp

N, C, H, W = 7, 3, 24, 37


def images(n=N):
    """Return smooth random images in [0, 1]."""
    rough = np.random.default_rng(3).random((n, C, H, W))
    smooth = ndimage.gaussian_filter(rough, (0, 0, 1.5, 1.5))
    return torch.from_numpy((smooth - smooth.min()) / (smooth.max() - smooth.min())).float()


def still(n=N):
    """Return the angle, size and centre of a window that is the image."""
    return torch.zeros(n), torch.ones(n), torch.zeros(2, n)


def centres(x):
    """Return the centre of mass of each image, down and across, in pixels."""
    mass = x.sum((1, 2, 3))
    down = (x.sum((1, 3)) * torch.arange(x.shape[2])).sum(1) / mass
    return torch.stack((down, (x.sum((1, 2)) * torch.arange(x.shape[3])).sum(1) / mass), 1)


def disc(radius, n):
    """Return n images of a soft disc in the middle."""
    y, x = torch.meshgrid(torch.arange(H) - (H - 1) / 2, torch.arange(W) - (W - 1) / 2, indexing="ij")
    return torch.sigmoid(2 * (radius - (x**2 + y**2).sqrt())).expand(n, 1, H, W)


def test_flips_are_exact_and_hit_half_of_the_images():
    n = 4001
    x = torch.rand(n, 1, 3, 5)
    seen = Augment(("flip",))(x)
    flipped = (seen == x.flip(-1)).flatten(1).all(1)
    assert bool((flipped | (seen == x).flatten(1).all(1)).all())
    # 6 standard errors: 2e-9 by chance
    assert abs(float(flipped.float().mean()) - 0.5) < 3 / n**0.5


def test_a_window_that_is_the_image_changes_nothing():
    x = images()
    torch.testing.assert_close(warp(x, *still()), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("down", "across"), [(0, 5), (3, 0), (-2, 4)])
def test_whole_pixels_move_whole_pixels(down, across):
    x, (angle, kept, _) = images(), still()
    centre = torch.tensor([[2 * across / W], [2 * down / H]]).expand(2, N)
    expected = ndimage.shift(x.numpy(), (0, 0, -down, -across), order=0, mode="nearest")
    np.testing.assert_allclose(warp(x, angle, kept, centre).numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("degrees", [-31.0, 8.0, 90.0])
def test_rotation_of_an_oblong_image_is_that_of_scipy(degrees):
    x, (_, kept, centre) = images(), still()
    found = warp(x, torch.full((N,), math.radians(degrees)), kept, centre)
    expected = ndimage.rotate(x.numpy(), degrees, axes=(3, 2), reshape=False, order=1, mode="nearest")
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-4)


def test_a_window_is_that_of_scipy():
    x, kept = images(), 0.6
    found = warp(x, torch.zeros(N), torch.full((N,), kept), torch.tensor([[0.25], [-0.4]]).expand(2, N))
    y, z = ((np.arange(side) + 0.5) / side * 2 - 1 for side in (H, W))
    rows = ((kept * y - 0.4 + 1) * H - 1) / 2
    columns = ((kept * z + 0.25 + 1) * W - 1) / 2
    where = np.meshgrid(rows, columns, indexing="ij")
    expected = [[ndimage.map_coordinates(c, where, order=1, mode="nearest") for c in image] for image in x.numpy()]
    np.testing.assert_allclose(found.numpy(), np.array(expected), rtol=0, atol=1e-4)


def test_a_disc_stays_a_disc_under_rotation_while_other_images_turn():
    x = disc(8.0, N)
    turn = Augment(("rotate",), rotate=180.0)
    torch.testing.assert_close(turn(x), x, rtol=0, atol=0.06)
    assert float((turn(images()) - images()).abs().amax((1, 2, 3)).min()) > 0.1


def test_shifts_keep_to_their_bound_and_use_it():
    n, share = 503, 0.15
    moved = centres(Augment(("shift",), shift=share)(disc(4.0, n))) - centres(disc(4.0, n))
    bound = torch.tensor([share * H, share * W])
    assert bool((moved.abs() <= bound + 1e-2).all())
    # a uniform draw misses the outer twentieth at one end of one axis in all images by chance 0.975^503: 3e-6
    assert bool((moved.amax(0) > 0.95 * bound).all())
    assert bool((moved.amin(0) < -0.95 * bound).all())


def test_rotations_use_both_directions_and_keep_to_their_bound():
    n, most = 307, 20.0
    y = torch.arange(H)[:, None] - (H - 1) / 2
    bar = torch.exp(-((y / 2) ** 2)) * torch.exp(-(((torch.arange(W) - (W - 1) / 2) / 6) ** 2))
    seen = Augment(("rotate",), rotate=most)(bar.expand(n, 1, H, W))[:, 0]
    z = torch.arange(W) - (W - 1) / 2
    across, down, both = ((seen * moment).sum((1, 2)) for moment in (z * z, y * y, y * z))
    angles = torch.rad2deg(torch.atan2(2 * both, across - down) / 2)
    # the outer tenth at one end: missed by chance 0.95^307, 1e-7
    assert most * 0.9 < float(angles.max()) < most * 1.02
    assert most * 0.9 < float(-angles.min()) < most * 1.02


def test_crops_enlarge_up_to_their_bound_with_the_window_inside():
    n, least = 401, 0.5
    ramp = torch.linspace(0, 1, W).expand(n, 1, H, W)
    seen = Augment(("crop",), crop=least)(ramp)[:, 0, H // 2]
    slope = (seen[:, 20] - seen[:, 16]) / 4 * (W - 1)  # the share of the width that is shown
    assert float(slope.min()) >= least - 1e-3
    assert float(slope.max()) <= 1 + 1e-3
    # missed by chance 0.9^401: 4e-19
    assert float(slope.min()) < least + 0.05
    assert float(slope.max()) > 0.95
    assert float((seen[:, 1] - seen[:, 0]).min()) > 0  # nothing from beyond the border


@pytest.mark.parametrize("names", [(name,) for name in AUGMENTATIONS] + [AUGMENTATIONS])
def test_each_image_has_its_own_draw_from_the_default_generator_and_channels_move_together(names):
    x = images(1)[:, :1].expand(N, C, H, W) * torch.tensor([1.0, 0.5, 0.25])[:, None, None]
    before, augment = x.clone(), Augment(names)
    torch.manual_seed(2)
    first, second = augment(x), augment(x)
    torch.manual_seed(2)
    assert torch.equal(augment(x), first)
    assert not torch.equal(first, second)
    assert len({image.numpy().tobytes() for image in first}) >= (2 if names == ("flip",) else N)
    assert torch.equal(x, before)
    torch.testing.assert_close(first[:, 1] / 0.5, first[:, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(first[:, 2] / 0.25, first[:, 0], rtol=0, atol=1e-5)
    assert not first.requires_grad


def test_values_stay_in_the_range_of_each_image_in_any_precision():
    x = torch.randint(0, 2, (53, 1, 11, 13)).float()
    x[0] = 0.7
    augment = Augment(AUGMENTATIONS, shift=0.4, rotate=50.0, crop=0.5)
    for dtype in (torch.float32, torch.float64):
        seen = augment(x.to(dtype))
        assert seen.dtype == dtype
        assert float(seen.min()) >= 0
        assert float(seen.max()) <= 1
        assert torch.equal(seen[0], x[0].to(dtype))


def test_no_images_stay_none_and_the_part_can_be_saved():
    augment = Augment(("shift", "flip"), shift=0.2)
    assert augment(torch.rand(0, C, H, W)).shape == (0, C, H, W)
    assert describe(rebuild(describe(augment))) == describe(augment)


@pytest.mark.parametrize(
    "amounts",
    [{"shift": -0.1}, {"shift": 1.5}, {"rotate": 181.0}, {"rotate": float("nan")}, {"crop": 0.0}, {"crop": 1.2}],
)
def test_amounts_out_of_range(amounts):
    with pytest.raises(UsageError, match=str(*amounts.values())):
        Augment(("flip",), **amounts)


def test_names_that_do_not_exist_and_no_names():
    plain: Any = inspect.unwrap(Augment.__init__)  # below the check of types, which users do not have
    with pytest.raises(UsageError, match=r"'mirror'\n.*shift, rotate, flip, crop"):
        plain(Augment.__new__(Augment), ("flip", "mirror"))
    with pytest.raises(UsageError, match=r"no augmentation is named\n.*shift, rotate, flip, crop"):
        Augment(())


@pytest.mark.parametrize("x", [torch.rand(3, 5), torch.rand(3, 5, 7), torch.zeros(2, 1, 3, 5, dtype=torch.uint8)])
def test_what_is_no_float_image_is_refused(x):
    with pytest.raises(UsageError, match="needs images"):
        Augment(("shift",))(x)
