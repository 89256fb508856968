"""Arrays in .npy, .npz and IDX files that stay there: mapped, and read by place."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..core.errors import DataError
from ..core.spec import Kind, Layout
from .stored import BLOCK_BYTES, Source, even_bounds


class ArrayRows(Source):
    """The rows of mapped arrays, one array after another: what is not being read takes no memory of the process.

    Args:
        arrays: `[N, ...]`, those of a test split last.
        files: they lie in.
        kind: images get an axis of channels, first.
        layout: axes of one image.
        dtype: uint8 or float32, what values become.
    """

    def __init__(
        self, arrays: Sequence[np.ndarray], files: Sequence[Path], kind: Kind, layout: Layout, dtype: torch.dtype
    ) -> None:
        self._arrays, self._kind, self._layout = arrays, kind, layout
        self.dtype, self.files = dtype, tuple(dict.fromkeys(files))
        self._sizes = [size_of(file) for file in self.files]
        self._before = np.cumsum([0, *(len(array) for array in arrays)])
        row = arrays[0].shape[1:]
        if kind == "image" and layout == "hwc" and len(row) == 3:
            row = (row[2], row[0], row[1])
        self.shape = (int(self._before[-1]), *((1, *row) if kind == "image" and len(row) == 2 else row))
        self.bounds = even_bounds(self.shape[0], max(1, BLOCK_BYTES // self.row_bytes))

    def read(self, places: np.ndarray) -> np.ndarray:
        """Return the rows at `places`."""
        for file, size in zip(self.files, self._sizes, strict=True):
            check_size(file, size)
        if len(self._arrays) == 1:
            return self._rows(self._arrays[0], places)
        of = np.searchsorted(self._before, places, "right") - 1
        made = np.empty((len(places), *self.shape[1:]), np.uint8 if self.dtype == torch.uint8 else np.float32)
        for part in np.unique(of).tolist():
            here = np.flatnonzero(of == part)
            made[here] = self._rows(self._arrays[part], places[here] - self._before[part])
        return made

    def _rows(self, array: np.ndarray, places: np.ndarray) -> np.ndarray:
        first = int(places[0])
        run = len(places) > 1 and int(places[-1]) - first + 1 == len(places) and bool((np.diff(places) == 1).all())
        rows = array[first : first + len(places)] if run else array[places]
        if self._kind == "image" and self._layout == "hwc" and rows.ndim == 4:
            rows = rows.transpose(0, 3, 1, 2)
        with np.errstate(over="ignore"):
            made = np.array(rows, np.uint8 if self.dtype == torch.uint8 else np.float32, order="C")
        return made.reshape(len(places), *self.shape[1:])


def size_of(file: Path) -> int:
    """Return the bytes of a file.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return file.stat().st_size
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}", where=str(file)) from error


def check_size(file: Path, size: int) -> None:
    """Raise DataError if a mapped file is smaller than it was: reading beyond its end ends the process."""
    now = size_of(file)
    if now < size:
        raise DataError(f"{file.name} has {now:,} bytes", where=str(file), expected=f"{size:,}, as when it was opened")
