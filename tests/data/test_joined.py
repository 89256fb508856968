"""Several modalities as one tensor: what lies where, what is missing, what is drawn, and what is refused."""

import numpy as np
import pytest
import torch

import lowerbound as lb
from lowerbound.core.errors import DataError, UsageError
from lowerbound.core.modalities import split, together
from lowerbound.data.like import given_rows
from lowerbound.data.modalities import labelled

ROWS = 40
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (ROWS, 3, 4), dtype=np.uint8)
NAMES = np.array(["cat", "dog", "owl"])[np.arange(ROWS) % 3]
SIZE = RNG.normal(5, 2, ROWS)


def made(**options):
    parts = {"image": GREY, "kind": NAMES, "size": SIZE}
    return lb.joined({**parts, **options.pop("parts", {})}, **options)


def everything(data):
    """Return all rows in the order they were given, and their mask."""
    rows = data.split("all")
    mask = rows.mask_values()
    return split(data.spec, rows.values()), None if mask is None else split(data.spec, mask)


def test_each_modality_lies_in_its_place_with_its_own_spec():
    data = made(y=NAMES)
    parts, mask = everything(data)
    assert mask is None
    np.testing.assert_allclose(parts["image"][:, 0], GREY / 255, atol=1e-6)
    assert parts["kind"].argmax(1).tolist() == [i % 3 for i in range(ROWS)]
    np.testing.assert_allclose(parts["size"][:, 0], SIZE, atol=1e-6)
    image, kind, size = (m.spec for m in data.spec.modalities)
    assert (image.shape, image.grey, image.resolution) == ((1, 3, 4), True, 1 / 255)
    assert (kind.support, kind.classes) == ("onehot", ("cat", "dog", "owl"))
    assert (size.support, size.shape) == ("real", (1,))
    assert (data.spec.shape, data.spec.scored_support, data.spec.masked) == ((16,), "mixed", False)
    assert data.spec.classes == ("cat", "dog", "owl")
    assert len(data.train) + len(data.valid) + len(data.test) == ROWS


def test_missing_modalities_are_masked_and_said():
    size, has = SIZE.copy(), np.arange(ROWS) % 4 > 0
    size[::5] = np.nan
    data = made(parts={"size": size}, observed={"kind": has})
    parts, mask = everything(data)
    assert mask["image"].all()
    assert mask["kind"].all(1).tolist() == mask["kind"].any(1).tolist() == has.tolist()
    assert mask["size"][:, 0].tolist() == [i % 5 > 0 for i in range(ROWS)]
    assert bool(torch.cat([v.flatten(1) for v in parts.values()], 1).isfinite().all())
    assert [m.missing for m in data.spec.modalities] == [False, True, True]
    assert data.spec.masked
    assert any("kind in 10, size in 8" in note for note in data.notes)


def test_grey_pixels_alone_are_drawn():
    """A real modality beside them keeps floats; without one, bytes stay bytes."""
    for parts in ({"image": GREY, "kind": NAMES, "size": SIZE}, {"image": GREY, "kind": NAMES}):
        data = lb.joined(parts)
        assert (data.train.x.dtype == torch.uint8) == ("size" not in parts)
        spec = data.spec.settle("mixed")
        assert spec.binarize == spec.modalities[0].spec.binarize == "dynamic"
        before = split(spec, data.train.values())
        trained, fixed = data.train.matching(spec, resample=True), data.train.matching(spec)
        torch.manual_seed(0)
        one, other = (split(spec, trained.batch(slice(None)).x) for _ in range(2))
        again = split(spec, fixed.batch(slice(None)).x)
        assert set(one["image"].unique().tolist()) == set(again["image"].unique().tolist()) == {0, 1}
        assert not torch.equal(one["image"], other["image"])
        assert torch.equal(split(spec, fixed.matching(spec).batch(slice(None)).x)["image"], again["image"])
        for name in set(parts) - {"image"}:
            for drawn in (one, other, again):
                assert torch.equal(drawn[name], before[name])
        half = split(spec, lb.joined(parts, binarize="threshold").train.matching(spec).batch(slice(None)).x)
        assert torch.equal(half["image"], (before["image"] >= 0.5).float())
        grey = split(spec, lb.joined(parts, binarize="none").train.matching(spec.protocol("none")).batch(slice(None)).x)
        torch.testing.assert_close(grey["image"], before["image"])


