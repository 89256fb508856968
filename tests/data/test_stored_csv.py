"""CSV files that stay on disk: their rows and the types of their columns are those of the file read whole."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
import torch
from test_stored import StopAt, in_memory, trained, weights
from test_stored_tables import table

from lowerbound import load_data, resume
from lowerbound.core.errors import DataError, UsageError
from lowerbound.data.csv_blocks import csv_blocks
from lowerbound.data.stored import Stored
from lowerbound.data.table_files import read_table


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("lowerbound.data.csv_blocks.CSV_BYTES", 2000)
    monkeypatch.setattr("lowerbound.data.mapped._UNITS", 40)
    monkeypatch.setattr("lowerbound.data.stored.WINDOW_BYTES", 4 * 7 * 100)


@pytest.fixture
def path(tmp_path):
    pacsv.write_csv(table(), tmp_path / "t.csv")
    return tmp_path / "t.csv"


def whole(path, delimiter=None, texts=()):
    blocks = csv_blocks(path, delimiter, "utf-8", texts)
    return pa.concat_tables([blocks.read(i) for i in range(len(blocks.bounds) - 1)]), blocks


COLUMNS = {
    "numbers, then fractions": [*range(200), *(i + 0.5 for i in range(100))],
    "numbers, then words": [*range(200), *(["high"] * 100)],
    "0 and 1, then words for them": [*([0, 1] * 100), *(["true", "false"] * 50)],
    "numbers, then words for truth": [*range(200), *(["true"] * 100)],
    "dates, then times": [*(["2020-01-02"] * 200), *(["2020-01-02 10:11:12"] * 100)],
    "dates, then fine times": [*(["2020-01-02"] * 200), *(["2020-01-02 10:11:12.125"] * 100)],
    "dates, then numbers": [*(["2020-01-02"] * 200), *range(100)],
    "nothing, then numbers": [*([""] * 200), *range(100)],
    "nothing at all": [""] * 300,
    "large numbers": [*range(200), *([2**63] * 100)],
    "times of a day": ["10:11:12"] * 300,
    "times of a zone": ["2020-01-02T10:11:12Z"] * 300,
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("turned", [False, True])
def test_a_column_has_the_type_it_has_in_the_file_read_whole(kind, turned, tmp_path):
    cells = COLUMNS[kind][::-1] if turned else COLUMNS[kind]
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "".join(f"{cell},padding of some length {i}\n" for i, cell in enumerate(cells)))
    made, blocks = whole(path)
    assert len(blocks.bounds) > 3
    wanted = read_table(path)
    assert made.schema == wanted.schema
    assert made.equals(wanted)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("seed", range(4))
def test_any_cut_is_at_the_end_of_a_line(end, seed, tmp_path, monkeypatch):
    monkeypatch.setattr("lowerbound.data.csv_blocks.CSV_BYTES", 40 + 7 * seed)
    draws = np.random.default_rng(seed)
    odd = ["plain", '"a, b"', f'"two{end}lines"', '"say ""so"""', 'inch 5"', '""', f'"{end}"', "", '"x"";"', "é"]
    rows = [[odd[i] for i in draws.integers(0, len(odd), 3)] for _ in range(150)]
    lines = [",".join(row) for row in rows]
    lines[70] = lines[70] + end * 3
    text = "\ufeff" * (seed % 2) + end * (seed // 2) + f'name,"q{end}r",last' + end + end.join(lines)
    path = tmp_path / "t.csv"
    path.write_bytes((text + (end if seed else "")).encode())
    made, blocks = whole(path, ",")
    wanted = read_table(path, delimiter=",")
    assert len(blocks.bounds) > 30
    assert made.schema == wanted.schema
    assert made.equals(wanted)


def test_columns_are_fitted_as_for_the_same_file_in_memory(path):
    options = {"label": "kind", "weight": "weight", "valid_fraction": 0.0, "test_fraction": 0.0}
    disk, held = (load_data(path, memory=memory, **options) for memory in ("map", "hold"))
    assert isinstance(disk.train.x, Stored)
    assert (disk.spec.form, disk.spec.label, disk.spec.classes) == ("csv", held.spec.label, held.spec.classes)
    for one, other in zip(disk.spec.columns, held.spec.columns, strict=True):
        assert (one.name, one.kind, one.dtype, one.categories) == (
            other.name,
            other.kind,
            other.dtype,
            other.categories,
        )
        np.testing.assert_allclose([one.offset, one.scale], [other.offset, other.scale], rtol=1e-12)
    np.testing.assert_allclose(disk.train.x[:], held.train.x, atol=1e-5)
    assert torch.equal(disk.train.mask[:], held.train.mask)
    assert torch.equal(disk.train.y, held.train.y)
    assert torch.equal(disk.train.weight, held.train.weight)


def test_training_from_a_file_ends_with_the_weights_of_the_same_rows_in_memory(path, tmp_path, monkeypatch):
    monkeypatch.setattr("lowerbound.train.log.time.monotonic", iter(range(10_000)).__next__)
    data = load_data(path, memory="map", columns=["small", "count", "plan", "far"])
    ended = weights(trained(data, batch_size=30))
    assert ended == weights(trained(in_memory(data), batch_size=30))
    assert trained(data, batch_size=30, out=tmp_path / "run", listeners=(StopAt(2, 3),)).status == "stopped"
    again = load_data(**data.origin, like=data.spec)
    assert weights(resume(tmp_path / "run", again, progress=False, report=False)) == ended


def test_texts_stay_texts(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{i % 7},{'x' * 30}{i % 2}\n" for i in range(200)))
    made, _ = whole(tmp_path / "t.csv", texts=("a",))
    assert str(made.schema.field("a").type) == "string"
    data = load_data(tmp_path / "t.csv", memory="map", columns=["a:category", "b"])
    again = load_data(tmp_path / "t.csv", memory="map", like=data.spec)
    assert torch.equal(data.train.x[:], again.train.x[:])


def test_what_cannot_stay_on_disk_is_refused_and_held_by_default(path, tmp_path, monkeypatch):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    (tmp_path / "u.csv").write_bytes(path.read_text().encode("utf-16"))
    for name, what in (("t.csv.gz", "compressed"), ("u.csv", "utf-16")):
        with pytest.raises(UsageError, match=f"is {what} and cannot stay on disk(.|\n)*Parquet"):
            load_data(tmp_path / name, memory="map")
    monkeypatch.setattr("lowerbound.data.mapped.memory_size", lambda: 4)
    assert isinstance(load_data(tmp_path / "u.csv").train.x, torch.Tensor)
    assert isinstance(load_data(path).train.x, Stored)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("1,2,3\n", "line 202 of t.csv has 3 fields"),
        ('1,"open\n', "t.csv ends inside quotes"),
        ("1,\udcff\n", "is not UTF-8"),
        ("1,inf\n", "infinite"),
    ],
)
def test_bad_lines_are_refused_as_in_memory(bad, message, tmp_path):
    text = "a,b\n" + "".join(f"{i},{i % 13 + 0.25}\n" for i in range(200)) + bad
    text += "" if "open" in bad else "1,2.5\n" * 300
    (tmp_path / "t.csv").write_bytes(text.encode(errors="surrogateescape"))
    for memory in ("map", "hold"):
        with pytest.raises(DataError, match=message):
            load_data(tmp_path / "t.csv", memory=memory)


def test_a_file_without_rows_or_that_changes_is_refused(path, tmp_path):
    for text in ("", "a,b\n", "a,b\n\n\n"):
        (tmp_path / "e.csv").write_text(text)
        with pytest.raises(DataError, match="0 examples"):
            load_data(tmp_path / "e.csv", memory="map")
    data = load_data(path, memory="map")
    path.write_text(path.read_text().replace("1", "2"))
    with pytest.raises(DataError, match=r"t\.csv has changed since it was opened"):
        data.train.x[:]
