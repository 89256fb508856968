"""Images in a .npy file that stay there: mapped, and read by place."""

from pathlib import Path

import numpy as np
import torch

from ..core.errors import DataError
from ..core.spec import Kind, Layout
from .arrays import layout_of
from .numpy_files import map_npy
from .stored import BLOCK_BYTES, Source, even_bounds


class NpyRows(Source):
    """The rows of a .npy file, mapped: what is not being read takes no memory of the process.

    Args:
        path: the file.
        kind: images get an axis of channels, first.
        layout: axes of one image.
        dtype: uint8 or float32, what values become.
    """

    def __init__(self, path: Path, kind: Kind, layout: Layout, dtype: torch.dtype) -> None:
        self._array = map_npy(path)
        self._kind, self._layout = kind, layout
        self.dtype, self.files = dtype, (path,)
        self._size = path.stat().st_size
        count, row = self._array.shape[0], self._array.shape[1:]
        if kind == "image" and layout == "hwc" and len(row) == 3:
            row = (row[2], row[0], row[1])
        self.shape = (count, 1, *row) if kind == "image" and len(row) == 2 else (count, *row)
        self.bounds = even_bounds(count, max(1, BLOCK_BYTES // self.row_bytes))

    def read(self, places: np.ndarray) -> np.ndarray:
        """Return the rows at `places`."""
        path = self.files[0]
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}", where=str(path)) from error
        if size < self._size:  # reading beyond the end of a mapped file ends the process
            raise DataError(
                f"{path.name} has {size:,} bytes", where=str(path), expected=f"{self._size:,}, as when it was opened"
            )
        first = int(places[0])
        run = len(places) > 1 and int(places[-1]) - first + 1 == len(places) and bool((np.diff(places) == 1).all())
        rows = self._array[first : first + len(places)] if run else self._array[places]
        if self._kind == "image" and self._layout == "hwc" and rows.ndim == 4:
            rows = rows.transpose(0, 3, 1, 2)
        with np.errstate(over="ignore"):
            made = np.array(rows, np.uint8 if self.dtype == torch.uint8 else np.float32, order="C")
        return made.reshape(len(places), *self.shape[1:])


def npy_rows(path: Path) -> tuple[NpyRows, Kind, Layout]:
    """Return the images `[N, ...]` of a .npy file, unread, with the kind of data and the axes of one image.

    Raises:
        DataError: if the file is no .npy file of examples.
    """
    array = map_npy(path)
    if array.ndim < 2 or array.shape[0] < 2 or 0 in array.shape:
        raise DataError(f"{path.name} has shape {array.shape}", expected="at least 2 examples of at least 1 value")
    kind: Kind = "image" if array.ndim >= 3 else "table"
    layout = layout_of(array.shape[1:]) if kind == "image" else "chw"
    dtype = torch.uint8 if array.dtype == np.uint8 and kind == "image" else torch.float32
    return NpyRows(path, kind, layout, dtype), kind, layout
