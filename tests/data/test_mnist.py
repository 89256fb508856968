"""MNIST as it comes with the package: the canonical files, and nothing else under their names."""

import numpy as np
import pytest
import torch

from lowerbound.core.errors import CorruptArtifact
from lowerbound.data import builtin, load_data

# The labels of the canonical files, counted with numpy apart from this package.
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.fixture(scope="module")
def mnist():
    return load_data("mnist")


def test_sizes_and_spec(mnist):
    assert [tuple(part.x.shape) for part in (mnist.train, mnist.valid, mnist.test)] == [
        (55_000, 1, 28, 28),
        (5000, 1, 28, 28),
        (10_000, 1, 28, 28),
    ]
    spec = mnist.spec
    assert (spec.name, spec.shape, spec.kind, spec.support, spec.size) == (
        "mnist",
        (1, 28, 28),
        "image",
        "unit",
        55_000,
    )
    assert spec.classes == tuple("0123456789")
    assert spec.resolution == 1 / 255
    assert mnist.train.x.dtype == torch.uint8


def test_every_label_as_often_as_in_the_canonical_files(mnist):
    both = torch.cat([mnist.train.y, mnist.valid.y])
    assert torch.bincount(both).tolist() == TRAIN_COUNTS
    assert torch.bincount(mnist.test.y).tolist() == TEST_COUNTS


def test_the_test_split_is_in_its_own_order_and_the_first_training_label_is_five(mnist):
    assert mnist.test.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    first = builtin.read_idx(builtin._MNIST / "train-labels-idx1-ubyte.gz")[:8]
    assert first.tolist() == [5, 0, 4, 1, 9, 2, 1, 3]


def test_pixels_are_the_canonical_ones(mnist):
    # The mean and the standard deviation of the 60,000 training images are in every tutorial: 0.1307 and 0.3081.
    pixels = torch.cat([mnist.train.x, mnist.valid.x])
    counts = torch.bincount(pixels.flatten().int(), minlength=256).double()
    values = torch.arange(256) / 255
    mean = float((counts * values).sum() / counts.sum())
    square = float((counts * values.square()).sum() / counts.sum())
    assert mean == pytest.approx(0.1307, abs=5e-5)
    assert (square - mean**2) ** 0.5 == pytest.approx(0.3081, abs=5e-5)


@pytest.mark.parametrize("name", sorted(builtin._MNIST_SHA256))
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_damaged_copy_is_a_corrupt_artifact(name, damage, tmp_path, monkeypatch):
    for file in builtin._MNIST_SHA256:
        (tmp_path / file).symlink_to(builtin._MNIST / file)
    content = bytearray((builtin._MNIST / name).read_bytes())
    (tmp_path / name).unlink()
    if damage == "flipped":
        content[len(content) // 2] ^= 4
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(builtin, "_MNIST", tmp_path)
    # Only the sums are of interest here; reading the other files would cost seconds.
    monkeypatch.setattr(builtin, "read_idx", lambda path: np.zeros((2, 2)))
    with pytest.raises(CorruptArtifact) as caught:
        load_data("mnist")
    assert caught.value.exit_code == 4
    assert str(tmp_path / name) in str(caught.value)
