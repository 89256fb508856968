"""`from_arrays` of numpy.memmap: rows stay in the file, and give the weights that they give in memory."""

import numpy as np
import pytest
import torch
from test_stored import StopAt, in_memory, trained, weights

from lowerbound import from_arrays, resume
from lowerbound.core.errors import DataError, UsageError
from lowerbound.data.stored import Stored


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("lowerbound.data.stored_arrays.BLOCK_BYTES", 16 * 30)
    monkeypatch.setattr("lowerbound.data.array_blocks.BLOCK_BYTES", 16 * 4 * 8)
    monkeypatch.setattr("lowerbound.data.stored.WINDOW_BYTES", 64 * 30)
    monkeypatch.setattr("lowerbound.data.mapped._UNITS", 30)


@pytest.fixture
def mapped(tmp_path):
    """Return a function that writes an array and maps it."""

    def make(array):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(path, array)
        return np.load(path, mmap_mode="r")

    return make


def images(count=200, shape=(6, 5), seed=3):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def test_rows_stay_in_the_file_with_labels_weights_and_what_is_seen(mapped, tmp_path, monkeypatch):
    monkeypatch.setattr("lowerbound.train.log.time.monotonic", iter(range(10_000)).__next__)
    x, y, weight = images(), np.arange(200) % 3, np.arange(200) % 5 + 0.5
    given = {"y": y, "weight": weight, "seen": mapped(255 - x), "memory": "map"}
    data = from_arrays(mapped(x)[:], **given)
    assert isinstance(data.train.x, Stored)
    for part in (data.train, data.valid, data.test):
        places = part.places.numpy()
        np.testing.assert_array_equal(part.x[:][:, 0].numpy(), x[places])
        np.testing.assert_array_equal(part.seen[:][:, 0].numpy(), 255 - x[places])
        assert part.y.tolist() == y[places].tolist()
    whole = weights(trained(data))
    assert whole == weights(trained(in_memory(data)))
    assert trained(data, out=tmp_path / "run", listeners=(StopAt(2, 2),)).status == "stopped"
    again = from_arrays(mapped(x), **given | {"seen": mapped(255 - x)})
    with pytest.raises(DataError, match="is not what run was trained on"):  # files of other names
        resume(tmp_path / "run", again, progress=False)
    assert weights(resume(tmp_path / "run", data, progress=False, report=False)) == whole


@pytest.mark.parametrize("options", [{}, {"layout": "chw"}, {"kind": "table"}, {"test_fraction": 0.0}, {"scale": 300}])
def test_options_mean_what_they_mean_for_arrays_in_memory(options, mapped):
    x = images(shape=(6, 5, 3) if options.get("kind") != "table" else (30,))
    disk, held = (from_arrays(mapped(x), memory=memory, **options) for memory in ("map", "hold"))
    assert isinstance(disk.train.x, Stored)
    names = ("shape", "kind", "support", "layout", "resolution", "classes")
    assert [getattr(disk.spec, name) for name in names] == [getattr(held.spec, name) for name in names]
    assert torch.equal(disk.split("all").values(), held.split("all").values())


def test_tables_and_test_splits(mapped):
    x = np.random.default_rng(0).normal(5, 3, (200, 4))
    x[7, 2] = np.nan
    data = from_arrays(mapped(x), standardize=True, missing="keep", memory="map")
    assert isinstance(data.train.x, Stored)
    assert (~data.split("all").mask[:]).nonzero().tolist() == [[7, 2]]
    assert float(data.train.x[:].mean(0).abs().max()) < 1e-5
    data = from_arrays(mapped(x[10:]), test=(mapped(x[20:40]), None), memory="map")
    np.testing.assert_allclose(data.test.x[:], x[20:40].astype(np.float32))


def test_large_maps_stay_and_others_are_copied(mapped, monkeypatch):
    monkeypatch.setattr("lowerbound.data.mapped.memory_size", lambda: 4 * 200 * 30 - 4)
    assert isinstance(from_arrays(mapped(images())).train.x, Stored)
    assert isinstance(from_arrays(mapped(images()), seen=images()).train.x, torch.Tensor)
    assert isinstance(from_arrays(mapped(images()), memory="hold").train.x, torch.Tensor)
    assert isinstance(from_arrays(mapped(images(199))).train.x, torch.Tensor)


def test_what_is_in_no_file_cannot_stay_there(mapped):
    for given, what in (
        ({"x": images()}, "arrays is in memory"),
        ({"x": mapped(images()), "seen": images()}, r"arrays \(seen\) is in memory"),
        ({"x": mapped(images()), "test": (images(), None)}, r"arrays \(test\) is in memory"),
    ):
        with pytest.raises(UsageError, match=what):
            from_arrays(memory="map", **given)
    with pytest.raises(UsageError, match="only tables are standardised"):
        from_arrays(mapped(images()), standardize=True, memory="map")
    with pytest.raises(DataError, match="complex or text"):
        from_arrays(mapped(images() + 1j), memory="map")
