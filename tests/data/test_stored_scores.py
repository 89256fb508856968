"""`score` and `encode` of rows on disk: part by part they write what they write of the same rows in memory."""

import json
import shutil

import numpy as np
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lowerbound import evaluation, fit, from_arrays, load_data, recipes
from lowerbound.cli import score as command
from lowerbound.core.errors import OutOfResource, UsageError
from lowerbound.data.numpy_files import read_npz
from lowerbound.explore.write_rows import rows_written


def images(count, seed=3):
    """Return black and white images: drawing 0 and 1 from them changes nothing, however the draws are made."""
    return np.random.default_rng(seed).integers(0, 2, (count, 6, 5), dtype=np.uint8) * 255


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    data = from_arrays(images(80), np.array(["a", "b"])[np.arange(80) % 2])
    options = {"epochs": 1, "progress": False, "report": False}
    for name, recipe in (("vae", recipes.vae), ("ae", recipes.ae)):
        fit(recipe(data.spec, latent_dim=2, hidden=(6,)), data, out=folder / name, **options)
    (folder / "new").mkdir()
    for i, x in enumerate(images(250, 4)):
        file = folder / "new" / "ab"[i % 2] / ("a" * (i % 7 + 1) + f"{i}.png")
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(x).save(file)
    np.savez(folder / "new.npz", x=images(250, 4), y=np.array(["a", "b"])[np.arange(250) % 2])
    return folder


def columns(path):
    if path.suffix == ".npz":
        return read_npz(path)
    table = pacsv.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}


@pytest.fixture
def on_disk(monkeypatch):
    """Return a function after which all rows stay on disk, in parts of 100."""

    def large():
        monkeypatch.setattr("lowerbound.data.mapped.memory_size", lambda: 4)
        monkeypatch.setattr("lowerbound.data.dataset._AT_HAND", 0)
        monkeypatch.setattr(command, "PART", 100)

    return large


@pytest.mark.parametrize(
    ("words", "source", "suffix"),
    [
        (["score", "vae", "--num-samples", "3"], "new", ".csv"),
        (["score", "vae", "--num-samples", "3"], "new.npz", ".npz"),
        (["score", "ae"], "new.npz", ".parquet"),
        (["encode", "vae"], "new", ".npz"),
        (["encode", "vae"], "new.npz", ".csv"),
        (["encode", "vae"], "new", ".parquet"),
    ],
)
def test_what_is_written_of_rows_on_disk_is_what_is_written_of_those_in_memory(
    words, source, suffix, run, told, on_disk, tmp_path, monkeypatch
):
    monkeypatch.chdir(run)
    monkeypatch.setattr("lowerbound.evaluation.importance.BLOCK_SAMPLES", 2)
    name, folder, *more = words
    scored, said = [], []
    monkeypatch.setattr(command, "score", lambda *a, **k: (scored.append(len(a[1])), evaluation.score(*a, **k))[1])
    for place in ("memory", "disk"):
        if place == "disk":
            on_disk()
        out = tmp_path / f"{place}{suffix}"
        code, words_out, err = told(name, str(run / folder), "--data", source, "--out", str(out), *more)
        assert code == 0, err
        said.append(words_out.replace("memory", "disk"))
    assert said[0] == said[1]
    if words[:2] == ["score", "vae"]:
        assert scored == [250, 100, 100, 50]
    one, other = (columns(tmp_path / f"{place}{suffix}") for place in ("memory", "disk"))
    assert list(one) == list(other)
    for key, values in one.items():
        assert len(values) == 250
        if values.dtype.kind == "f":
            np.testing.assert_allclose(other[key], values, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(other[key], values)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_part_has_the_numbers_it_has_among_all_rows(run):
    from lowerbound import load

    model = load(run / "vae")
    rows = load_data(run / "new.npz", test_fraction=0.0, valid_fraction=0.0).train.matching(model.spec)
    whole = evaluation.score(model, rows, num_samples=4)
    part = evaluation.score(model, rows.rows(slice(100, 250)), num_samples=4, first=100)
    np.testing.assert_array_equal(part.log_px, whole.log_px[100:])
    with pytest.raises(UsageError, match="a part cannot start at row 50"):
        evaluation.score(model, rows, num_samples=4, first=50)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_a_file_is_whole_or_is_not_there(suffix, tmp_path):
    path = tmp_path / "deep" / f"x{suffix}"
    path.parent.mkdir()
    path.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError), rows_written(path, 4) as write:
        write({"a": np.arange(2), "b": np.zeros((2, 3))})
        raise ZeroDivisionError
    assert path.read_bytes() == b"before"
    assert list(path.parent.iterdir()) == [path]
    with rows_written(path, 4) as write:
        for start in (0, 2):
            write({"a": np.arange(start, start + 2), "b": np.full((2, 3), start, np.float32)})
    held = columns(path)
    assert held["a"].tolist() == [0, 1, 2, 3]
    assert (held["b"][:, 1] if suffix == ".npz" else held["b1"]).tolist() == [0, 0, 2, 2]
    with pytest.raises(UsageError, match=r"written as \.txt"), rows_written(tmp_path / "x.txt", 1):
        pass


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lowerbound.data.table_files.os.fsync", full)
    full_disk = pytest.raises(OutOfResource, match=r"the disk is full: x\.csv was not written")
    with full_disk, rows_written(tmp_path / "x.csv", 2) as write:
        write({"a": np.arange(2)})
    assert list(tmp_path.iterdir()) == []


def close(one, other):
    """Tell whether two JSON values are the same, but for the rounding of their numbers."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return one == (pytest.approx(other, rel=1e-4, abs=1e-4) if isinstance(one, float) else other)


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "vae", "--data", "new.npz", "--num-samples", "3"),
        ("evaluate", "ae", "--data", "new.npz"),
        ("evaluate", "vae", "--data", "new", "--num-samples", "3", "--also", "reconstruction"),
        ("compare", "vae", "again", "--data", "new.npz", "--num-samples", "3"),
        ("outliers", "vae", "--data", "new.npz", "--against", "new", "--num-samples", "3", "--rows", "60"),
    ],
    ids=" ".join,
)
def test_numbers_of_rows_on_disk_are_those_of_the_same_rows_in_memory(words, run, told, on_disk, monkeypatch):
    monkeypatch.chdir(run)
    if not (run / "again").exists():
        shutil.copytree(run / "vae", run / "again")
    found = []
    for place in ("memory", "disk"):
        if place == "disk":
            on_disk()
        code, out, err = told(*words, "--json")
        assert code == 0, err
        found.append(json.loads(out))
    assert close(*found)


def test_sums_of_rows_on_disk_are_continued(run, told, on_disk, monkeypatch):
    monkeypatch.chdir(run)
    monkeypatch.setattr("lowerbound.cli.progress.EVERY", -1.0)
    on_disk()
    words = ("evaluate", "vae", "--data", "new.npz", "--num-samples")
    assert told(*words, "100")[0] == 0
    assert "100 samples of each example are known already" in told(*words, "200")[2]
    np.savez(run / "new.npz", x=images(250, 5), y=np.array(["a", "b"])[np.arange(250) % 2])
    assert "known already" not in told(*words, "200")[2]
    np.savez(run / "new.npz", x=images(250, 4), y=np.array(["a", "b"])[np.arange(250) % 2])
