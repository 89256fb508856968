"""Hugging Face data sets that are streamed: the rows, the weights and the errors they have in memory."""

import builtins
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image
from test_stored import StopAt, in_memory, trained, weights

from lowerbound import from_stream, load_data, load_rows, resume
from lowerbound.core.errors import DataError, UsageError
from lowerbound.data.stored import Stored

datasets = pytest.importorskip("datasets")
datasets.disable_progress_bars()
NAMES = ["cat", "dog", "eel"]
LABEL = datasets.ClassLabel(names=NAMES)
ARRAYS = datasets.Features({"pixels": datasets.Array2D((6, 5), "uint8"), "label": LABEL})
PICTURES = datasets.Features({"image": datasets.Image(), "label": LABEL})


def pixels(count=90, shape=(6, 5), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def table(x, features=ARRAYS):
    rows = x if features is ARRAYS else [Image.fromarray(a) for a in x]
    return datasets.Dataset.from_dict({next(iter(features)): rows, "label": np.arange(len(x)) % 3}, features=features)


def shards(folder, made, count=3, split="train", rows=20):
    folder.mkdir(exist_ok=True)
    for i in range(count):
        file = folder / f"{split}-{i:05d}-of-{count:05d}.parquet"
        made.shard(count, i, contiguous=True).to_parquet(file, batch_size=rows)
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Blocks of 8 rows of 30 bytes, looked at in pieces of 4, and windows of 4 blocks."""
    monkeypatch.setattr("lowerbound.data.stored_streams.STREAM_BYTES", 8 * 30)
    monkeypatch.setattr("lowerbound.data.stored_streams._LOOKED", 4 * 30)
    monkeypatch.setattr("lowerbound.data.stored.WINDOW_BYTES", 32 * 30)
    monkeypatch.setattr("lowerbound.data.mapped._UNITS", 12)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def tar(folder, x):
    """Write images as `webdataset` does: files of one key belong together."""
    folder.mkdir()
    for shard in range(3):
        with tarfile.open(folder / f"part-{shard}.tar", "w") as archive:
            for i in range(30 * shard, 30 * shard + 30):
                file = io.BytesIO()
                Image.fromarray(x[i]).save(file, "PNG")
                for suffix, body in (("png", file.getvalue()), ("cls", str(i % 3).encode())):
                    about = tarfile.TarInfo(f"{i:04d}.{suffix}")
                    about.size = len(body)
                    archive.addfile(about, io.BytesIO(body))


@pytest.mark.parametrize("kind", ["arrays", "pictures", "colour", "folder", "tar", "generator", "unsharded"])
def test_a_stream_has_the_rows_and_labels_of_its_files(kind, tmp_path):
    x, label = pixels(shape=(6, 5, 3) if kind == "colour" else (6, 5)), None
    source = f"hf:{tmp_path / 'set'}"
    if kind in ("arrays", "pictures", "colour"):
        shards(tmp_path / "set", table(x, ARRAYS if kind == "arrays" else PICTURES))
    elif kind == "folder":
        for i, picture in enumerate(x):
            file = tmp_path / "set" / NAMES[i % 3] / f"{i:04d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(file)
        x = np.concatenate([x[i::3] for i in range(3)])
    elif kind == "tar":
        tar(tmp_path / "set", x)
        label = "cls"
    if kind == "generator":
        rows = datasets.IterableDataset.from_generator(made_rows, gen_kwargs={"shards": [0, 1, 2]})
        data = from_stream(rows, label="kind")
    elif kind == "unsharded":  # a shard of take() would have other rows than the whole
        rows = table(x).to_iterable_dataset(num_shards=4).skip(3).take(70)
        data, x = from_stream(rows), x[3:73]
    else:
        data = load_data(source, memory="map", label=label)
    names = {"tar": ["0", "1", "2"]}.get(kind, NAMES)
    wanted = x.transpose(0, 3, 1, 2) if kind == "colour" else x[:, None]
    seen = []
    assert isinstance(data.train.x, Stored)
    assert len(data.train.x.source.bounds) > 9
    for rows in (data.train, data.valid, data.test):
        places = rows.places.numpy()
        np.testing.assert_array_equal(rows.x[:].numpy(), wanted[places])
        numbers = places // 30 if kind == "folder" else (places + 3 * (kind == "unsharded")) % 3
        assert [rows.spec.classes[i] for i in rows.y.tolist()] == [names[i] for i in numbers]
        seen += places.tolist()
    assert sorted(seen) == list(range(len(x)))
    assert min(len(data.valid), len(data.test)) > 0


def made_rows(shards):
    x = pixels()
    for shard in shards:
        for i in range(30 * shard, 30 * shard + 30):
            yield {"pixels": x[i], "kind": NAMES[i % 3]}


def test_splits_are_kept(tmp_path):
    x = pixels()
    for split, part in (("train", x[:60]), ("validation", x[60:70]), ("test", x[70:])):
        shards(tmp_path / "set", table(part, PICTURES), 2, split)
    data = load_data(f"hf:{tmp_path / 'set'}", memory="map")
    assert data.test.places.tolist() == list(range(70, 90))
    np.testing.assert_array_equal(data.test.x[:].numpy()[:, 0], x[70:])
    assert [NAMES[i % 3] for i in range(20)] == [data.spec.classes[i] for i in data.test.y.tolist()]
    assert sorted([*data.train.places.tolist(), *data.valid.places.tolist()]) == list(range(70))


def test_training_from_a_stream_ends_with_the_weights_of_the_same_rows_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("lowerbound.train.log.time.monotonic", iter(range(10_000)).__next__)
    source = f"hf:{shards(tmp_path / 'set', table(pixels(), PICTURES))}"
    data = load_data(source, memory="map")
    whole = weights(trained(data, batch_size=20))
    assert whole == weights(trained(in_memory(data), batch_size=20))
    assert whole == weights(trained(load_data(source), batch_size=20))  # small: held in memory, in the same order
    assert trained(data, batch_size=20, out=tmp_path / "run", listeners=(StopAt(2, 2),)).status == "stopped"
    again = load_data(**data.origin)
    assert isinstance(again.train.x, Stored)
    assert weights(resume(tmp_path / "run", again, progress=False, report=False)) == whole


def test_each_block_is_read_once_an_epoch(tmp_path, monkeypatch):
    data = load_data(f"hf:{shards(tmp_path / 'set', table(pixels()))}", memory="map").train
    source, read = data.x.source, []
    blocks = set((np.searchsorted(source.bounds, data.places.numpy(), "right") - 1).tolist())
    known = source._held._read
    monkeypatch.setattr(source._held, "_read", lambda block: (read.append(block), known(block))[1])
    for epoch in (1, 2):
        source._held._held.clear()
        for index in data.batches(0, epoch, 16):
            data.batch(index)
        assert sorted(read) == sorted(blocks)
        read.clear()


def test_row_groups_of_parquet_are_shards(tmp_path):
    data = load_data(f"hf:{shards(tmp_path / 'set', table(pixels()), rows=10)}", memory="map")
    assert {block.count for block in data.train.x.source.blocks} == {8, 2}
    assert data.train.x.source.most == 2


def test_the_command_line_streams_resumes_and_scores(tmp_path, told, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shards(tmp_path / "set", table(pixels(), PICTURES))
    words = ["--epochs", "1", "--latent-dim", "2", "--hidden", "6", "--no-report", "--out", "runs/a"]
    code, _, err = told("train", "vae", "--data", "hf:set", "--memory", "map", *words)
    assert code == 0, err
    assert "set is streamed" in err
    assert json.loads((tmp_path / "runs/a/data.json").read_text())["origin"]["source"] == f"hf:{tmp_path / 'set'}"
    for command in (
        ["resume", "runs/a", "--epochs", "2", "--no-report"],
        ["evaluate", "runs/a", "--num-samples", "5"],
        ["score", "runs/a", "--data", "hf:set", "--num-samples", "5", "--split", "test"],
    ):
        code, _, err = told(*command)
        assert code == 0, err


def test_new_rows_are_read_as_the_model_saw_its_own(tmp_path):
    shards(tmp_path / "set", table(pixels(), PICTURES))
    shards(tmp_path / "new", table(pixels(20, (12, 10), 1), PICTURES), 2)
    rows, _ = load_rows(f"hf:{tmp_path / 'new'}", load_data(f"hf:{tmp_path / 'set'}").spec)
    assert (len(rows), rows.spec.shape) == (20, (1, 6, 5))


def test_pictures_are_brought_to_one_size(tmp_path):
    mixed = [np.full((6 + i % 3, 5, 3), 40 * (i % 3), np.uint8) for i in range(30)]
    shards(tmp_path / "set", table(mixed, PICTURES))
    with pytest.raises(DataError, match=r"rows of shape \(3, 7, 5\)(.|\n)*--image-size"):
        load_data(f"hf:{tmp_path / 'set'}")
    data = load_data(f"hf:{tmp_path / 'set'}", image_size=(4, 4), color="grey")
    assert data.spec.shape == (1, 4, 4)
    assert sorted(data.split("all").x[:, 0, 0, 0].tolist()) == [0] * 10 + [40] * 10 + [80] * 10


@pytest.mark.parametrize("change", ["values", "shorter"])
def test_a_stream_that_changes_is_refused_where_it_is_read(change, tmp_path):
    data = load_data(f"hf:{shards(tmp_path / 'set', table(pixels()))}", memory="map")
    other = pixels()
    other[40, 0, 0] += 1
    shards(tmp_path / "set", table(other if change == "values" else pixels(84)))
    with pytest.raises(DataError, match="set has changed since it was looked at"):
        for part in (data.train, data.valid, data.test):
            part.x[:]


def test_a_stream_that_draws_is_refused():
    draws = np.random.default_rng(0)
    rows = table(pixels()).to_iterable_dataset(num_shards=3)
    with pytest.raises(DataError, match="leave out what is random"):
        from_stream(rows.map(lambda row: {"pixels": draws.integers(0, 9, (6, 5))})).train.x[:]


def test_changed_files_are_noticed_before_a_run_goes_on(tmp_path):
    source = f"hf:{shards(tmp_path / 'set', table(pixels()))}"
    trained(load_data(source, memory="map"), epochs=1, batch_size=20, out=tmp_path / "run")
    other = pixels()
    other[0, 0, 0] += 1
    shards(tmp_path / "set", table(other))
    with pytest.raises(DataError, match="is not what run was trained on"):
        resume(tmp_path / "run", load_data(source, memory="map"), epochs=2, progress=False)


def test_what_a_stream_lacks_is_said(tmp_path):
    made = table(pixels(), PICTURES)
    source = f"hf:{shards(tmp_path / 'set', made.map(lambda row: {'other': row['image']}))}"
    for options, error, message in (
        ({}, DataError, r"set has 2 columns of images or arrays: image, other(.|\n)*--columns image"),
        ({"columns": ["nothing"]}, DataError, "set has no column 'nothing'"),
        ({"label": "nothing"}, DataError, "set has no column 'nothing'"),
        ({"columns": ["image", "other"]}, UsageError, "one column is modelled"),
        ({"columns": ["label"]}, DataError, "column 'label' of set has int values"),
        ({"weight": "label"}, UsageError, "--weight is for files"),
        ({"standardize": "yes"}, UsageError, "--standardize is for tables"),
        ({"seen": tmp_path}, UsageError, "cannot be paired"),
    ):
        with pytest.raises(error, match=message):
            load_data(source, **options)
    assert load_data(source, columns=["other"]).spec.shape == (1, 6, 5)
    with pytest.raises(DataError, match="no data set '/nowhere'"):
        load_data("hf:/nowhere")
    with pytest.raises(UsageError, match="names no data set"):
        load_data("hf:")
    with pytest.raises(UsageError, match="a stream cannot be a Dataset"):
        from_stream(made)


def stream(rows):
    return datasets.IterableDataset.from_generator(lambda: iter(rows))


def test_rows_no_model_can_take_are_refused():
    rows = [{"a": np.full((4, 4), float(i), np.float32), "kind": "u"} for i in range(30)]
    for bad, message in (
        ({"a": np.full((4, 3), 1.0, np.float32), "kind": "u"}, r"rows of shape \(4, 3\)"),
        ({"a": np.full((4, 4), np.nan, np.float32), "kind": "u"}, "not finite"),
        ({"a": None, "kind": "u"}, "NoneType values"),
        ({"a": rows[0]["a"], "kind": None}, "rows without a label"),
    ):
        with pytest.raises(DataError, match=message):
            from_stream(stream([*rows[:20], bad, *rows[20:]]), label="kind")
    with pytest.raises(DataError, match="0 examples"):
        from_stream(stream([]))
    with pytest.raises(DataError, match="no column of images or arrays: a, b"):
        from_stream(stream([{"a": 1.0, "b": "x"}] * 3))
    with pytest.raises(DataError, match="has the splits old, new"):
        from_stream({"old": stream(rows), "new": stream(rows)})

    def broken():
        yield from rows[:20]
        raise OSError("the disk has gone")

    with pytest.raises(DataError, match="stream cannot be read: the disk has gone"):
        from_stream(datasets.IterableDataset.from_generator(broken))


def test_rows_without_a_class_are_refused(tmp_path):
    made = datasets.Dataset.from_dict({"pixels": pixels(), "label": [-1, *[0] * 89]}, features=ARRAYS)
    with pytest.raises(DataError, match=r"rows without a label \(-1\)"):
        load_data(f"hf:{shards(tmp_path / 'set', made)}")
    made.save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="1 rows without a label"):
        load_data(tmp_path / "saved")


def test_without_the_library_the_extra_is_named(monkeypatch):
    found = builtins.__import__

    def without(name, *rest):
        if name == "datasets":
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    for make in (lambda: load_data("hf:anything"), lambda: from_stream([])):
        with pytest.raises(UsageError, match=r"lowerbound\[hf\]"):
            make()
