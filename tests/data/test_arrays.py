"""Arrays of every kind: what is taken, how its support is found, and what is refused."""

import numpy as np
import pytest
import torch
from idx_files import images

from lowerbound import from_arrays, load_data
from lowerbound.core.errors import DataError, LowerboundError

rng = np.random.default_rng(6)


@pytest.mark.parametrize(
    ("x", "support"),
    [
        (images(20), "unit"),
        (images(20) / np.float32(255), "unit"),
        (rng.integers(0, 2, (20, 5, 4)), "binary"),
        (rng.integers(0, 2, (20, 5, 4)).astype(bool), "binary"),
        (rng.integers(0, 2, (20, 3)), "binary"),
        (rng.random((20, 3)), "real"),  # a table in [0, 1] is no picture
        (rng.random((20, 5, 4)) - 0.5, "real"),
        (rng.random((20, 5, 4)) * 255, "real"),
        (np.full((20, 3), 7.25), "real"),
    ],
)
def test_the_support_is_found_from_the_values(x, support):
    assert from_arrays(x).spec.support == support
    assert from_arrays(torch.from_numpy(x)).spec.support == support


@pytest.mark.parametrize(
    ("x", "shape", "kind"),
    [
        (rng.random((20, 3)), (3,), "table"),
        (rng.random((20, 5, 4)), (1, 5, 4), "image"),
        (rng.random((20, 3, 5, 4)), (3, 5, 4), "image"),
    ],
)
def test_shape_and_kind_follow_the_axes(x, shape, kind):
    spec = from_arrays(x).spec
    assert (spec.shape, spec.kind, spec.dims) == (shape, kind, int(np.prod(shape)))


@pytest.mark.parametrize(
    "x",
    [
        np.asfortranarray(images(20)),
        images(40)[::2],
        images(20)[:, ::-1],
        np.broadcast_to(images(1), (20, 5, 4)),
        images(20).transpose(0, 2, 1),
        torch.from_numpy(images(20)).transpose(1, 2),
        rng.random((20, 3)).astype(">f4"),
        rng.random((20, 3)).astype(">f8"),
        rng.integers(0, 9, (20, 3)).astype(">i4"),
        rng.random((20, 3)).astype(np.float16),
        rng.random((20, 3)).astype(np.longdouble),
        rng.integers(0, 9, (20, 3)).astype(np.uint16),
        rng.random((20, 3)).tolist(),
    ],
)
def test_layout_byte_order_and_width_do_not_matter(x):
    array = x.numpy() if isinstance(x, torch.Tensor) else np.array(x)
    plain = from_arrays(np.ascontiguousarray(array).astype("u1" if array.dtype == np.uint8 else "f8"))
    assert torch.equal(from_arrays(x).train.values(), plain.train.values())


def test_colours_of_a_pixel_become_channels():
    x = rng.integers(0, 256, (20, 5, 4, 3)).astype(np.uint8)
    rows = from_arrays(x, valid_fraction=0.0, test_fraction=0.0).train
    assert rows.spec.shape == (3, 5, 4)
    for channel in range(3):
        assert torch.equal(rows.x[:, channel], torch.from_numpy(x[..., channel]))


def test_the_callers_array_is_neither_changed_nor_shared():
    x = images(20)
    data = from_arrays(x)
    kept = data.train.x.clone()
    x[:] = 0
    assert torch.equal(data.train.x, kept)
    given = torch.rand(20, 3, requires_grad=True)
    assert not from_arrays(given).train.x.requires_grad


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.array([[1, 2, np.nan], [np.inf, 4, 5]]), ("2 values", "not finite")),
        (torch.tensor([[1.0, float("-inf")], [3.0, 4.0]]), ("1 values", "not finite")),
        (np.ones((5, 3), complex), ("complex",)),
        (torch.ones(5, 3, dtype=torch.complex64), ("complex",)),
        (np.array([["a", "b"], ["c", "d"]]), ("real numbers",)),
        (np.array([["a", 1], [None, 2]], object), ("real numbers",)),
        ([[1, 2], [3]], ("real numbers",)),
        (np.array(["2020-01-01"] * 4, "datetime64[D]").reshape(2, 2), ("real numbers",)),
        (images(1), ("(1, 5, 4)", "2 ")),
        (np.zeros((0, 3)), ("(0, 3)", "2 ")),
        (np.zeros(9), ("(9,)", "2 ")),
        (np.float32(3), ("2 ",)),
        (np.zeros((5, 0)), ("(5, 0)", "1 ")),
        (np.zeros((5, 0, 4)), ("(5, 0, 4)", "1 ")),
        (np.full((5, 3), 1e300), ("not finite", "float32")),  # finite, until it is stored as float32
    ],
)
def test_bad_arrays_are_refused(x, words):
    with pytest.raises(DataError) as caught:
        from_arrays(x, name="mine")
    for word in ("mine", *words):
        assert word in str(caught.value), caught.value


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (rng.random((7, 5, 6)), ("(5, 6)", "(5, 4)")),
        (rng.random((7, 20)), ("(20,)", "(5, 4)")),
        (np.full((7, 5, 4), np.nan), ("(test)", "not finite")),
    ],
)
def test_a_test_split_unlike_the_training_rows_is_refused(test, words):
    with pytest.raises(LowerboundError) as caught:
        from_arrays(rng.random((20, 5, 4)), test=(test, None))
    assert caught.value.exit_code == 2
    for word in words:
        assert word in str(caught.value), caught.value


