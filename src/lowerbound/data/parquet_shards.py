"""A table in one Parquet file or in several of one schema: its row groups, and all of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..core.errors import DataError
from .table_files import check_cells, read_table, shown, stamp_of


@dataclass(frozen=True)
class ParquetBlocks:
    """The row groups of Parquet files of one schema, one file after another.

    Args:
        files: them.
        about: what the end of each says.
        stamps: size and time of change of each, when that was read.
        schema: of the first.
        leave: columns that are not modelled.
    """

    files: tuple[Path, ...]
    about: tuple[pq.FileMetaData, ...]
    stamps: tuple[tuple[int, int], ...]
    schema: pa.Schema
    leave: tuple[str, ...] = ()

    @property
    def called(self) -> str:
        """The file, or the folder of several."""
        return self.files[0].name if len(self.files) == 1 else self.files[0].parent.name

    @property
    def where(self) -> str:
        """Its path."""
        return str(self.files[0] if len(self.files) == 1 else self.files[0].parent)

    @property
    def groups(self) -> list[tuple[int, int, int]]:
        """File, number and rows of each row group that is not empty."""
        every = [(f, g, about.row_group(g).num_rows) for f, about in enumerate(self.about) for g in _groups(about)]
        return [(file, group, rows) for file, group, rows in every if rows]

    @property
    def bounds(self) -> np.ndarray:
        """Where row groups start, and the number of rows: `[B + 1]`."""
        return np.cumsum([0, *(rows for _, _, rows in self.groups)]).astype(np.int64)

    @property
    def names(self) -> list[str]:
        """The columns that are modelled."""
        return [name for name in self.schema.names if name not in self.leave]

    def read(self, block: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Return one row group.

        Raises:
            DataError: if it cannot be read, or its file has changed.
        """
        number, group, _ = self.groups[block]
        file = self.files[number]
        try:
            if stamp_of(file) != self.stamps[number]:
                raise DataError(f"{file.name} has changed since it was opened", where=str(file), fix="start again")
            opened = pq.ParquetFile(pa.OSFile(str(file)), metadata=self.about[number], page_checksum_verification=True)
            table = opened.read_row_group(group, list(columns or self.names), use_threads=False)
            table.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"row group {group + 1} of {file.name} cannot be read: {shown(str(error), 200)}",
                where=str(file),
                fix="write or download it again",
            ) from error
        return table

    def column(self, name: str) -> pa.Table:
        """Return one column of all rows."""
        return pa.concat_tables([self.read(i, [name]) for i in range(len(self.bounds) - 1)])


def _groups(about: pq.FileMetaData) -> range:
    return range(about.num_row_groups)


def parquet_blocks(files: Sequence[Path]) -> ParquetBlocks:
    """Return the row groups of Parquet files, of which their ends alone are read.

    Raises:
        DataError: if one cannot be read, or has other columns than the first.
    """
    about, stamps, schemas = [], [], []
    for file in files:
        try:
            stamps.append(stamp_of(file))
            opened = pq.ParquetFile(pa.OSFile(str(file)))
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{file.name} cannot be read: {shown(str(error), 200)}", where=str(file), fix="check the file"
            ) from error
        about.append(opened.metadata)
        schemas.append(opened.schema_arrow)
        check_same(schemas[0], schemas[-1], files[0], file)
    return ParquetBlocks(tuple(files), tuple(about), tuple(stamps), schemas[0])


def check_same(first: pa.Schema, other: pa.Schema, path: Path, shard: Path) -> None:
    """Raise DataError if a shard has other columns than the first file, or of other types; their order may differ."""
    wanted, found = ({field.name: field.type for field in schema} for schema in (first, other))
    lines = [
        *(f"no column {shown(name)}" for name in wanted if name not in found),
        *(f"a column {shown(name)} more" for name in found if name not in wanted),
        *(
            f"{found[name]} in column {shown(name)}, {type_} there"
            for name, type_ in wanted.items()
            if name in found and found[name] != type_
        ),
    ]
    if lines:
        raise DataError(
            f"{shard.name} has other columns than {path.name}: {'; '.join(lines[:5])}",
            where=str(shard),
            expected="files of one schema",
            fix="write them again with one schema, or take what is not part of the table out of the folder",
        )


def read_shards(files: Sequence[Path]) -> pa.Table:
    """Read a table from Parquet files of one schema, one after another.

    Raises:
        DataError: if one cannot be read or has other columns, or they are too large for memory.
    """
    about = parquet_blocks(files)
    check_cells(int(about.bounds[-1]), len(about.schema.names), about.called, about.where)
    filled = [file for file, one in zip(files, about.about, strict=True) if one.num_rows]
    if not filled:
        raise DataError(f"0 examples in {about.where}", expected="at least 2")
    return pa.concat_tables([read_table(file).select(about.schema.names) for file in filled])
