"""Binarisation: which pixels are drawn when, with which probability, and from which seed."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from idx_files import images

from lowerbound import from_arrays
from lowerbound.core.errors import DataError, ShapeError, UsageError

ROWS = 90


def grey(**options):
    return from_arrays(images(ROWS), **options)


def wanted(data, binarize="dynamic"):
    """Return the spec of a model trained on `data` with that protocol."""
    return replace(data.spec, binarize=binarize)


def everything(part):
    return part.batch(slice(None)).x


def test_a_pixel_is_one_with_probability_x_over_scale_exactly(monkeypatch):
    # 256 grey values against a grid of uniform numbers: as many ones as the grid has points below x / 255.
    points = 4093
    grid = (np.arange(points, dtype=np.float32) + np.float32(0.5)) / np.float32(points)
    x = torch.arange(256, dtype=torch.uint8)[:, None, None, None].expand(256, 1, 1, points).contiguous()
    data = from_arrays(x, valid_fraction=0.0, test_fraction=0.0)
    rows = data.train.matching(wanted(data), resample=True)
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: torch.from_numpy(grid).expand(*shape[0]))
    ones = everything(rows).sum((1, 2, 3)).int().tolist()
    exact = [Fraction(float(u)) for u in grid]
    values = rows.x[:, 0, 0, 0].tolist()
    for value, count in zip(values, ones, strict=True):
        assert abs(count - sum(u < Fraction(value, 255) for u in exact)) <= 1  # float32 rounds u * 255 once
    monkeypatch.setattr(torch, "rand", lambda shape, **options: torch.full(shape, 1 - 2**-24))
    assert torch.equal(everything(rows).mean((1, 2, 3)), (rows.x[:, 0, 0, 0] == 255).float())
    monkeypatch.setattr(torch, "rand", lambda shape, **options: torch.zeros(shape))
    assert torch.equal(everything(rows).mean((1, 2, 3)), (rows.x[:, 0, 0, 0] > 0).float())


@pytest.mark.parametrize("scale", [1, 16, 255])
def test_dynamic_training_pixels_are_drawn_anew_and_their_mean_is_grey(scale):
    # 400 draws of 1,800 pixels: a pixel's mean is within 6 standard errors but for 2e-9 each, 4e-6 for all; seed fixed.
    x = np.random.default_rng(3).integers(0, scale + 1, (ROWS, 5, 4)) if scale > 1 else images(ROWS) / np.float32(255)
    data = from_arrays(
        x.astype(np.uint8 if scale > 1 else np.float32), scale=scale, valid_fraction=0.0, test_fraction=0.0
    )
    rows = data.train.matching(wanted(data), resample=True)
    draws = torch.stack([everything(rows) for _ in range(400)])
    assert draws.unique().tolist() == [0, 1]
    assert not torch.equal(draws[0], draws[1])
    p = data.train.values()
    bound = 6 * (p * (1 - p) / 400).sqrt() + 1e-6
    assert bool(((draws.mean(0) - p).abs() <= bound).all())


def test_dynamic_pixels_come_from_the_default_generator():
    data = grey()
    rows = data.train.matching(wanted(data), resample=True)
    torch.manual_seed(5)
    first = everything(rows)
    torch.manual_seed(5)
    assert torch.equal(everything(rows), first)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_dynamic_pixels_outside_training_are_drawn_once_by_the_data_seed(split):
    data = grey()
    part = data.split(split)
    before = torch.get_rng_state()
    first = everything(part.matching(wanted(data)))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(everything(part.matching(wanted(data))), first)
    other = replace(part, spec=replace(part.spec, data_seed=1))
    assert not torch.equal(everything(other.matching(wanted(data))), first)
    assert first.unique().tolist() == [0, 1]


def test_each_split_has_draws_of_its_own():
    x = np.full((20, 6, 7), 128, np.uint8)
    data = from_arrays(x, test=(x, None), valid_fraction=0.5, binarize="static-seed")
    parts = [everything(part.matching(data.spec))[:10] for part in (data.train, data.valid, data.test)]
    assert not torch.equal(parts[0], parts[1])
    assert not torch.equal(parts[1], parts[2])
    assert not torch.equal(parts[0], parts[2])


def test_static_pixels_do_not_change_in_training_and_are_right_on_average():
    data = from_arrays(np.full((40, 30, 31), 77, np.uint8), binarize="static-seed", valid_fraction=0.0)
    rows = data.train.matching(data.spec)
    first = everything(rows)
    torch.manual_seed(99)
    assert torch.equal(everything(rows), first)
    p, n = 77 / 255, first.numel()
    assert abs(float(first.mean()) - p) < 5 * (p * (1 - p) / n) ** 0.5  # 6e-7 by chance


def test_static_draws_do_not_depend_on_how_many_rows_are_drawn_at_once(monkeypatch):
    data = grey(binarize="static-seed")
    whole = everything(data.train.matching(data.spec))
    fewer = data.train.take(23)
    assert torch.equal(everything(fewer.matching(data.spec)), whole[:23])


def test_a_threshold_lies_at_one_half():
    x = np.array([[[0, 127, 128, 255]], [[1, 126, 129, 254]]], np.uint8)
    data = from_arrays(x, binarize="threshold", test=(x, None))
    assert everything(data.test.matching(data.spec)).int().tolist() == [[[[0, 0, 1, 1]]], [[[0, 0, 1, 1]]]]


@pytest.mark.parametrize("scale", [1, 255])
def test_none_keeps_grey_values_in_model_units(scale):
    x = images(ROWS) if scale == 255 else images(ROWS) / np.float32(255)
    data = from_arrays(x, binarize="none", valid_fraction=0.0, test_fraction=0.0)
    rows = data.train.matching(wanted(data), resample=True)
    assert not rows.resample
    assert rows.spec.scored_support == ("levels" if scale == 255 else "unit")
    assert sorted(everything(rows).flatten().tolist()) == pytest.approx(
        sorted((images(ROWS) / 255).flatten()), abs=1e-7
    )


@pytest.mark.parametrize("protocol", ["none", "dynamic", "static-seed", "threshold"])
@pytest.mark.parametrize("resample", [False, True])
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_matching_twice_is_matching_once(protocol, split, resample):
    data = grey(binarize=protocol)
    once = data.split(split).matching(data.spec, resample=resample)
    twice = once.matching(once.spec, resample=resample)
    assert once.resample == (resample and protocol == "dynamic")
    torch.manual_seed(4)
    first = everything(once)
    torch.manual_seed(4)
    assert torch.equal(everything(twice), first)
    assert (twice.spec, twice.resample, twice.scale) == (once.spec, once.resample, once.scale)


def test_the_protocol_of_the_data_wins_over_the_models_and_auto_follows_the_model():
    data = grey(binarize="threshold")
    assert data.test.matching(wanted(data, "dynamic")).spec.binarize == "threshold"
    data = grey()
    assert data.test.matching(wanted(data, "static-seed")).spec.binarize == "static-seed"
    assert data.test.matching(wanted(data, "none")).spec.scored_support == "levels"


@pytest.mark.parametrize("resample", [False, True])
def test_binary_data_are_left_alone(resample):
    data = from_arrays(np.random.default_rng(0).integers(0, 2, (ROWS, 5, 4)), binarize="dynamic")
    rows = data.train.matching(data.spec, resample=resample)
    assert not rows.resample
    assert torch.equal(everything(rows), data.train.values())
    assert rows.spec.binarize == "none"


@pytest.mark.parametrize("protocol", ["dynamic", "static-seed", "threshold"])
def test_real_values_cannot_be_binarised(protocol):
    x = np.random.default_rng(0).normal(size=(ROWS, 3))
    with pytest.raises(UsageError, match="cannot be binarised"):
        from_arrays(x, binarize=protocol)
    assert from_arrays(x).train.matching(from_arrays(x).spec).spec.binarize == "none"


def test_data_with_as_many_but_other_classes_are_refused():
    # Class 0 of the one is no class of the other: y would mean something else without a word.
    ones, others = (
        from_arrays(images(ROWS), np.array(names)[np.arange(ROWS) % 2]) for names in (["ant", "bee"], ["cat", "dog"])
    )
    with pytest.raises(DataError) as caught:
        ones.test.matching(others.spec)
    for name in ("ant", "cat"):
        assert name in str(caught.value)


def test_data_that_do_not_fit_a_model_are_refused():
    data, wide = grey(), from_arrays(images(ROWS, 4, 5))
    with pytest.raises(ShapeError, match=r"\(1, 5, 4\)"):
        data.test.matching(wide.spec)
    with pytest.raises(DataError, match="3 classes"):
        from_arrays(images(ROWS), np.arange(ROWS) % 3).test.matching(
            from_arrays(images(ROWS), np.arange(ROWS) % 7).spec
        )
