"""Files of tables: CSV and Parquet, read with bounds and written whole or not at all."""

import csv
import errno
import gzip
import io
import os
import re
import secrets
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from ..core.errors import DataError, OutOfResource, UsageError

MAX_FILE_BYTES = 8 << 30  # of a file, and of what a packed one unpacks to
MAX_CELL_BYTES = 16 << 30  # of a Parquet file's cells, 8 bytes each
MAX_COLUMNS = 100_000
MAX_LINE_BYTES = 16 << 20
NUMBER = r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*"

_DELIMITERS = ",;\t|"
_CSV = (".csv", ".tsv", ".txt")
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
_PIECE = 1 << 20  # bytes or characters read at once
_LOOKS = 10  # lines after the header that tell the delimiter


def shown(text: str, most: int = 60) -> str:
    """Return a name or cell as a message quotes it: control characters escaped, long ones cut."""
    return repr(text if len(text) <= most else text[: most - 3] + "...")


def listed(names: Sequence[str], most: int = 20) -> str:
    """Return names as a message lists them: control characters escaped, at most `most` of them."""
    parts = [shown(name)[1:-1] for name in names[:most]]
    return ", ".join([*parts, f"and {len(names) - most:,} more"] if len(names) > most else parts)


def check_names(names: Sequence[str], where: str) -> None:
    """Check the column names of a table.

    Raises:
        DataError: if there are too many, one is empty, or two are the same.
    """
    if len(names) > MAX_COLUMNS:
        raise DataError(f"the table has {len(names):,} columns", where=where, expected=f"at most {MAX_COLUMNS:,}")
    empty = [str(i) for i, name in enumerate(names, 1) if not name.strip()]
    if empty:
        raise DataError(
            f"the table has columns without a name: {listed(empty)}", where=where, fix="name or remove them"
        )
    seen: set[str] = set()
    twice = list(dict.fromkeys(name for name in names if name in seen or seen.add(name)))
    if twice:
        raise DataError(f"column names occur twice: {listed(twice)}", where=where, fix="give each column its own name")


def read_table(
    path: Path,
    *,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    texts: Sequence[str] = (),
    codes: Sequence[str] = (),
    missing: bool = True,
) -> pa.Table:
    """Read a table `[N rows, D columns]` from .csv, .tsv or .txt, gzipped or not, or from .parquet.

    Args:
        path: the file.
        delimiter: what separates the cells of a CSV; None finds out which of comma, semicolon, tab and | it is.
        encoding: of a CSV; UTF-16 that starts with its mark is found without.
        texts: columns of a CSV whose cells are texts, whatever they look like.
        codes: columns of a CSV that are texts if a whole number in them is written otherwise than as such, as 01 is.
        missing: False takes texts such as NA for what they say.

    Raises:
        DataError: if the file cannot be read, holds no rows, is damaged or too large, or its lines differ in length.
    """
    name, where = path.name.lower(), str(path)
    if not name.endswith(".parquet") and not name.removesuffix(".gz").endswith(_CSV):
        raise DataError(
            f"{path.name} is no table that can be read", where=where, expected=f"{', '.join(_CSV)} or .parquet"
        )
    try:
        with path.open("rb") as raw:
            if name.endswith(".parquet"):
                table = _read_parquet(raw, path)
            else:
                table = _read_csv(raw, path, delimiter, encoding, texts, missing=missing)
                whole = whole_columns(table.schema, codes)
                if whole:
                    raw.seek(0)
                    again = _read_csv(raw, path, delimiter, encoding, (*texts, *whole), missing=missing)
                    for column in whole:
                        if written_otherwise(again.column(column), table.column(column)):
                            place = table.column_names.index(column)
                            table = table.set_column(place, column, again.column(column))
    except (pa.ArrowException, UnicodeError, OSError, *_DAMAGED) as error:
        raise _unreadable(error, path, encoding) from error
    check_names(table.column_names, where)
    if not table.num_rows:
        raise _no_examples(path)
    return table


