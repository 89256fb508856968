"""Sprites: every image another one, drawn as the formula says, and its factors known wherever the row has gone."""

from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch

import lowerbound as lb
from lowerbound.core.errors import DataError, ShapeError, UsageError
from lowerbound.data.sprites import FACTORS, SHAPES, factors, render

SIZES = tuple(FACTORS.values())


@pytest.fixture(scope="module")
def data():
    return lb.load_data("sprites", seed=3)


@pytest.fixture(scope="module")
def everything(data):
    return data.split("all")


def test_size_kind_and_labels(data):
    assert [len(part) for part in (data.train, data.valid, data.test)] == [10265, 1140, 1267]
    assert sum(len(data.split(name)) for name in ("train", "valid", "test")) == prod(SIZES) == 12672
    assert (data.spec.name, data.spec.shape, data.spec.kind) == ("sprites", (1, 32, 32), "image")
    assert (data.spec.support, data.spec.classes, data.spec.binarize) == ("binary", SHAPES, "none")


def test_all_images_differ(everything):
    packed = np.packbits(everything.x.numpy().astype(np.uint8).reshape(prod(SIZES), -1), axis=1)
    assert len(np.unique(packed, axis=0)) == prod(SIZES)


def test_no_shape_is_cut_off(everything):
    seen = everything.x.amax(0)[0]
    assert not seen[[0, -1]].any()
    assert not seen[:, [0, -1]].any()
    assert bool(seen[2:-2, 2:-2].any())


def test_every_combination_occurs_once(everything):
    codes = factors(everything)
    assert codes.dtype == torch.int64
    assert torch.equal(codes, torch.cartesian_prod(*(torch.arange(size) for size in SIZES)))


def test_the_first_factor_is_the_label(everything):
    assert torch.equal(factors(everything)[:, 0], everything.y)


@pytest.mark.parametrize("name", ["train", "valid", "test"])
def test_factors_follow_rows_through_splits_and_subsets(data, name):
    # Each row's image is looked for among all images, which knows nothing of places.
    rows = data.split(name).rows(torch.randperm(len(data.split(name)))[:50]).matching(data.spec)
    all_codes = torch.cartesian_prod(*(torch.arange(size) for size in SIZES))
    every = torch.from_numpy(render(all_codes.numpy())).flatten(1).float()
    found = (torch.cdist(rows.values().flatten(1), every) == 0).nonzero()
    assert torch.equal(found[:, 0], torch.arange(50))
    assert torch.equal(factors(rows), all_codes[found[:, 1]])


def one(shape, scale, orientation, x, y):
    return render(np.array([[shape, scale, orientation, x, y]]))[0]


def test_x_moves_to_the_right_and_y_down():
    for shape, scale, orientation in [(0, 1, 3), (1, 3, 7), (2, 2, 1)]:
        image = one(shape, scale, orientation, 4, 6)
        assert np.array_equal(one(shape, scale, orientation, 5, 6), np.roll(image, 1, 1))
        assert np.array_equal(one(shape, scale, orientation, 4, 9), np.roll(image, 3, 0))


@pytest.mark.parametrize("scale", range(4))
def test_areas_are_those_of_the_outlines(scale):
    # In square pixels, the mean over all orientations; a radius one pixel larger must not pass.
    radius = 4.7 + scale
    for shape, area in ((0, np.pi * 0.55 * radius**2), (2, 4 * 0.83**2 * radius**2)):
        found = render(np.array([[shape, scale, turn, 5, 5] for turn in range(8)])).sum() / 8
        assert found == pytest.approx(area, rel=0.04)
        assert found != pytest.approx(area * ((radius + 1) / radius) ** 2, rel=0.04)


def test_an_ellipse_turns_against_the_clock():
    # The main axis of the pixels, by the eigenvector of their covariance, is nearest to the factor's own angle.
    for orientation in range(8):
        down, right = np.nonzero(one(0, 3, orientation, 5, 6))
        axis = np.linalg.eigh(np.cov(np.stack([right, -down])))[1][:, -1]
        angle = np.arctan2(axis[1], axis[0]) % np.pi
        assert abs((angle - orientation * np.pi / 16 + np.pi / 2) % np.pi - np.pi / 2) < np.pi / 32


def test_a_heart_is_symmetric_and_points_down():
    heart = one(1, 3, 0, 5, 6)
    columns = np.nonzero(heart.any(0))[0]
    body = heart[:, columns.min() : columns.max() + 1]
    assert np.array_equal(body, body[:, ::-1])
    rows = body[body.any(1)]
    assert rows[0].sum() > rows[-1].sum()
    assert rows[0][len(rows[0]) // 2 - 1 : len(rows[0]) // 2 + 1].sum() == 0  # the dent between both halves


def test_a_seed_moves_the_splits_alone(data, everything):
    other = lb.load_data("sprites", seed=4)
    assert not torch.equal(data.test.places, other.test.places)
    assert torch.equal(other.split("all").x, everything.x)


def test_factors_of_other_rows_are_refused(data):
    with pytest.raises(DataError, match="factors of digits are not known"):
        factors(lb.load_data("digits").test)
    moved = replace(data.test, index=data.test.places.flip(0))
    with pytest.raises(DataError, match=r"1,26\d of 1,267 images are not those of their places"):
        factors(moved)


@pytest.mark.parametrize("codes", [[[3, 0, 0, 0, 0]], [[0, 0, 0, 0, 12]], [[0, -1, 0, 0, 0]], [[0, 0, 0, 0]]])
def test_factors_that_do_not_exist_are_not_drawn(codes):
    with pytest.raises(ShapeError, match="no factors"):
        render(np.array(codes))


def test_no_factors_no_images():
    assert render(np.zeros((0, 5), np.int64)).shape == (0, 32, 32)


def test_options_that_mean_nothing_are_refused():
    with pytest.raises(UsageError, match="image files"):
        lb.load_data("sprites", image_size=(8,))
