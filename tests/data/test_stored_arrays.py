"""Arrays with labels, weights and test splits that stay on disk: .npz, IDX and tables of numbers, as in memory."""

import gzip

import numpy as np
import pytest
import torch
from idx_files import pack
from test_stored import StopAt, in_memory, trained, weights

from lowerbound import load_data, resume
from lowerbound.core.errors import DataError, UsageError
from lowerbound.data.columns import columns_of_array
from lowerbound.data.splits import Plan
from lowerbound.data.stored import Stored


def images(count=200, shape=(6, 5), seed=3):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Blocks of 16 images, windows of 4 blocks; blocks of 16 rows of 4 numbers."""
    monkeypatch.setattr("lowerbound.data.stored_arrays.BLOCK_BYTES", 16 * 30)
    monkeypatch.setattr("lowerbound.data.array_blocks.BLOCK_BYTES", 16 * 4 * 8)
    monkeypatch.setattr("lowerbound.data.stored.WINDOW_BYTES", 64 * 30)
    monkeypatch.setattr("lowerbound.data.mapped._UNITS", 30)


def splits(data):
    return data.train, data.valid, data.test


@pytest.mark.parametrize("form", ["npz", "npz with test", "idx folder", "idx file", "colour npz"])
def test_rows_labels_and_weights_are_those_of_the_file(form, tmp_path):
    x = images(shape=(6, 5, 3)) if form == "colour npz" else images()
    y, weight = np.array(["b", "a", "c", "a"] * 50), np.arange(200) % 5 + 0.5
    path, held = tmp_path / "x.npz", 0
    if form in ("npz", "colour npz"):
        np.savez(path, data=x, labels=y, weights=weight)
    elif form == "npz with test":
        np.savez(path, x_train=x[:170], y_train=y[:170], weight=weight[:170], x_test=x[170:], y_test=y[170:])
        held = 30
    elif form == "idx file":
        path = tmp_path / "x.idx3-ubyte"
        path.write_bytes(pack(x))
    else:
        path, held, y = tmp_path / "set", 30, (np.arange(200) % 3).astype(np.uint8)
        path.mkdir()
        for name, part in (("train", slice(170)), ("t10k", slice(170, 200))):
            (path / f"{name}-images-idx3-ubyte").write_bytes(pack(x[part]))
            (path / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(pack(y[part])))
    data = load_data(path, memory="map")
    wanted, seen = (x.transpose(0, 3, 1, 2) if x.ndim == 4 else x[:, None]), []
    assert isinstance(data.train.x, Stored)
    for rows in splits(data):
        places = rows.places.numpy()
        np.testing.assert_array_equal(rows.x[:].numpy(), wanted[places])
        if form != "idx file":
            assert [rows.spec.classes[i] for i in rows.y.tolist()] == [str(label) for label in y[places]]
        seen += places.tolist()
    assert sorted(seen) == list(range(200))
    if held:
        assert data.test.places.tolist() == list(range(170, 200))
    if "npz" in form:
        own = torch.tensor(weight)[data.train.places]
        torch.testing.assert_close(data.train.weight, (own / own.mean()).float())
        assert (data.test.weight is None) == bool(held)
    whole = load_data(path, memory="hold")
    assert (whole.spec.classes, whole.spec.support, whole.spec.shape, whole.spec.resolution) == (
        *(data.spec.classes, data.spec.support, data.spec.shape, data.spec.resolution),
    )


@pytest.mark.parametrize("form", ["npz", "idx"])
def test_training_ends_with_the_weights_of_the_same_rows_in_memory(form, tmp_path, monkeypatch):
    monkeypatch.setattr("lowerbound.train.log.time.monotonic", iter(range(10_000)).__next__)
    path = tmp_path / ("x.npz" if form == "npz" else "x.idx")
    if form == "npz":
        np.savez(path, x=images(), y=np.arange(200) % 2, weight=np.arange(200) % 5 + 0.5)
    else:
        path.write_bytes(pack(images()))
    data = load_data(path, memory="map")
    whole = weights(trained(data))
    assert whole == weights(trained(in_memory(data)))
    assert trained(data, out=tmp_path / "run", listeners=(StopAt(2, 2),)).status == "stopped"
    assert weights(resume(tmp_path / "run", load_data(**data.origin), progress=False, report=False)) == whole


def test_what_is_compressed_is_refused_with_the_remedy_and_held_by_default(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", x=images())
    (tmp_path / "x.idx.gz").write_bytes(gzip.compress(pack(images())))
    for name, fix in (("x.npz", "numpy.savez, not savez_compressed"), ("x.idx.gz", "gunzip x.idx.gz")):
        with pytest.raises(UsageError, match=rf"is compressed and cannot stay on disk(.|\n)*{fix}"):
            load_data(tmp_path / name, memory="map")
        monkeypatch.setattr("lowerbound.data.mapped.memory_size", lambda: 4)
        assert isinstance(load_data(tmp_path / name).train.x, torch.Tensor)


def numbers(dtype=np.float32):
    draws = np.random.default_rng(1)
    x = draws.normal([0, 1e3, -5, 2], [1, 20, 3, 0.1], (400, 4))
    x[:, 3] = x[:, 3] > 2
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, ">f4", np.float16, bool])
def test_a_table_of_numbers_is_fitted_as_in_memory_on_the_same_rows(dtype, tmp_path):
    x = numbers(dtype)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(400) % 3, weight=np.arange(400) % 4 + 1.0)
    data = load_data(tmp_path / "x.npz", memory="map")
    assert isinstance(data.train.x, Stored)
    native = x.astype(x.dtype.newbyteorder("="))
    plan = Plan(*(part.places for part in splits(data)))
    wanted = columns_of_array(native, plan, "x", standardize=True, missing="error")
    for one, other in zip(data.spec.columns, wanted.columns, strict=True):
        assert (one.name, one.kind, one.dtype, one.step, one.constant) == (
            *(other.name, other.kind, other.dtype, other.step, other.constant),
        )
        np.testing.assert_allclose([one.offset, one.scale], [other.offset, other.scale], rtol=1e-12)
    for part, places in zip(splits(data), (plan.train, plan.valid, plan.test), strict=True):
        np.testing.assert_allclose(part.x[:], wanted.x[places], atol=1e-5)
        assert [data.spec.classes[i] for i in part.y] == [str(i % 3) for i in places.tolist()]
    if dtype is np.float32:
        assert weights(trained(data)) == weights(trained(in_memory(data)))
    held = load_data(tmp_path / "x.npz")
    assert (held.spec.form, held.spec.label, held.spec.classes) == (data.spec.form, data.spec.label, data.spec.classes)


def test_missing_numbers_are_refused_or_kept_as_in_memory(tmp_path):
    x = numbers()
    x[50, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    for memory in ("map", "hold"):
        with pytest.raises(DataError, match=r"has 1 (missing cells|NaN values)"):
            load_data(tmp_path / "x.npy", memory=memory)
    data = load_data(tmp_path / "x.npy", memory="map", missing="keep")
    rows = data.split("all")
    assert (~rows.mask[:]).nonzero().tolist() == [[50, 1]]
    x[60, 2] = np.inf
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(DataError, match="infinite"):
        load_data(tmp_path / "x.npy", memory="map")


def test_a_table_with_a_scale_or_a_test_split_keeps_its_values(tmp_path):
    counts = np.random.default_rng(0).poisson(3, (200, 4)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", x_train=counts[:150], x_test=counts[150:])
    np.save(tmp_path / "x.npy", counts)
    for name, options in (("x.npz", {}), ("x.npy", {"max_value": 20})):
        disk, held = (load_data(tmp_path / name, memory=memory, **options) for memory in ("map", "hold"))
        assert isinstance(disk.train.x, Stored)
        assert (disk.spec.support, disk.spec.resolution) == (held.spec.support, held.spec.resolution)
        assert torch.equal(disk.split("all").values(), held.split("all").values())


@pytest.mark.parametrize("name", ["x.npz", "x.idx", "t.npy"])
def test_a_file_cut_short_while_it_is_read_is_an_error(name, tmp_path):
    path = tmp_path / name
    if name == "x.npz":
        np.savez(path, x=images())
    elif name == "x.idx":
        path.write_bytes(pack(images()))
    else:
        np.save(path, numbers())
    data = load_data(path, memory="map")
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match="has 1,000 bytes"):
        data.train.x[:]
    with pytest.raises(DataError):
        load_data(path, memory="map")


def test_odd_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=images(20), x_test=images(5, (5, 5)))
    with pytest.raises(DataError, match=r"the test examples of a\.npz have shape \(5, 5\)"):
        load_data(tmp_path / "a.npz", memory="map")
    np.save(tmp_path / "b.npy", numbers())
    for options, message in (({"standardize": "no"}, "are standardised"), ({"label": "x0"}, "--label is for CSV")):
        with pytest.raises(UsageError, match=message):
            load_data(tmp_path / "b.npy", memory="map", **options)
    (tmp_path / "c.idx").write_bytes(pack(np.arange(9, dtype=np.uint8)))
    with pytest.raises(DataError, match=r"c\.idx has shape \(9,\)"):
        load_data(tmp_path / "c.idx", memory="map")