def _unreadable(error: BaseException, path: Path, encoding: str) -> DataError:
    """Return what went wrong while a file was read as an error of ours."""
    if isinstance(error, UnicodeError):
        return _not_encoded(path, encoding)
    if isinstance(error, OSError) and error.strerror:  # Arrow's own complaints may be OSErrors without
        return DataError(f"{path} cannot be read: {error.strerror}", where=str(path), fix="check the file")
    return DataError(
        f"{path.name} is damaged or no table: {shown(str(error), 300)}",
        where=str(path),
        fix="write or download it again",
    )


def _no_examples(path: Path) -> DataError:
    return DataError(f"0 examples in {path}", where=str(path), expected="a line of column names, then lines of values")


def _not_encoded(path: Path, encoding: str, column: str = "") -> DataError:
    what = f"column {shown(column)} of {path.name}" if column else path.name
    label = "UTF-8" if _is_utf8(encoding) else encoding
    fix = "give another --encoding"
    if label == "UTF-8":
        fix = "give its encoding: --encoding gb18030 (Chinese), cp1252 (Western European), shift_jis, ..."
    return DataError(f"{what} is not {label}", where=str(path), fix=fix)


def _read_parquet(raw: BufferedIOBase, path: Path) -> pa.Table:
    if not raw.read(1):
        raise _no_examples(path)
    native = pa.OSFile(os.fsencode(path))  # no Python file: see _native
    file = pq.ParquetFile(native, page_checksum_verification=True)
    check_cells(file.metadata.num_rows, file.metadata.num_columns, path.name, str(path))
    table = file.read()
    table.validate(full=True)  # a flipped bit may leave text that is no text
    return table


def check_cells(rows: int, columns: int, name: str, where: str) -> None:
    """Raise DataError if a table has more cells than are read into memory."""
    if rows * columns * 8 > MAX_CELL_BYTES or columns > MAX_COLUMNS:
        raise DataError(
            f"{name} has {rows:,} rows of {columns:,} columns, too many to hold in memory",
            where=where,
            expected=f"at most {MAX_CELL_BYTES >> 30} GiB at 8 bytes a cell, and {MAX_COLUMNS:,} columns",
            fix="take part of the rows or columns, or leave them on disk (--memory map)",
        )


def whole_columns(schema: pa.Schema, names: Sequence[str]) -> list[str]:
    """Return those of the names that are columns of whole numbers."""
    return [
        name for name in dict.fromkeys(names) if name in schema.names and pa.types.is_integer(schema.field(name).type)
    ]


def written_otherwise(texts: pa.ChunkedArray, numbers: pa.ChunkedArray) -> bool:
    """Tell whether a whole number is written otherwise than as such: a code like 01, which is not 1."""
    given, plain = (cells.combine_chunks().to_pylist() for cells in (texts, numbers.cast(pa.string())))
    return any(a is not None and a.strip() != b for a, b in zip(given, plain, strict=True))


def _read_csv(
    raw: BufferedIOBase, path: Path, delimiter: str | None, encoding: str, texts: Sequence[str], *, missing: bool = True
) -> pa.Table:
    _check_options(delimiter, encoding)
    stream = _unpacked(raw, path)
    first = stream.read(4)
    encoding = _marked(first, encoding, path)
    stream.seek(0)
    delimiter = _check_head(stream, path, delimiter, encoding)
    stream.seek(0)
    try:
        table = pacsv.read_csv(
            _native(stream, path, encoding),
            read_options=pacsv.ReadOptions(block_size=MAX_LINE_BYTES),
            parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                strings_can_be_null=missing, column_types={name: pa.string() for name in texts}
            ),
        )
    except pa.ArrowInvalid as error:
        with path.open("rb") as again:
            raise _bad_line(_unpacked(again, path), path, delimiter, encoding, str(error)) from error
    for field in table.schema:
        refuse_bytes(field, path, encoding)
    _check_end(table, path, encoding)
    return table