def test_drawn_pixels_have_the_grey_value_as_their_mean():
    """4,000 draws of 3 pixels: false-fail rate 2e-8."""
    data = lb.joined({"image": np.full((4000, 1, 3), (51, 128, 204), np.uint8), "kind": np.arange(4000) % 2})
    fixed = split(data.spec, data.train.matching(data.spec.settle("mixed")).values())["image"].flatten(1).mean(0)
    p = torch.tensor([51, 128, 204]) / 255
    assert float(((fixed - p).abs() / (p * (1 - p) / len(data.train)).sqrt()).max()) < 5.7


def test_the_label_becomes_a_modality_of_labelled_data():
    plain, both = lb.load_data("digits"), lb.load_data("digits", with_label=True)
    for name in ("train", "valid", "test"):
        one, other = plain.split(name), both.split(name)
        parts = split(both.spec, other.values())
        assert torch.equal(parts["image"], one.values())
        assert torch.equal(parts["label"].argmax(1), one.y)
        assert torch.equal(other.places, one.places)
        assert torch.equal(other.y, one.y)
    assert both.spec.modalities[1].spec.classes == plain.spec.classes
    assert both.origin["with_label"] is True
    again = lb.load_data(**both.origin, like=both.spec)
    assert torch.equal(again.train.x, both.train.x)


def test_new_rows_without_labels_lack_that_modality():
    both = lb.load_data("digits", with_label=True)
    rows = given_rows(lb.load_data("digits").test.x, both.spec.modalities[0].spec)
    made = labelled(rows, both.spec)
    assert not bool(split(both.spec, made.mask_values())["label"].any())
    assert bool(split(both.spec, made.mask_values())["image"].all())
    assert made.matching(both.spec.settle("mixed")).batch(slice(3)).mask.shape == (3, 74)


def test_parts_are_put_together_as_split_takes_them_apart():
    data = made()
    parts, _ = everything(data)
    x, mask = together(data.spec, {name: parts[name] for name in ("size", "image")})
    assert torch.equal(split(data.spec, x)["image"], parts["image"])
    assert not bool(split(data.spec, mask)["kind"].any())
    assert bool(split(data.spec, mask)["size"].all())
    with pytest.raises(UsageError, match="no modality 'sound'"):
        together(data.spec, {"sound": parts["size"]})
    with pytest.raises(UsageError, match="no modality was given"):
        together(data.spec, {})


def test_what_cannot_be_joined_is_refused():
    partly = GREY / 255.0
    partly[3, 0, 0] = np.nan
    for parts, options, said in (
        ({}, {}, "no modalities"),
        ({"image": GREY, "kind": NAMES[:-1]}, {}, "different numbers of rows: 40 of image, 39 of kind"),
        ({"image": partly}, {}, "NaN values in 1 rows"),
        ({"image": GREY * np.nan}, {}, "no row has image"),
        ({"image": GREY}, {"observed": {"sound": [True] * ROWS}}, "no modality 'sound'"),
        ({"image": GREY}, {"observed": {"image": [True]}}, "40 true or false"),
        ({"kind": ["a"] * ROWS}, {}, "same in all rows"),
        ({"image": 3}, {}, "has shape"),
    ):
        with pytest.raises((DataError, UsageError), match=said):
            lb.joined(parts, **options)
    with pytest.raises(UsageError, match="no labels of two classes"):
        lb.load_data("ring", with_label=True)


def test_rows_of_other_modalities_do_not_match():
    data = made()
    assert len(data.train.matching(made().spec)) == len(data.train)
    renamed = lb.joined({"picture": GREY, "kind": NAMES, "size": SIZE})
    with pytest.raises(DataError, match="has the modalities image"):
        data.train.matching(renamed.spec)
    with pytest.raises(DataError, match="one kind of data"):
        labelled(lb.load_data("digits").test, data.spec)
