"""Tables that stay on disk: numeric and categorical columns of Parquet files, fitted block by block."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import torch

from ..core.errors import DataError
from ..core.spec import Column
from .fit_blocks import inside, settled_columns, started
from .stored import Blocks, Source, Spans, room
from .table_files import check_names
from .tables import encode, to_model, wanted_columns

MOST_BLOCK = 256 << 20  # bytes of a row group in model units


@runtime_checkable
class TableBlocks(Protocol):
    """A table that is read block by block."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read."""
        ...

    @property
    def called(self) -> str:
        """The name of the file or folder."""
        ...

    @property
    def where(self) -> str:
        """Its path."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """Names and types of all columns."""
        ...

    @property
    def names(self) -> list[str]:
        """The columns that are modelled."""
        ...

    @property
    def bounds(self) -> np.ndarray:
        """Where blocks start, and the number of rows: `[B + 1]`."""
        ...

    def read(self, block: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Return one block of the columns, of all that are modelled by default."""
        ...


class OneFile:
    """What tables that lie in one file say of where they lie."""

    file: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.file,)

    @property
    def called(self) -> str:
        """Its name."""
        return self.file.name

    @property
    def where(self) -> str:
        """Its path."""
        return str(self.file)


class TableRows(Source):
    """Rows of a table in model units, or the mask of their cells; both read the same blocks.

    Args:
        blocks: the table.
        columns: fitted.
        part: 0 for values, 1 for the mask.
    """

    def __init__(self, table: TableBlocks, columns: tuple[Column, ...], name: str, part: int = 0) -> None:
        self.table, self.columns, self.part = table, columns, part
        self.name, self.files, self.bounds = name, table.files, table.bounds
        self.width = sum(not column.constant for column in columns)
        self.shape = (int(self.bounds[-1]), self.width)
        self.dtype = torch.bool if part else torch.float32
        self.blocks = Blocks(self.bounds, room(self.bounds, 4 * self.width), self._block)

    def mask(self) -> "TableRows":
        """Return where the cells of the same rows are observed."""
        other = TableRows(self.table, self.columns, self.name, 1)
        other.blocks = self.blocks
        return other

    def read(self, places: np.ndarray) -> np.ndarray:
        """Return the rows at `places`."""
        rows = self.blocks.gather(places)
        return rows[:, self.width :] > 0 if self.part else np.ascontiguousarray(rows[:, : self.width])

    def _block(self, block: int) -> np.ndarray:
        """Return values and mask of a row group, `[n, 2 M]` float32."""
        cells, _ = encode(self.table.read(block), self.columns, name=self.name)
        values, observed = to_model(cells, self.columns)
        return np.concatenate([values, observed.astype(np.float32)], 1)


def check_table(table: TableBlocks, columns: tuple[Column, ...], name: str) -> tuple[tuple[str, ...], int]:
    """Read all rows once as a trained model's columns; return notes and the number of missing cells.

    Raises:
        DataError: if a cell does not fit.
    """
    lost, notes = 0, {}
    modelled = np.array([not column.constant for column in columns])
    for block in range(len(table.bounds) - 1):
        cells, told = encode(table.read(block), columns, name=name)
        lost += int((~cells.observed[:, modelled]).sum())
        notes |= dict.fromkeys(told)
    return tuple(notes), lost


def fit_table(
    table: TableBlocks, wanted: Sequence[str], train: Spans, name: str
) -> tuple[tuple[Column, ...], tuple[str, ...], int]:
    """Return the columns fitted to the training rows, notes for people, and the number of missing cells.

    Offsets and scales are those of the same rows in memory but for rounding; all rows are read once.

    Raises:
        DataError: if a column cannot be used, or a row group is too large.
    """
    check_names(table.names, name)
    pairs = wanted_columns(table.names, wanted, name)
    names = [column for column, _ in pairs]
    seen = [started(column, table.schema.field(column).type, forced, names, name) for column, forced in pairs]
    bounds = table.bounds
    if int(np.diff(bounds).max()) * len(names) * 8 > MOST_BLOCK:
        raise DataError(
            f"{table.called} has row groups of up to {int(np.diff(bounds).max()):,} rows of {len(names):,} columns",
            where=table.where,
            expected=f"at most {MOST_BLOCK >> 20} MiB each, at 8 bytes a cell: they are read whole",
            fix="write it again: pyarrow.parquet.write_table(..., row_group_size=10_000)",
        )
    for block, (start, stop) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        cells, chosen = table.read(block, names), inside(train, start, stop)
        for one in seen:
            one.add(cells.column(one.name), chosen, names, name)
    columns, notes = settled_columns(seen, name)
    lost = sum(one.lost for one in seen)
    if lost:
        which = ", ".join(column.name for column in columns if column.missing)
        notes = (
            *notes,
            f"{lost:,} of {int(bounds[-1]) * len(names):,} cells are missing (in {which}), kept as missing",
        )
    return columns, notes, lost