def _native(stream: BufferedIOBase, path: Path, encoding: str) -> Any:
    """Return a file's text as UTF-8 in a stream that holds nothing of Python's.

    Arrow reads in threads, and one of them that lets go of a Python object while Python exits aborts the process.
    """
    if not isinstance(stream, gzip.GzipFile) and _is_utf8(encoding):
        return pa.OSFile(os.fsencode(path))
    sink = pa.BufferOutputStream()
    if _is_utf8(encoding):
        while piece := stream.read(_PIECE):
            sink.write(piece)
    else:
        with _text(stream, encoding) as text:
            while piece := text.read(_PIECE):
                sink.write(piece.encode())
    return pa.BufferReader(sink.getvalue())


def csv_start(path: Path, delimiter: str | None, encoding: str) -> str:
    """Return the delimiter of a CSV file that is plain UTF-8, after a look at its first lines.

    Raises:
        DataError: if it has no header, or no rows.
        UsageError: if it is compressed or in another encoding.
    """
    _check_options(delimiter, encoding)
    with path.open("rb") as raw:
        first = raw.read(4)
        raw.seek(0)
        packed = first[:2] == b"\x1f\x8b"
        if packed or not _is_utf8(encoding := _marked(first, encoding, path)):
            raise UsageError(
                f"{path.name} is {'compressed' if packed else encoding} and cannot stay on disk",
                expected="plain UTF-8",
                fix=f"{'gunzip it' if packed else 'iconv -t UTF-8'}, or write it as Parquet",
            )
        try:
            return _check_head(raw, path, delimiter, encoding)
        except UnicodeError as error:
            raise _not_encoded(path, encoding) from error


def csv_error(path: Path, delimiter: str, message: str) -> DataError:
    """Return the error of a UTF-8 CSV file that Arrow cannot parse."""
    with path.open("rb") as raw:
        return _bad_line(raw, path, delimiter, "utf-8", message)


def refuse_bytes(field: pa.Field, path: Path, encoding: str = "utf-8") -> None:
    """Raise DataError for a column whose cells are no text in the encoding."""
    if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
        raise _not_encoded(path, encoding, field.name)


def stamp_of(path: Path) -> tuple[int, int]:
    """Return size and time of change of a file."""
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def _check_options(delimiter: str | None, encoding: str) -> None:
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '\r\n"\0' or not delimiter.isascii()):
        raise DataError(f"the delimiter cannot be {shown(delimiter)}", expected="one character, e.g. ; or a tab")
    try:
        b"".decode(encoding)
        io.TextIOWrapper(io.BytesIO(), encoding)  # refuses those that are no encodings of text
    except (LookupError, ValueError) as error:
        raise DataError(
            f"there is no encoding {shown(encoding)}", expected="utf-8, latin-1, cp1252, utf-16 or another"
        ) from error


def _unpacked(raw: BufferedIOBase, path: Path) -> BufferedIOBase:
    """Return the file's bytes unpacked, after checking what a packed file unpacks to: nothing of it is kept."""
    packed = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    if path.suffix.lower() == ".gz" and not packed:
        raise DataError(f"{path.name} is not a gzip file", where=str(path), fix="download it again")
    size = os.fstat(raw.fileno()).st_size
    if not packed:
        _check_size(size, path)
        return raw
    stream = gzip.GzipFile(fileobj=cast(Any, raw))
    size = 0
    while piece := stream.read(1 << 20):
        size += len(piece)
        _check_size(size, path)
    stream.seek(0)
    return stream


def _check_size(size: int, path: Path) -> None:
    if size > MAX_FILE_BYTES:
        raise DataError(
            f"{path.name} holds more than {MAX_FILE_BYTES / 2**30:.3g} GiB of text",
            where=str(path),
            fix="take part of the rows, or write it as Parquet",
        )


