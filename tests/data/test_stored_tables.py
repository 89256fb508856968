"""Parquet files that stay on disk: columns fitted block by block are those fitted on the same rows in memory."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from test_stored import StopAt, in_memory, trained, weights

from lowerbound import load_data, resume
from lowerbound.core.errors import DataError, UsageError
from lowerbound.data.columns import fit_cells
from lowerbound.data.splits import Plan
from lowerbound.data.stored import Stored
from lowerbound.data.tables import columns_of, encode


def table(rows=400, *, missing=True, seed=0):
    draws = np.random.default_rng(seed)
    lost = draws.random(rows) < (0.1 if missing else 0.0)
    days = [datetime.date(2020, 1, 1) + datetime.timedelta(int(d)) for d in draws.integers(0, 900, rows)]
    return pa.table(
        {
            "far": pa.array(draws.normal(1e9, 3.0, rows), mask=lost),
            "huge": pa.array(draws.normal(0, 1e200, rows)),
            "small": pa.array(draws.normal(5, 2, rows).astype(np.float32)),
            "count": pa.array(draws.integers(0, 40, rows)),
            "flag": pa.array(draws.integers(0, 2, rows)),
            "plan": pa.array(draws.choice(["b", "a", "ç"], rows)),
            "day": pa.array(days),
            "same": pa.array(np.full(rows, 7.0)),
            "kind": pa.array(draws.choice(["u", "v"], rows)),
            "weight": pa.array(draws.random(rows)),
        }
    )


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr("lowerbound.data.mapped._UNITS", 40)
    monkeypatch.setattr("lowerbound.data.stored.WINDOW_BYTES", 4 * 7 * 100)
    pq.write_table(table(), tmp_path / "t.parquet", row_group_size=37)
    return tmp_path / "t.parquet"


def test_columns_are_fitted_as_in_memory_on_the_same_rows(path):
    data = load_data(path, memory="map", label="kind", weight="weight")
    assert isinstance(data.train.x, Stored)
    rows = table().drop_columns(["kind", "weight"])
    columns = columns_of(rows, name="t")
    cells, _ = encode(rows, columns, name="t")
    places = [part.places for part in (data.train, data.valid, data.test)]
    wanted = fit_cells(cells, columns, Plan(*places))
    assert [c.name for c in wanted.columns if c.constant] == ["same"]
    for one, other in zip(data.spec.columns, wanted.columns, strict=True):
        assert (one.name, one.kind, one.dtype, one.step) == (other.name, other.kind, other.dtype, other.step)
        assert (one.categories, one.constant, one.missing) == (other.categories, other.constant, other.missing)
        np.testing.assert_allclose([one.offset, one.scale], [other.offset, other.scale], rtol=1e-12)
    assert sorted(torch.cat(places).tolist()) == list(range(400))
    for part, place in zip((data.train, data.valid, data.test), places, strict=True):
        np.testing.assert_allclose(part.x[:], wanted.x[place], atol=1e-5)
        assert torch.equal(part.mask[:], wanted.mask[place])
        assert [data.spec.classes[i] for i in part.y] == [table()["kind"][i].as_py() for i in place.tolist()]
    given = torch.tensor(table()["weight"].to_numpy())
    torch.testing.assert_close(data.train.weight, (given[places[0]] / given[places[0]].mean()).float())


def test_training_from_a_file_ends_with_the_weights_of_the_same_rows_in_memory(path, tmp_path, monkeypatch):
    monkeypatch.setattr("lowerbound.train.log.time.monotonic", iter(range(10_000)).__next__)
    data = load_data(path, memory="map", columns=["small", "count", "plan", "far"])
    whole = weights(trained(data, batch_size=30))
    assert whole == weights(trained(in_memory(data), batch_size=30))
    options = {"out": tmp_path / "run", "listeners": (StopAt(2, 3),)}
    assert trained(data, batch_size=30, **options).status == "stopped"
    again = load_data(**data.origin, like=data.spec)
    assert weights(resume(tmp_path / "run", again, progress=False, report=False)) == whole


def test_each_row_group_is_read_once_an_epoch(path, monkeypatch):
    data = load_data(path, memory="map", columns=["small", "count"]).train
    reads = []
    read = pq.ParquetFile.read_row_group

    def counted(self, number, *rest, **options):
        reads.append(number)
        return read(self, number, *rest, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    groups = set((data.places // 37).tolist())
    for epoch in (1, 2):
        data.x.source.blocks._held.clear()
        for index in data.batches(0, epoch, 64):
            data.batch(index)
        assert sorted(reads) == sorted(groups)
        reads.clear()


def test_the_command_line_trains_and_evaluates_a_table_on_disk(path, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--epochs", "1", "--latent-dim", "2", "--hidden", "6", "--no-report", "--out", "runs/a"]
    given = ["--data", str(path), "--memory", "map", "--label", "kind", "--columns", "small", "plan", "far", "day"]
    code, _, err = told("train", "vae", *given, *words)
    assert code == 0, err
    for command in (["resume", "runs/a", "--epochs", "2", "--no-report"], ["evaluate", "runs/a", "--num-samples", "5"]):
        code, _, err = told(*command)
        assert code == 0, err


def test_what_a_table_on_disk_cannot_be_is_refused_by_name(path, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="columns are standardised"):
        load_data(path, memory="map", standardize="no")
    with pytest.raises(DataError, match="missing cells"):
        load_data(path, memory="map", missing="error")
    with pytest.raises(DataError, match="no column 'nothing'"):
        load_data(path, memory="map", label="nothing")
    encoded = table().set_column(5, "plan", table()["plan"].dictionary_encode())
    pq.write_table(encoded, tmp_path / "d.parquet")
    with pytest.raises(DataError, match="column 'plan' is a dictionary"):
        load_data(tmp_path / "d.parquet", memory="map")
    monkeypatch.setattr("lowerbound.data.stored_tables.MOST_BLOCK", 1000)
    with pytest.raises(DataError, match="row groups of up to 37 rows"):
        load_data(path, memory="map")


def test_bad_cells_are_refused_on_disk_as_in_memory(tmp_path):
    for bad, message in ((np.inf, "infinite"), (1e301, "beyond 1e300")):
        values = np.arange(100.0)
        values[70] = bad
        pq.write_table(pa.table({"a": values, "b": np.arange(100.0)}), tmp_path / "t.parquet", row_group_size=10)
        for memory in ("map", "hold"):
            with pytest.raises(DataError, match=message):
                load_data(tmp_path / "t.parquet", memory=memory)


def test_a_damaged_file_is_an_error(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"t\.parquet cannot be read"):
        load_data(path, memory="map")
    path.write_bytes(whole[:200] + bytes(200) + whole[400:])
    with pytest.raises(DataError, match="row group 1 of"):
        load_data(path, memory="map")


@pytest.fixture
def shards(path, tmp_path):
    """The table of `path` in four files, an empty one among them, beside files that are no data."""
    folder = tmp_path / "parts"
    folder.mkdir()
    for i, (start, stop) in enumerate(((0, 150), (150, 150), (150, 290), (290, 400))):
        pq.write_table(table().slice(start, stop - start), folder / f"part-{i:03d}.parquet", row_group_size=37)
    (folder / "_SUCCESS").write_text("")
    (folder / "README.md").write_text("three files")
    return folder


def test_several_files_of_one_schema_are_one_table(shards, tmp_path):
    pq.write_table(table(), tmp_path / "parts.parquet")
    whole = load_data(tmp_path / "parts.parquet", memory="hold", label="kind", weight="weight")
    held = load_data(shards, label="kind", weight="weight")
    for one, other in zip((whole.train, whole.valid, whole.test), (held.train, held.valid, held.test), strict=True):
        for name in ("x", "y", "mask", "weight"):
            assert torch.equal(getattr(one, name), getattr(other, name))
    assert held.spec == whole.spec
    disk = load_data(shards, memory="map", label="kind", weight="weight")
    assert isinstance(disk.train.x, Stored)
    assert disk.train.x.source.bounds.tolist() == [
        *(0, 37, 74, 111, 148, 150),
        *(187, 224, 261, 290),
        *(327, 364, 400),
    ]
    again = load_data(**disk.origin, like=held.spec)
    for part in (again.train, again.valid, again.test):
        places = part.places
        assert torch.equal(part.x[:], held.split("all").x[places])
        assert torch.equal(part.mask[:], held.split("all").mask[places])
        assert [disk.spec.classes[i] for i in part.y] == [table()["kind"][i].as_py() for i in places.tolist()]


def test_training_from_several_files_ends_with_the_weights_of_the_same_rows_in_memory(shards, tmp_path, monkeypatch):
    monkeypatch.setattr("lowerbound.train.log.time.monotonic", iter(range(10_000)).__next__)
    data = load_data(shards, memory="map", columns=["small", "count", "plan", "far"])
    whole = weights(trained(data, batch_size=30))
    assert whole == weights(trained(in_memory(data), batch_size=30))
    assert trained(data, batch_size=30, out=tmp_path / "run", listeners=(StopAt(2, 3),)).status == "stopped"
    again = load_data(**data.origin, like=data.spec)
    assert weights(resume(tmp_path / "run", again, progress=False, report=False)) == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["flag"]), "no column 'flag'"),
        (lambda t: t.append_column("more", t["flag"]), "a column 'more' more"),
        (lambda t: t.set_column(2, "small", t["small"].cast(pa.float64())), "double in column 'small', float there"),
    ],
)
def test_a_file_of_another_schema_is_named(change, message, shards):
    pq.write_table(change(table(20)), shards / "part-002.parquet")
    for memory in ("map", "hold"):
        with pytest.raises(DataError, match=rf"part-002\.parquet has other columns than part-000\.parquet: {message}"):
            load_data(shards, memory=memory)


def test_columns_in_another_order_are_the_same_table(shards):
    before = load_data(shards)
    for i in (2, 3):
        file = shards / f"part-{i:03d}.parquet"
        read = pq.read_table(file)
        pq.write_table(read.select(read.column_names[::-1]), file, row_group_size=37)
    assert torch.equal(load_data(shards).train.x, before.train.x)
    disk = load_data(shards, memory="map", like=before.spec)
    assert torch.equal(disk.split("all").x[:], before.split("all").x)


def test_a_damaged_changed_or_misplaced_file_is_named(shards):
    data = load_data(shards, memory="map")
    pq.write_table(table(110, seed=1), shards / "part-003.parquet")
    with pytest.raises(DataError, match=r"part-003\.parquet has changed since it was opened"):
        data.split("all").x[:]
    (shards / "part-003.parquet").write_bytes(b"PAR1")
    for memory in ("map", "hold"):
        with pytest.raises(DataError, match=r"part-003\.parquet cannot be read"):
            load_data(shards, memory=memory)
    (shards / "part-003.parquet").rename(shards / "test-003.parquet")
    with pytest.raises(DataError, match="Parquet files of several splits"):
        load_data(shards)
