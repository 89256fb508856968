"""A CSV file that stays where it is: cut into blocks at the ends of lines, each parsed when it is read."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from ..core.errors import DataError
from .stored_tables import OneFile
from .table_files import MAX_LINE_BYTES, check_names, csv_error, csv_start, refuse_bytes, stamp_of

CSV_BYTES = 4 << 20  # of text that is parsed together
# the types that Arrow tries for a column, in this order: the first that all its cells have
_TYPES = ("null", "int64", "bool", "date32[day]", "time32[s]", "timestamp[s]", "timestamp[ns]", "double", "string")


@dataclass(frozen=True)
class CsvBlocks(OneFile):
    """Blocks of whole lines of a CSV file.

    Args:
        file: the file.
        stamp: its size and time of change.
        delimiter: between cells.
        head: its first line.
        cuts: where blocks start in the file, and where the last one ends, in bytes: `[B + 1]`.
        bounds: where they start in rows, and the number of rows: `[B + 1]`.
        schema: of its columns.
        leave: columns that are not modelled.
    """

    file: Path
    stamp: tuple[int, int]
    delimiter: str
    head: bytes
    cuts: np.ndarray
    bounds: np.ndarray
    schema: pa.Schema
    leave: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The columns that are modelled."""
        return [name for name in self.schema.names if name not in self.leave]

    def read(self, block: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Return one block.

        Raises:
            DataError: if the file cannot be read, or has changed.
        """
        names = list(columns or self.names)
        types = {name: self.schema.field(name).type for name in names}
        try:
            return self._parsed(block, types, names)
        except pa.ArrowInvalid as error:
            raise csv_error(self.file, self.delimiter, str(error)) from error

    def column(self, name: str) -> pa.Table:
        """Return one column of all rows."""
        return pa.concat_tables([self.read(i, [name]) for i in range(len(self.bounds) - 1)])

    def fits(self, name: str, type_: str) -> bool:
        """Tell whether all cells of a column have a type."""
        try:
            for block in range(len(self.bounds) - 1):
                self._parsed(block, {name: pa.type_for_alias(type_)}, [name])
        except pa.ArrowInvalid:
            return False
        return True

    def _parsed(self, block: int, types: Mapping[str, pa.DataType], names: list[str]) -> pa.Table:
        try:
            if stamp_of(self.file) != self.stamp:
                raise DataError(f"{self.called} has changed since it was opened", where=self.where, fix="start again")
            with self.file.open("rb") as stream:
                stream.seek(int(self.cuts[block]))
                text = stream.read(int(self.cuts[block + 1] - self.cuts[block]))
        except OSError as error:
            raise DataError(f"{self.file} cannot be read: {error.strerror}", where=self.where) from error
        return _parse(self.head + text, self.delimiter, types, names)


def csv_blocks(path: Path, delimiter: str | None, encoding: str, texts: Sequence[str]) -> CsvBlocks:
    """Read a CSV file once, and return its blocks and the types that all its cells have.

    Args:
        path: the file.
        delimiter: what separates the cells; None finds it out.
        encoding: of the text.
        texts: columns whose cells are texts, whatever they look like.

    Raises:
        DataError: if it cannot be read, or its lines differ in length.
        UsageError: if it is compressed or not UTF-8.
    """
    try:
        stamp, delimiter = stamp_of(path), csv_start(path, delimiter, encoding)
        with path.open("rb") as stream:
            return _scanned(path, stream, stamp, delimiter, texts)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", where=str(path)) from error


def _scanned(
    path: Path, stream: BufferedReader, stamp: tuple[int, int], delimiter: str, texts: Sequence[str]
) -> CsvBlocks:
    pieces = _pieces(stream, path, delimiter)
    start, head = next(pieces)
    names, cuts, rows = list[str](), [start + len(head)], [0]
    found: dict[str, dict[str, pa.DataType]] = {}
    for _, text in pieces:
        try:
            table = _parse(head + text, delimiter, dict.fromkeys(texts, pa.string()), None)
        except pa.ArrowInvalid as error:
            raise csv_error(path, delimiter, str(error)) from error
        if not names:
            names = table.column_names
            check_names(names, str(path))
            found = {name: {} for name in names}
        for field in table.schema:
            refuse_bytes(field, path)
            found[field.name][str(field.type)] = field.type
        if table.num_rows:
            cuts.append(cuts[-1] + len(text))
            rows.append(rows[-1] + table.num_rows)
        else:  # blank lines
            cuts[-1] += len(text)
    if not names or len(rows) < 2:
        raise DataError(f"0 examples in {path}", where=str(path), expected="lines of values")
    made = CsvBlocks(path, stamp, delimiter, head, np.array(cuts), np.array(rows), pa.schema([]))
    types = [(name, pa.string() if name in texts else _settled(made, name, kinds)) for name, kinds in found.items()]
    return CsvBlocks(path, stamp, delimiter, head, made.cuts, made.bounds, pa.schema(types))


def _settled(blocks: CsvBlocks, name: str, found: Mapping[str, pa.DataType]) -> pa.DataType:
    """Return the first type that all cells of a column have, which may be none of those that its blocks have."""
    kinds = set(found) - {"null"} or {"null"}
    if len(kinds) == 1:
        return found[kinds.pop()]
    if kinds == {"int64", "double"}:
        return pa.float64()
    if not kinds <= set(_TYPES):
        return pa.string()
    least = max(_TYPES.index(kind) for kind in kinds)
    return pa.type_for_alias(next(kind for kind in _TYPES[least:] if kind == "string" or blocks.fits(name, kind)))


def _parse(text: bytes, delimiter: str, types: Mapping[str, pa.DataType], names: list[str] | None) -> pa.Table:
    """Return the table of a header and lines; in this thread, as nothing of Python's may be in another at the end."""
    return pacsv.read_csv(
        pa.BufferReader(text),
        read_options=pacsv.ReadOptions(block_size=len(text) + 1, use_threads=False),
        parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(strings_can_be_null=True, column_types=types, include_columns=names),
    )


def _pieces(stream: BufferedReader, path: Path, delimiter: str) -> Iterator[tuple[int, bytes]]:
    """Yield where each piece of a file starts and its whole lines: the first line alone, then some MiB each."""
    quoted = re.compile(rb'(?<![^\r\n%b])"(?:[^"]++|"")*+(?:"|(\Z))' % re.escape(delimiter.encode()))
    left, place, first = stream.read(3), 0, True
    if left == b"\xef\xbb\xbf":
        left, place = b"", 3
    while True:
        more = stream.read(CSV_BYTES)
        text = left + more
        if first:
            blank = len(text) - len(text.lstrip(b"\r\n"))
            text, place = text[blank:], place + blank
        last, open_ = _line_ends(text, quoted, first=first, end=not more)
        if last:
            yield place, text[:last]
            left, place, first = text[last:], place + last, False
            continue
        if not more:
            if open_:
                raise DataError(f"{path.name} ends inside quotes", where=str(path), fix="close the quotes")
            if left:
                yield place, text
            return
        if len(text) > MAX_LINE_BYTES:
            raise csv_error(path, delimiter, "straddling")
        left = text


def _line_ends(text: bytes, quoted: re.Pattern[bytes], *, first: bool, end: bool) -> tuple[int, bool]:
    """Return where the first or the last line of a text ends, 0 if none does, and whether quotes stay open at its end.

    A line feed ends a line, or a carriage return that no line feed follows; neither does inside quotes.
    """
    gaps, start, open_ = [], 0, False
    for match in quoted.finditer(text) if b'"' in text else ():
        gaps.append((start, match.start()))
        start, open_ = match.end(), match.group(1) is not None
    if not open_:
        gaps.append((start, len(text)))
    for low, high in gaps if first else reversed(gaps):
        found = text.find(b"\n", low, high) if first else text.rfind(b"\n", low, high)
        if found < 0 and b"\n" not in text:
            high = high if end or high < len(text) else high - 1  # a line feed may follow
            found = text.find(b"\r", low, high) if first else text.rfind(b"\r", low, high)
        if found >= 0:
            return found + 1, open_
    return 0, open_