def _marked(first: bytes, encoding: str, path: Path) -> str:
    """Return the encoding that the mark at a file's start tells, else the one given."""
    if not _is_utf8(encoding):
        return encoding
    if first in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        return "utf-32"
    if first[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if first[::2] == b"\0\0" or first[1::2] == b"\0\0":
        raise DataError(f"{path.name} is not UTF-8", where=str(path), fix="try --encoding utf-16")
    return encoding


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8")


def _text(stream: BufferedIOBase, encoding: str) -> io.TextIOWrapper:
    encoding = "utf-8-sig" if _is_utf8(encoding) else encoding  # drops the mark
    return io.TextIOWrapper(cast(Any, stream), encoding, newline="")


def _check_head(stream: BufferedIOBase, path: Path, delimiter: str | None, encoding: str) -> str:
    """Check the header line and return the delimiter."""
    text = _text(stream, encoding)
    head = text.read(1 << 16)
    while head.count("\n") + head.count("\r") <= _LOOKS and len(head) < MAX_LINE_BYTES:
        piece = text.read(1 << 20)
        head += piece
        if not piece:
            break
    whole = not text.read(1)
    text.detach()  # keep the stream open
    found, wide = _delimiter_of(head, whole=whole)
    if delimiter and wide and delimiter not in head:
        raise DataError(
            f"no line of {path.name} holds the delimiter {shown(delimiter)}",
            where=str(path),
            fix=f"it seems to be {shown(found)}: leave --delimiter out",
        )
    delimiter = delimiter or found
    if whole and len(head.strip().splitlines()) < 2:
        raise _no_examples(path)
    rows = _rows(head, delimiter, whole=whole)
    if not rows:
        raise DataError(f"the first line of {path.name} is too long", where=str(path), expected="16 MiB or less")
    # Names in quotes are names, even where they are numbers.
    if '"' not in head[: len("".join(rows[0])) + 2] and all(re.fullmatch(NUMBER, name) for name in rows[0]):
        raise DataError(
            f"{path.name} has no header line: it starts with {shown(delimiter.join(rows[0]))}",
            where=str(path),
            expected="a line of column names, in quotes where they are numbers",
            fix="add a line of column names, or save the numbers as .npy",
        )
    check_names(rows[0], str(path))
    return delimiter


def _rows(head: str, delimiter: str, *, whole: bool) -> list[list[str]]:
    """Return the first complete rows of a file, blank lines left out."""
    found: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter):
            if row:
                found.append(row)
            if len(found) > _LOOKS + 1:
                return found[:-1]
    except csv.Error:  # a field that Python's reader finds too long
        return found
    return found if whole else found[:-1]  # the last may go on


def _delimiter_of(head: str, *, whole: bool) -> tuple[str, bool]:
    """Return the character that splits the first lines alike, most finely, and whether one does.

    If none does it is the one that splits the header, so that the line that differs is found; else a comma.
    """
    best, finest = ",", (False, 1)
    for delimiter in _DELIMITERS:
        widths = [len(row) for row in _rows(head, delimiter, whole=whole)]
        if not widths:
            continue
        key = (len(set(widths)) == 1, widths[0])
        if key[1] > 1 and key > finest:
            best, finest = delimiter, key
    return best, finest[0]


def _bad_line(stream: BufferedIOBase, path: Path, delimiter: str, encoding: str, message: str) -> DataError:
    """Return the error of a CSV that cannot be parsed, with the line where one is longer or shorter than the header."""
    expected = 0
    try:
        with _text(stream, encoding) as text:
            for line, row in _numbered(text, delimiter):
                expected = expected or len(row)
                if len(row) != expected:
                    return DataError(
                        f"line {line:,} of {path.name} has {len(row):,} fields",
                        where=str(path),
                        expected=f"{expected:,}, as in the header",
                        fix="correct the line, quote text that holds the delimiter, or give the right --delimiter",
                    )
    except csv.Error:  # a cell that Python's reader finds too long
        message = "straddling"
    if "straddling" in message:
        return DataError(
            f"a line of {path.name} is too long",
            where=str(path),
            fix='look for a quote " that is never closed',
        )
    return DataError(f"{path.name} cannot be read as CSV: {shown(message, 300)}", where=str(path), fix="check the file")


