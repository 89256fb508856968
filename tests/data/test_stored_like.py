"""New rows for a trained model that stay on disk: the values, labels and refusals they have in memory."""

import numpy as np
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from test_stored_tables import table

from lowerbound import from_arrays, load_data, load_rows
from lowerbound.core.errors import DataError, LowerboundError, UsageError
from lowerbound.data.stored import Stored


def images(count=60, shape=(6, 5), seed=3):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def both(path, spec, **options):
    """Return the rows on disk and in memory, and that they are the same."""
    (disk, notes), (held, held_notes) = (load_rows(path, spec, memory=memory, **options) for memory in ("map", "hold"))
    assert isinstance(disk.x, Stored)
    assert isinstance(held.x, torch.Tensor)
    assert disk.spec == held.spec
    assert torch.equal(disk.values(), held.values())
    for name in ("y", "weight"):
        one, other = getattr(disk, name), getattr(held, name)
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)
    one, other = disk.mask_values(), held.mask_values()
    assert (one is None) == (other is None)
    assert one is None or torch.equal(one, other)
    assert set(held_notes) <= set(notes)
    return disk


@pytest.mark.parametrize("kind", ["bytes", "floats", "colour", "labels", "split", "binary"])
def test_arrays_have_the_values_they_have_in_memory(kind, tmp_path):
    x = images(shape=(6, 5, 3) if kind == "colour" else (6, 5))
    y = np.array(["a", "b", "c"])[np.arange(60) % 3]
    spec = from_arrays(x, y if kind == "labels" else None).spec
    path, new = tmp_path / "new.npz", x[::-1]
    new = new / 255 if kind == "floats" else new // 128 if kind == "binary" else new
    if kind == "split":
        np.savez(path, x_train=new[:40], x_test=new[40:], y_train=y[:40], y_test=y[40:])
    else:
        np.savez(path, x=new, y=y[::-1])
    both(path, spec)


def test_folders_of_images_are_brought_to_the_models_size(tmp_path):
    for i, x in enumerate(images(12, (9, 8))):
        file = tmp_path / "new" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x).save(file)
    data = load_data(tmp_path / "new", image_size=(6, 5))
    rows = both(tmp_path / "new", data.spec)
    assert rows.spec.shape == (1, 6, 5)
    assert [name.split("/")[0] for name in rows.file_names()] == ["a"] * 6 + ["b"] * 6


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_tables_have_the_values_they_have_in_memory(suffix, tmp_path):
    def write(rows, name):
        path = tmp_path / f"{name}.{suffix}"
        pacsv.write_csv(rows, path) if suffix == "csv" else pq.write_table(rows, path, row_group_size=37)
        return path

    spec = load_data(write(table(), "old"), label="kind", weight="weight").spec
    both(write(table(150, seed=1), "new"), spec)
    both(write(table(150, seed=1).drop_columns(["kind", "weight"]), "bare"), spec)
    for change, message in (
        (lambda t: t.drop_columns(["small"]), "small"),
        (lambda t: t.set_column(5, "plan", [["z"] * len(t)]), "'z'"),
        (lambda t: t.set_column(3, "count", [["z"] * len(t)]), "count"),
    ):
        path = write(change(table(50, seed=1)), "bad")
        for memory in ("map", "hold"):
            with pytest.raises(LowerboundError, match=message):
                load_rows(path, spec, memory=memory)


def test_arrays_of_columns_have_the_values_they_have_in_memory(tmp_path):
    x = np.random.default_rng(0).normal(5, 3, (200, 4)).astype(np.float32)
    np.save(tmp_path / "old.npy", x)
    np.savez(tmp_path / "new.npz", x=x[::-1])
    spec = load_data(tmp_path / "old.npy").spec
    both(tmp_path / "new.npz", spec)
    x[3, 1] = np.nan
    np.save(tmp_path / "bad.npy", x)
    np.save(tmp_path / "wide.npy", np.concatenate([x[9:], x[9:]], 1))
    for name, message in (("bad.npy", "has 1 (missing cells|NaN)"), ("wide.npy", r"has shape \(191, 8\)")):
        for memory in ("map", "hold"):
            with pytest.raises(DataError, match=message):
                load_rows(tmp_path / name, spec, memory=memory)


def test_what_does_not_fit_is_refused_as_in_memory(tmp_path):
    spec = from_arrays(images(), np.arange(60) % 3).spec
    np.save(tmp_path / "far.npy", images() / 10.0)
    np.save(tmp_path / "wide.npy", images(shape=(6, 7)))
    for name in ("far.npy", "wide.npy"):
        for memory in ("map", "hold"):
            with pytest.raises(LowerboundError, match=r"from 0 to 25.5|shape \(1, 6, 7\)"):
                rows, _ = load_rows(tmp_path / name, spec, memory=memory)
                rows.matching(spec)
    np.savez(tmp_path / "other.npz", x=images(), y=["u"] * 60)
    rows, notes = load_rows(tmp_path / "other.npz", spec, memory="map")
    assert rows.y is None
    assert "none of the model's classes: left out" in notes[-1]
    np.savez_compressed(tmp_path / "packed.npz", x=images())
    with pytest.raises(UsageError, match="is compressed"):
        load_rows(tmp_path / "packed.npz", spec, memory="map")


def test_streams_have_the_values_they_have_in_memory(tmp_path):
    datasets = pytest.importorskip("datasets")
    (tmp_path / "set").mkdir()
    features = datasets.Features({"pixels": datasets.Array2D((6, 5), "uint8")})
    made = datasets.Dataset.from_dict({"pixels": images()}, features=features)
    made.to_parquet(tmp_path / "set" / "train.parquet")
    both(f"hf:{tmp_path / 'set'}", from_arrays(images()).spec)