@pytest.mark.parametrize(
    ("train", "test", "support"),
    [
        (rng.random((20, 5, 4)), rng.random((7, 5, 4)) * 255, "real"),
        (rng.random((20, 5, 4)), images(7), "real"),
        (rng.integers(0, 2, (20, 5, 4)), rng.random((7, 5, 4)), "unit"),
        (rng.integers(0, 2, (20, 3)), rng.random((7, 3)) - 0.5, "real"),
    ],
)
def test_the_support_covers_the_test_split_too(train, test, support):
    # A likelihood that cannot score the test split must be refused before training, not give a wrong number after.
    assert from_arrays(train, test=(test, None)).spec.support == support


def test_a_test_split_in_other_units_is_never_rescaled_silently():
    test = rng.random((7, 5, 4)).astype(np.float32)
    try:
        data = from_arrays(images(20), test=(test, None))
    except LowerboundError as error:
        assert "test" in str(error)
    else:
        np.testing.assert_allclose(data.test.values()[:, 0].numpy(), test, atol=1e-6)


@pytest.mark.parametrize("scale", [0, -1, 100])
def test_a_scale_that_the_values_exceed_is_refused(scale):
    with pytest.raises(LowerboundError) as caught:
        from_arrays(images(20), scale=scale)
    assert str(scale) in str(caught.value)


def test_labels_are_numbered_in_their_own_order():
    numbers = np.arange(36) % 12 * 3
    spec = from_arrays(rng.random((36, 2)), numbers).spec
    assert spec.classes == tuple(str(3 * i) for i in range(12))  # 9 before 12, unlike strings
    names = np.array(["b", "a", "c"] * 12)
    data = from_arrays(np.arange(72).reshape(36, 2), names, test_fraction=0.0, valid_fraction=0.0)
    assert data.spec.classes == ("a", "b", "c")
    found = [data.spec.classes[i] for i in data.train.y]
    assert found == [names[int(row[0]) // 2] for row in data.train.x]


def test_test_labels_get_the_numbers_of_the_training_labels():
    data = from_arrays(rng.random((24, 2)), np.arange(24) % 12, test=(rng.random((4, 2)), np.array([11, 2, 10, 9])))
    assert data.test.y.tolist() == [11, 2, 10, 9]
    assert data.test.labels().shape == (4, 12)
    assert data.test.labels()[1].tolist() == [0, 0, 1] + [0] * 9


@pytest.mark.parametrize(
    ("y", "test_y", "words"),
    [
        (np.arange(23), None, ("24", "(23,)")),
        (np.zeros((24, 1)), None, ("24", "(24, 1)")),
        (np.arange(24) % 3, np.arange(5), ("4", "(5,)")),
        (np.arange(24) % 3, np.array([0, 1, 7, 2]), ("'7'",)),
        ([None, "a"] * 12, None, ("label",)),
        (np.array([0.0, np.nan] * 12), None, ("label",)),
        ([[1], [2, 3]] * 12, None, ("label",)),
    ],
)
def test_labels_that_do_not_fit_are_refused(y, test_y, words):
    with pytest.raises(DataError) as caught:
        from_arrays(rng.random((24, 2)), y, test=(rng.random((4, 2)), test_y))
    for word in words:
        assert word in str(caught.value), caught.value


def test_more_axes_than_an_image_has_are_refused(tmp_path):
    x = np.zeros((6, 2, 3, 4, 4), np.float32)
    with pytest.raises(DataError, match=r"shape \(6, 2, 3, 4, 4\)"):
        from_arrays(x)
    np.save(tmp_path / "x.npy", x)
    for memory in ("auto", "map"):
        with pytest.raises(DataError, match=r"shape \(6, 2, 3, 4, 4\)"):
            load_data(tmp_path / "x.npy", memory=memory)
