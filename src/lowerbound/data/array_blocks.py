"""A mapped array of numbers as a table that is read block by block."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from .stored import BLOCK_BYTES, even_bounds
from .stored_arrays import check_size, size_of
from .stored_tables import OneFile


@dataclass(frozen=True)
class ArrayBlocks(OneFile):
    """The rows of a mapped array of numbers `[N, D]` as blocks of a table with the columns x0, x1, ...

    Args:
        array: the numbers.
        file: it lies in.
    """

    array: np.ndarray
    file: Path

    @property
    def names(self) -> list[str]:
        """All columns."""
        return self.schema.names

    @property
    def schema(self) -> pa.Schema:
        """Name and type of all columns."""
        type_ = pa.from_numpy_dtype(self.array.dtype.newbyteorder("="))
        return pa.schema([(f"x{i}", type_) for i in range(self.array.shape[1])])

    @property
    def bounds(self) -> np.ndarray:
        """Where blocks start, and the number of rows: `[B + 1]`."""
        return even_bounds(len(self.array), max(1, BLOCK_BYTES // (8 * self.array.shape[1])))

    @cached_property
    def _size(self) -> int:
        return size_of(self.file)

    def read(self, block: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Return one block; NaN is a missing cell."""
        check_size(self.file, self._size)
        bounds = self.bounds
        rows = self.array[bounds[block] : bounds[block + 1]]
        rows = np.asfortranarray(rows.astype(rows.dtype.newbyteorder("=")))
        names = list(columns or self.names)
        return pa.table({name: pa.array(rows[:, int(name[1:])], from_pandas=True) for name in names})
