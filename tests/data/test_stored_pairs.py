"""Pairs that stay on disk: each row beside its partner, and the weights they give in memory."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_stored import StopAt, in_memory, trained, weights

from lowerbound import load_data, resume
from lowerbound.core.errors import DataError, UsageError
from lowerbound.data.stored import Stored


def images(count=200, shape=(6, 5), seed=3):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("lowerbound.data.stored_arrays.BLOCK_BYTES", 16 * 30)
    monkeypatch.setattr("lowerbound.data.stored.WINDOW_BYTES", 64 * 30)
    monkeypatch.setattr("lowerbound.data.mapped._UNITS", 30)


@pytest.fixture
def pair(tmp_path):
    clean = images()
    hazy = (clean // 2 + 100).astype(np.uint8)
    np.save(tmp_path / "clean.npy", clean)
    np.save(tmp_path / "hazy.npy", hazy)
    return tmp_path / "clean.npy", tmp_path / "hazy.npy"


def test_each_row_lies_beside_its_partner(pair):
    data = load_data(pair[0], seen=pair[1], memory="map")
    clean, hazy = (np.load(path)[:, None] for path in pair)
    assert isinstance(data.train.seen, Stored)
    for part in (data.train, data.valid, data.test):
        places = part.places.numpy()
        np.testing.assert_array_equal(part.x[:].numpy(), clean[places])
        np.testing.assert_array_equal(part.seen[:].numpy(), hazy[places])
    held = load_data(*pair[:1], seen=pair[1], memory="hold")
    assert (data.spec.paired, data.train.seen_scale) == (held.spec.paired, held.train.seen_scale)


@pytest.mark.parametrize("kind", ["floats", "binary"])
def test_what_is_seen_has_the_scale_it_has_in_memory(kind, pair, tmp_path):
    seen = images() / 255 if kind == "floats" else (images() > 99).astype(np.uint8)
    np.save(tmp_path / "seen.npy", seen)
    disk, held = (load_data(pair[0], seen=tmp_path / "seen.npy", memory=m).split("all") for m in ("map", "hold"))
    assert disk.seen_scale == held.seen_scale
    assert torch.equal(disk.seen_values(), held.seen_values())


def test_training_on_pairs_ends_with_the_weights_of_the_same_rows_in_memory(pair, tmp_path, monkeypatch):
    monkeypatch.setattr("lowerbound.train.log.time.monotonic", iter(range(10_000)).__next__)
    data = load_data(pair[0], seen=pair[1], memory="map")
    whole = weights(trained(data))
    assert whole == weights(trained(in_memory(data)))
    assert whole != weights(trained(load_data(pair[0], memory="map")))
    assert trained(data, out=tmp_path / "run", listeners=(StopAt(2, 2),)).status == "stopped"
    assert weights(resume(tmp_path / "run", load_data(**data.origin), progress=False, report=False)) == whole


def test_files_are_paired_by_name(tmp_path):
    x = images(40)
    for name, suffix, places in (("clean", "png", range(40)), ("hazy", "bmp", reversed(range(40)))):
        (tmp_path / name).mkdir()
        for i in places:
            Image.fromarray(x[i] if name == "clean" else 255 - x[i]).save(tmp_path / name / f"{i:02d}.{suffix}")
    data = load_data(tmp_path / "clean", seen=tmp_path / "hazy", memory="map").split("all")
    assert torch.equal(data.seen[:], 255 - data.x[:])
    (tmp_path / "hazy" / "07.bmp").rename(tmp_path / "hazy" / "77.bmp")
    with pytest.raises(DataError, match="1 images of clean and hazy have no partner: 07"):
        load_data(tmp_path / "clean", seen=tmp_path / "hazy", memory="map")


def test_what_is_no_pair_is_refused(pair, tmp_path):
    np.save(tmp_path / "few.npy", images(90))
    np.save(tmp_path / "wide.npy", images(shape=(6, 6)))
    np.savez(tmp_path / "split.npz", x_train=images(150), x_test=images(50))
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n")
    for one, seen, error, message in (
        ("clean.npy", "few.npy", DataError, "clean has 200 examples, few 90"),
        ("clean.npy", "wide.npy", DataError, r"what is seen of clean has shape \(1, 6, 6\)"),
        ("clean.npy", "split.npz", UsageError, "beside a separate test split"),
        ("t.csv", "clean.npy", UsageError, "rows of a table cannot be paired"),
    ):
        with pytest.raises(error, match=message):
            load_data(tmp_path / one, seen=tmp_path / seen, memory="map")