def _numbered(text: io.TextIOWrapper, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV that are not blank, each with the line of the file it starts on."""
    reader, line = csv.reader(text, delimiter=delimiter), 1
    for row in reader:
        if row:
            yield line, row
        line = reader.line_num + 1


def _check_end(table: pa.Table, path: Path, encoding: str) -> None:
    """Refuse a file that ends inside quotes: its last cell swallowed the rows after the quote."""
    last = table.column(table.num_columns - 1)
    if not pa.types.is_string(last.type) or not table.num_rows or "\n" not in (last[-1].as_py() or ""):
        return
    tail = ""
    with path.open("rb") as raw, _text(_unpacked(raw, path), encoding) as text:
        while piece := text.read(1 << 20):
            tail = tail[-9:] + piece
    if not tail.rstrip("\r\n\t ").endswith('"'):
        raise DataError(
            f"{path.name} ends inside quotes, in row {table.num_rows:,}", where=str(path), fix="close the quotes"
        )


def write_table(table: pa.Table, path: Path) -> Path:
    """Write a table to .csv or .parquet, whole or not at all, and return the path.

    Raises:
        DataError: if the name ends in neither, or the table or file cannot be written.
        OutOfResource: if the disk is full.
    """
    write = {".csv": _write_csv, ".parquet": _write_parquet}.get(path.suffix.lower())
    if write is None:
        raise DataError(f"{path.name} is no name of a table", where=str(path), expected=".csv or .parquet")
    with whole_file(path) as file:
        write(table, file)
    return path


def table_writer(file: BufferedIOBase, path: Path, schema: pa.Schema) -> Any:
    """Return what writes tables of plain numbers and texts to an open .csv or .parquet file, one after another."""
    if path.suffix.lower() == ".csv":
        return pacsv.CSVWriter(file, schema)
    return pq.ParquetWriter(file, schema, write_page_checksum=True)


@contextmanager
def whole_file(path: Path) -> Iterator[BufferedIOBase]:
    """Give a file to write that takes the place of `path` at the end, or vanishes at an error.

    Raises:
        DataError: if it cannot be written.
        OutOfResource: if the disk is full.
    """
    temporary = path.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except pa.ArrowException as error:
        raise DataError(f"the table cannot be written: {shown(str(error), 300)}", where=str(path)) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfResource(f"the disk is full: {path.name} was not written", where=str(path.parent)) from error
        raise DataError(f"{path} cannot be written: {error.strerror or error}", where=str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_parquet(table: pa.Table, file: BufferedIOBase) -> None:
    pq.write_table(table, file, write_page_checksum=True)


def _write_csv(table: pa.Table, file: BufferedIOBase) -> None:
    table = pa.table([_plain(column) for column in table.columns], names=table.column_names)
    if table.num_columns > 1 or not table.column(0).null_count:
        pacsv.write_csv(table, file)
        return
    # Of one column, a missing cell would be a blank line, which readers skip: write it as quotes.
    cells = [table.column_names[0], *table.column(0).cast(pa.string()).to_pylist()]
    file.write("".join('"' + (cell or "").replace('"', '""') + '"\n' for cell in cells).encode())


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without the types that CSV does not know: dictionaries, views and half floats."""
    if pa.types.is_dictionary(column.type):
        return _plain(column.cast(column.type.value_type))
    if pa.types.is_string_view(column.type):
        return column.cast(pa.string())
    return column.cast(pa.float32()) if pa.types.is_float16(column.type) else column
