"""CSV and Parquet files: every way in which one can be written, and every way in which one can be wrong."""

import errno
import gzip
import os
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lowerbound.core.errors import DataError, OutOfResource
from lowerbound.data import table_files
from lowerbound.data.table_files import read_table, write_table

MIB = 1 << 20
PLAIN = {"age": [31, 45, None], "town": ["Ulm", None, "Genève, \n GE"]}
TEXT = 'age,town\n31,Ulm\n45,\n,"Genève, \n GE"\n'


def read(folder, content, name="people.csv", **options):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, **options)


def refused(folder, content, *words, name="people.csv", **options):
    with pytest.raises(DataError) as caught:
        read(folder, content, name, **options)
    for word in words:
        assert word in str(caught.value), caught.value
    return str(caught.value)


@pytest.mark.parametrize("name", ["people.csv", "people.txt", "people.tsv", "PEOPLE.CSV"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_marks_of_the_encoding_are_found(encoding, name, tmp_path):
    assert read(tmp_path, TEXT.encode(encoding), name).to_pydict() == PLAIN


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-le", "utf-16"])
def test_a_named_encoding(encoding, tmp_path):
    assert read(tmp_path, TEXT.encode(encoding), encoding=encoding).to_pydict() == PLAIN


@pytest.mark.parametrize("name", ["people.csv.gz", "people.csv", "people.tsv.gz"])
def test_packed_files_whatever_their_name(name, tmp_path):
    assert read(tmp_path, gzip.compress(TEXT.encode()), name).to_pydict() == PLAIN
    assert read(tmp_path, gzip.compress(TEXT.encode("utf-16")), name).to_pydict() == PLAIN


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends_are_found(delimiter, end, tmp_path):
    text = end.join(delimiter.join(row) for row in (("a", "b", "c"), ("1", "2.5", "x y"), ("3", "4", '"u;v,w"'))) + end
    found = read(tmp_path, text)
    assert found.to_pydict() == {"a": [1, 3], "b": [2.5, 4.0], "c": ["x y", "u;v,w"]}
    assert read(tmp_path, text, delimiter=delimiter).equals(found)


def test_a_comma_inside_numbers_does_not_decide(tmp_path):
    assert read(tmp_path, "a;b\n1,5;2\n2,5;3\n").column_names == ["a", "b"]


def test_one_column_needs_no_delimiter(tmp_path):
    assert read(tmp_path, "name\nAda\nBo\n").to_pydict() == {"name": ["Ada", "Bo"]}


def test_texts_of_every_kind(tmp_path):
    texts = ["nul\0in", "👩‍🔬", "שלום", 'say "hi"', "=1+1", "a\nb"]
    table = pa.table({"k": list(range(6)), "t\0é": texts})
    assert read_table(write_table(table, tmp_path / "t.csv")).equals(table)


def test_what_counts_as_missing(tmp_path):
    found = read(tmp_path, "n,t\n1,a\n,\nNA,NA\nnan,NaN\nnull,null\nN/A,N/A\n2,b\n")
    assert found.to_pydict() == {"n": [1, *[None] * 5, 2], "t": ["a", *[None] * 5, "b"]}


def test_cells_longer_than_pythons_reader_takes(tmp_path):
    assert read(tmp_path, f"a,b\n{'x' * 200_000},1\ny,2\n").num_rows == 2


@pytest.mark.parametrize("content", ["", "\n\n", "a,b", "a,b\n", '"a\nb",c\n', "\ufeff", "a,b\r\n\r\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_files_without_rows(content, packed, tmp_path):
    name = "people.csv.gz" if packed else "people.csv"
    raw = gzip.compress(content.encode()) if packed else content
    refused(tmp_path, raw, f"0 examples in {tmp_path / name}", name=name)


def test_a_parquet_file_without_rows(tmp_path):
    refused(tmp_path, b"", "0 examples", name="a.parquet")
    with pytest.raises(DataError, match="0 examples"):
        read_table(write_table(pa.table({"a": pa.array([], pa.int8())}), tmp_path / "b.parquet"))


@pytest.mark.parametrize(
    ("text", "line", "fields", "expected"),
    [
        ("a,b\n1,2\n1,2,3\n4,5\n", 3, 3, 2),
        ("a,b\n\n1,2\n\n7\n", 5, 1, 2),
        ('a,b\n1,"x\ny\nz"\n1,2,3,4\n', 5, 4, 2),
        ("a,b,c\r\n1,2,3\r\n1,2\r\n", 3, 2, 3),
        ("a;b\n" + "1;2\n" * 30_000 + "1;2;3\n", 30_002, 3, 2),
        ("name\nAda\nhello, world\n", 3, 2, 1),
    ],
)
def test_a_line_that_is_longer_or_shorter(text, line, fields, expected, tmp_path):
    words = (f"line {line:,} of people.csv has {fields} fields", f"{expected}, as in the header")
    refused(tmp_path, text, *words)
    refused(tmp_path, gzip.compress(text.encode("utf-16")), *words)


@pytest.mark.parametrize("text", ['a,b\n1,"x\n2,y\n', 'a,b\n1,2\n3,"'])
def test_a_quote_that_is_never_closed(text, tmp_path):
    if text.endswith('"'):
        assert read(tmp_path, text).num_rows == 2  # nothing was swallowed
    else:
        refused(tmp_path, text, "ends inside quotes")
    assert read(tmp_path, 'a,b\n1,"x\n2,y\n"\n').num_rows == 1


def test_a_line_too_long_to_be_one(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "MAX_LINE_BYTES", 1 << 16)
    refused(tmp_path, "a,b\n1,2\n" + "x" * 300_000 + ",1\n", "too long")
    refused(tmp_path, 'a,b\n1,2\n3,"' + "x\n" * 300_000, "people.csv")


@pytest.mark.parametrize("text", ["1,2\n3,4\n", "1.5\n2.5\n", "-1;2e5\n3;4\n"])
def test_numbers_where_the_names_belong(text, tmp_path):
    refused(tmp_path, text, "has no header line", "add a line of column names")


def test_numbers_in_quotes_are_names(tmp_path):
    assert read(tmp_path, '"0","1"\n3,4\n').to_pydict() == {"0": [3], "1": [4]}


def test_names(tmp_path):
    refused(tmp_path, "a,b,a,c,b\n1,2,3,4,5\n", "occur twice: a, b")
    refused(tmp_path, ",a,\n1,2,3\n", "without a name: 1, 3")
    refused(tmp_path, 'a\x1b,"a\x1b"\n1,2\n', r"a\x1b")
    pq.write_table(pa.Table.from_arrays([pa.array([1])] * 2, names=["a", "a"]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="occur twice: a"):
        read_table(tmp_path / "a.parquet")


def test_what_is_not_in_the_encoding(tmp_path):
    for text in ("a,b\n1,é\n", "a,é\n1,2\n", "a,b\n" + "1,x\n" * 70_000 + "2,é\n"):
        refused(tmp_path, text.encode("latin-1"), "is not UTF-8", "--encoding gb18030")
    refused(tmp_path, "a,é\n1,2\n", "is not ascii", encoding="ascii")
    refused(tmp_path, "a,b\n" + "1,x\n" * 70_000 + "2,é\n", "is not ascii", encoding="ascii")
    refused(tmp_path, "ab,b\n1,2\n".encode("utf-16-le"), "--encoding utf-16")


def test_options_that_do_not_exist(tmp_path):
    for encoding in ("nope", "rot13", "hex", "a\0b"):
        refused(tmp_path, "a\n1\n", "there is no encoding", encoding=encoding)
    for delimiter in ("", ";;", "\n", '"', "é", "\0"):
        refused(tmp_path, "a\n1\n", "the delimiter cannot be", delimiter=delimiter)
    refused(tmp_path, "a,b\n1,2\n", "holds the delimiter ';'", "seems to be ','", delimiter=";")
    refused(tmp_path, b"", ".parquet", name="a.xlsx")


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>403 Forbidden</html>", b"a,b\n1,2\n"])
def test_what_only_claims_to_be_packed(content, tmp_path):
    refused(tmp_path, content, "not a gzip file", "download it again", name="people.csv.gz")


def test_every_truncation_of_a_packed_file(tmp_path):
    packed = gzip.compress(TEXT.encode(), mtime=0)
    for length in range(len(packed)):
        refused(tmp_path, packed[:length], "people.csv.gz", name="people.csv.gz")


def test_a_packed_file_that_unpacks_to_too_much_costs_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "MAX_FILE_BYTES", 10 * MIB)
    packed = gzip.compress(b"a\n" + b"1\n" * (15 * MIB), 1)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        refused(tmp_path, packed, "people.csv.gz holds more than", name="people.csv.gz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB
    assert pa.total_allocated_bytes() - before < MIB
    refused(tmp_path, b"a\n" + b"1\n" * (6 * MIB), "people.csv holds more than")


def test_more_cells_or_columns_than_fit(tmp_path, monkeypatch):
    path = write_table(pa.table({"a": list(range(50)), "b": list(range(50))}), tmp_path / "a.parquet")
    with monkeypatch.context() as patch:
        patch.setattr(table_files, "MAX_CELL_BYTES", 799)
        with pytest.raises(DataError, match="50 rows of 2 columns"):
            read_table(path)
        patch.setattr(table_files, "MAX_CELL_BYTES", 800)
        assert read_table(path).num_rows == 50
    monkeypatch.setattr(table_files, "MAX_COLUMNS", 1)
    with pytest.raises(DataError, match="2 columns"):
        read_table(path)
    refused(tmp_path, "a,b\n1,2\n", "2 columns")


@pytest.mark.parametrize("content", [b"PAR1", b"PAR1" + bytes(50) + b"PAR1", b"a,b\n1,2\n", b"<html></html>"])
def test_what_is_no_parquet_file(content, tmp_path):
    refused(tmp_path, content, "a.parquet is damaged", name="a.parquet")


def test_a_folder_a_missing_file_and_one_that_may_not_be_read(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name in ("folder.csv", "missing.csv", "missing.parquet"):
        with pytest.raises(DataError, match="cannot be read"):
            read_table(tmp_path / name)


def test_a_name_that_is_not_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.csv")
    table = pa.table({"a": [1, 2, 3], "b": ["x", "y", None]})
    assert read_table(write_table(table, path)).equals(table)
    path = path.with_suffix(".parquet")
    assert read_table(write_table(table, path)).equals(table)


@pytest.mark.parametrize("values", [[1, None, 3], ["a\n\n\nb", None, 'q"'], [True, None, False], [None, "x"]])
def test_missing_cells_of_one_column_are_rows(values, tmp_path):
    table = pa.table({'the "one"': values})
    assert read_table(write_table(table, tmp_path / "a.csv")).equals(table)


def test_types_that_csv_does_not_know(tmp_path):
    words = pa.array(["b", "a", None])
    table = pa.table(
        {
            "d": words.dictionary_encode(),
            "v": words.cast(pa.string_view()),
            "h": pa.array([1.5, None, 2.5]).cast(pa.float16()),
        }
    )
    found = read_table(write_table(table, tmp_path / "a.csv"))
    assert found.to_pydict() == {"d": ["b", "a", None], "v": ["b", "a", None], "h": [1.5, None, 2.5]}


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_file_is_replaced_whole_or_not_at_all(name, tmp_path, monkeypatch):
    old = pa.table({"a": [1, 2], "b": [3, 4]})
    path = write_table(old, tmp_path / name)
    if name == "a.csv":
        with pytest.raises(DataError, match="cannot be written"):
            write_table(pa.table({"a": [[1], [2]], "b": [3, 4]}), path)

    def fail(_, code):
        raise OSError(code, os.strerror(code))

    for code, kind in ((errno.ENOSPC, OutOfResource), (errno.EIO, DataError)):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda file, code=code: fail(file, code))
            with pytest.raises(kind):
                write_table(pa.table({"a": [9], "b": [9]}), path)
    assert os.listdir(tmp_path) == [name]  # noqa: PTH208
    assert read_table(path).equals(old)
    new = pa.table({"a": [5]})
    assert read_table(write_table(new, path)).equals(new)


def test_names_and_places_that_cannot_be_written(tmp_path):
    for path in (tmp_path / "a.xlsx", tmp_path / "missing" / "a.csv"):
        with pytest.raises(DataError, match=path.name):
            write_table(pa.table({"a": [1]}), path)
