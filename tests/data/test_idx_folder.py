"""Folders of IDX files under the names of MNIST, single files, and what can be wrong with either."""

import shutil

import numpy as np
import pytest
from idx_files import images, write

from lowerbound.core.errors import DataError, UsageError
from lowerbound.data import load_data

TRAIN, TEST, CLASSES = 60, 17, 7


def fill(folder, suffix="", test=True, labels=True):
    x, y = images(TRAIN), (np.arange(TRAIN) * 5 % CLASSES).astype(np.uint8)
    write(folder / f"train-images-idx3-ubyte{suffix}", x)
    if labels:
        write(folder / f"train-labels-idx1-ubyte{suffix}", y)
    if test:
        write(folder / f"t10k-images-idx3-ubyte{suffix}", images(TEST, seed=1))
        if labels:
            write(folder / f"t10k-labels-idx1-ubyte{suffix}", (np.arange(TEST) % CLASSES).astype(np.uint8))
    return x, y


def multiset(data):
    """Return all rows of a split as a sorted list of bytes."""
    return sorted(row.numpy().tobytes() for row in data.x)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_folder_with_the_names_of_mnist(suffix, tmp_path):
    fill(tmp_path, suffix)
    data = load_data(tmp_path, valid_fraction=0.25)
    assert (len(data.train), len(data.valid), len(data.test)) == (45, 15, TEST)
    assert data.spec.shape == (1, 5, 4)
    assert data.spec.support == "unit"
    assert data.spec.classes == tuple("0123456")
    assert data.spec.name == tmp_path.name
    np.testing.assert_array_equal(data.test.x[:, 0].numpy(), images(TEST, seed=1))
    assert data.test.y.tolist() == [i % CLASSES for i in range(TEST)]


def test_labels_stay_with_their_images(tmp_path):
    x, y = fill(tmp_path)
    label = {row.tobytes(): int(number) for row, number in zip(x, y, strict=True)}
    data = load_data(tmp_path)
    for part in (data.train, data.valid):
        assert [label[row.numpy().tobytes()] for row in part.x] == part.y.tolist()


def test_a_folder_without_a_test_split_has_one_split_off(tmp_path):
    x, _ = fill(tmp_path, test=False)
    data = load_data(tmp_path, test_fraction=0.2, valid_fraction=0.25)
    assert (len(data.train), len(data.valid), len(data.test)) == (36, 12, 12)
    together = sorted(multiset(data.train) + multiset(data.valid) + multiset(data.test))
    assert together == sorted(row.tobytes() for row in x)


def test_a_single_file_in_a_folder_or_alone(tmp_path):
    path = write(tmp_path / "cells-idx3-ubyte.gz", images(TRAIN))
    in_folder, alone = load_data(tmp_path), load_data(path)
    assert multiset(in_folder.train) == multiset(alone.train)
    assert alone.spec.classes == ()
    assert alone.train.labels() is None


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("train-labels-idx1-ubyte", np.zeros(TRAIN - 1, np.uint8), (str(TRAIN), f"({TRAIN - 1},)")),
        ("t10k-labels-idx1-ubyte", np.zeros(TEST + 2, np.uint8), (str(TEST), f"({TEST + 2},)")),
        ("t10k-labels-idx1-ubyte", np.full(TEST, 9, np.uint8), ("'9'",)),
        ("t10k-images-idx3-ubyte", images(TEST, 4, 5), ("(4, 5)", "(5, 4)")),
        ("t10k-images-idx3-ubyte", np.zeros(TEST, np.uint8), ("()", "(5, 4)")),
    ],
)
def test_a_file_that_does_not_fit_the_others(name, array, words, tmp_path):
    fill(tmp_path)
    write(tmp_path / name, array)
    with pytest.raises(DataError) as caught:
        load_data(tmp_path)
    for word in words:
        assert word in str(caught.value), caught.value


@pytest.mark.parametrize("shape", [(0, 5, 4), (1, 5, 4), (TRAIN, 0, 4), (TRAIN,)])
def test_training_images_without_rows_or_values(shape, tmp_path):
    write(tmp_path / "train-images-idx3-ubyte", np.zeros(shape, np.uint8))
    with pytest.raises(DataError) as caught:
        load_data(tmp_path)
    assert str(shape) in str(caught.value)
    assert "expected" in str(caught.value)


def test_not_finite_values_in_the_test_split_are_found_before_training(tmp_path):
    fill(tmp_path, test=False)
    write(tmp_path / "train-images-idx3-ubyte", np.random.default_rng(0).random((TRAIN, 5, 4)).astype("f4"))
    bad = np.zeros((TEST, 5, 4), np.float32)
    bad[2, 3, 1], bad[4, 0, 0] = np.nan, np.inf
    write(tmp_path / "t10k-images-idx3-ubyte", bad)
    with pytest.raises(DataError, match=r"\(test\) has 2 values that are not finite"):
        load_data(tmp_path)


def test_an_empty_folder_and_one_without_idx_files(tmp_path):
    with pytest.raises(DataError, match="0 examples"):
        load_data(tmp_path)
    (tmp_path / "notes.md").write_bytes(b"nothing here")
    with pytest.raises(DataError, match="0 examples"):
        load_data(tmp_path)


def test_an_empty_file_and_a_file_of_labels(tmp_path):
    (tmp_path / "images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match="not an IDX file"):
        load_data(tmp_path / "images-idx3-ubyte")
    with pytest.raises(DataError, match="labels"):
        load_data(write(tmp_path / "labels-idx1-ubyte", np.zeros(TRAIN, np.uint8)))
    with pytest.raises(DataError, match="0 examples"):
        load_data(write(tmp_path / "none-idx3-ubyte", np.zeros((0, 5, 4), np.uint8)))


def test_two_files_for_one_split_are_refused_and_the_same_file_packed_is_not(tmp_path):
    fill(tmp_path)
    fill(tmp_path, ".gz")
    assert len(load_data(tmp_path).test) == TEST
    shutil.copy(tmp_path / "train-images-idx3-ubyte", tmp_path / "train-more-images-idx3-ubyte")
    with pytest.raises(DataError, match="several files"):
        load_data(tmp_path)


def test_an_unknown_name_gets_a_hint():
    with pytest.raises(DataError, match="did you mean mnist"):
        load_data("mnits")


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
@pytest.mark.parametrize("option", ["valid_fraction", "test_fraction"])
def test_a_share_out_of_range(option, fraction, tmp_path):
    fill(tmp_path, test=False)
    with pytest.raises(UsageError, match=str(fraction)):
        load_data(tmp_path, **{option: fraction})
