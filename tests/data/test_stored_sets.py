"""Data sets saved by Hugging Face `datasets`: their images and arrays, in memory and on disk, and tables of values."""

import builtins
import shutil

import numpy as np
import pytest
from PIL import Image
from test_stored import StopAt, in_memory, trained, weights

from lowerbound import load_data, resume
from lowerbound.core.errors import DataError, UsageError
from lowerbound.data.stored import Stored

datasets = pytest.importorskip("datasets")
datasets.disable_progress_bars()
NAMES = ["cat", "dog", "eel"]
NUMBERS = datasets.Features({"pixels": datasets.Array2D((6, 5), "uint8"), "label": datasets.ClassLabel(names=NAMES)})


def pixels(count=90, shape=(6, 5), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def arrays(x):
    return datasets.Dataset.from_dict({"pixels": x, "label": np.arange(len(x)) % 3}, features=NUMBERS)


def pictures(x):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    made = {"image": [Image.fromarray(a) for a in x], "label": np.arange(len(x)) % 3}
    return datasets.Dataset.from_dict(made, features=features)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("lowerbound.data.stored_sets.BLOCK_BYTES", 8 * 30)
    monkeypatch.setattr("lowerbound.data.stored.WINDOW_BYTES", 32 * 30)


@pytest.mark.parametrize("kind", ["arrays", "images", "colour", "splits"])
def test_a_saved_set_has_its_rows_and_labels_in_memory_and_on_disk(kind, tmp_path):
    x = pixels(shape=(6, 5, 3) if kind == "colour" else (6, 5))
    made = arrays(x) if kind == "arrays" else pictures(x)
    if kind == "splits":
        parts = {"train": x[:60], "validation": x[60:70], "test": x[70:]}
        made = datasets.DatasetDict({name: pictures(part) for name, part in parts.items()})
    made.save_to_disk(tmp_path / "set")
    wanted = x.transpose(0, 3, 1, 2) if kind == "colour" else x[:, None]
    for memory in ("map", "hold"):
        data = load_data(tmp_path / "set", memory=memory)
        assert isinstance(data.train.x, Stored) == (memory == "map")
        seen = []
        for rows in (data.train, data.valid, data.test):
            places = rows.places.numpy()
            np.testing.assert_array_equal(rows.x[:].numpy(), wanted[places])
            own = places - (np.where(places < 60, 0, np.where(places < 70, 60, 70)) if kind == "splits" else 0)
            assert [rows.spec.classes[i] for i in rows.y.tolist()] == [NAMES[p % 3] for p in own]
            seen += places.tolist()
        assert sorted(seen) == list(range(90))
        if kind == "splits":
            assert sorted(data.test.places.tolist()) == list(range(70, 90))


def test_training_from_a_saved_set_ends_with_the_weights_of_the_same_rows_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("lowerbound.train.log.time.monotonic", iter(range(10_000)).__next__)
    arrays(pixels()).save_to_disk(tmp_path / "set")
    data = load_data(tmp_path / "set", memory="map")
    whole = weights(trained(data, batch_size=20))
    assert whole == weights(trained(in_memory(data), batch_size=20))
    stopped = trained(data, batch_size=20, out=tmp_path / "run", listeners=(StopAt(2, 2),))
    assert stopped.status == "stopped"
    again = load_data(tmp_path / "set", memory="map")
    assert weights(resume(tmp_path / "run", again, progress=False, report=False)) == whole


def test_another_column_may_be_the_label(tmp_path):
    arrays(pixels()).add_column("size", ["big", "small"] * 45).save_to_disk(tmp_path / "set")
    for memory in ("map", "hold"):
        assert load_data(tmp_path / "set", memory=memory, label="size").spec.classes == ("big", "small")


def test_single_values_are_a_table(tmp_path):
    made = {"a": [0.5, 1.5, 2.5, 4.0], "b": ["u", "v", "u", "v"], "c": [0, 1, 0, 1]}
    datasets.Dataset.from_dict(made).save_to_disk(tmp_path / "set")
    data = load_data(tmp_path / "set", label="c", test_fraction=0.0, valid_fraction=0.0)
    assert [c.name for c in data.spec.columns] == ["a", "b"]
    assert data.train.y.tolist() == [0, 1, 0, 1]


def test_classes_of_a_saved_table_keep_their_names(tmp_path):
    kinds, sizes = datasets.ClassLabel(names=NAMES), datasets.ClassLabel(names=["big", "small"])
    features = datasets.Features({"a": datasets.Value("float32"), "kind": kinds, "size": sizes})
    made = {"a": [0.5, 1.5, 2.5, 4.0, 3.0], "kind": [2, 0, 1, 0, 2], "size": [1, 0, 0, -1, 1]}
    datasets.Dataset.from_dict(made, features=features).save_to_disk(tmp_path / "set")
    data = load_data(tmp_path / "set", label="kind", test_fraction=0.0, valid_fraction=0.0)
    assert [data.spec.classes[i] for i in data.train.y.tolist()] == [NAMES[i] for i in made["kind"]]
    [_, size] = data.spec.columns
    assert size.categories == ("big", "small")
    assert data.train.mask is not None
    assert data.train.mask[:, -1].tolist() == [1, 1, 1, 0, 1]


def test_what_a_saved_set_lacks_is_said(tmp_path):
    arrays(pixels()).save_to_disk(tmp_path / "set")
    with pytest.raises(DataError, match="set has no column 'kind'"):
        load_data(tmp_path / "set", label="kind", memory="map")
    two = pictures(pixels()).add_column("more", [0.0] * 90)
    two.map(lambda row: {"other": row["image"]}).save_to_disk(tmp_path / "two")
    with pytest.raises(DataError, match="2 columns of images or arrays: image, other"):
        load_data(tmp_path / "two")
    mixed = pixels(4).tolist()
    pictures([np.array(a, np.uint8)[: 6 - i % 2] for i, a in enumerate(mixed)]).save_to_disk(tmp_path / "mixed")
    with pytest.raises(DataError, match=r"column 'image' of mixed has rows of"):
        load_data(tmp_path / "mixed", memory="map")


def test_a_damaged_or_lost_set_is_an_error(tmp_path):
    arrays(pixels()).save_to_disk(tmp_path / "set")
    shutil.copytree(tmp_path / "set", tmp_path / "cut")
    file = next((tmp_path / "cut").glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(DataError):
        load_data(tmp_path / "cut", memory="map")


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    arrays(pixels()).save_to_disk(tmp_path / "set")
    found = builtins.__import__

    def without(name, *rest):
        if name == "datasets":
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"lowerbound\[hf\]"):
        load_data(tmp_path / "set")
