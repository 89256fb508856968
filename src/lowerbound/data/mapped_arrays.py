"""NumPy and IDX files whose examples stay on disk: which arrays they are, their labels, weights and test split."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..core.errors import DataError
from ..core.spec import Kind, Layout
from .arrays import layout_of
from .idx import IdxFiles, map_idx, read_idx
from .numpy_files import map_arrays
from .stored_arrays import ArrayRows


@dataclass(frozen=True)
class MappedArrays:
    """Mapped examples, and what belongs to each of them in memory.

    Args:
        x: `[N, ...]`.
        file: it lies in.
        y: labels `[N]`, or None.
        weight: `[N]`, or None.
        test: examples and labels (or None) of a test split, or None.
        test_file: it lies in.
        notes: for people.
        given_kind: what they are; None: by the number of axes.
        given_layout: axes of one image; None: by the place of an axis of 1 or 3.
    """

    x: np.ndarray
    file: Path
    y: np.ndarray | None = None
    weight: np.ndarray | None = None
    test: tuple[np.ndarray, np.ndarray | None] | None = None
    test_file: Path | None = None
    notes: tuple[str, ...] = ()
    given_kind: Kind | None = None
    given_layout: Layout | None = None

    @property
    def kind(self) -> Kind:
        """Images have 3 axes or more."""
        return self.given_kind or ("image" if self.x.ndim >= 3 else "table")

    @property
    def layout(self) -> Layout:
        """The axes of one image."""
        return self.given_layout or layout_of(self.x.shape[1:]) if self.kind == "image" else "chw"

    @property
    def bytes(self) -> int:
        """Of all examples in memory."""
        count = len(self.x) + (0 if self.test is None else len(self.test[0]))
        return count * int(np.prod(self.x.shape[1:])) * (1 if self._whole else 4)

    @property
    def held(self) -> int:
        """How many examples are a test split."""
        return 0 if self.test is None else len(self.test[0])

    @property
    def _whole(self) -> bool:
        return self.x.dtype == np.uint8 and self.kind == "image"

    def rows(self) -> ArrayRows:
        """Return the examples by place, those of the test split last.

        Raises:
            DataError: if there are too few, or the test split has others.
        """
        x, name = self.x, self.file.name
        if x.ndim < 2 or x.shape[0] < 2 or 0 in x.shape:
            raise DataError(f"{name} has shape {x.shape}", expected="at least 2 examples of at least 1 value")
        arrays, files = [x], [self.file]
        if self.test is not None and self.test_file is not None:
            test = self.test[0]
            if test.shape[1:] != x.shape[1:] or test.dtype != x.dtype:
                raise DataError(
                    f"the test examples of {name} have shape {test.shape[1:]} and type {test.dtype}",
                    expected=f"{x.shape[1:]} and {x.dtype}, as in training",
                )
            arrays, files = [x, test], [self.file, self.test_file]
        return ArrayRows(arrays, files, self.kind, self.layout, torch.uint8 if self._whole else torch.float32)


def numpy_arrays(path: Path) -> MappedArrays:
    """Return the mapped examples of a .npy or .npz file.

    Raises:
        DataError: if it cannot be read.
        UsageError: if the examples are compressed.
    """
    found = map_arrays(path)
    test_file = None if found.test is None else path
    return MappedArrays(found.x, path, found.y, found.weight, found.test, test_file, found.notes)


def idx_arrays(files: IdxFiles) -> MappedArrays:
    """Return the mapped examples of IDX files, with their labels in memory.

    Raises:
        DataError: if they cannot be read.
        UsageError: if they are gzipped.
    """
    x, y = map_idx(files.images), None if files.labels is None else read_idx(files.labels)
    if files.test_images is None:
        return MappedArrays(x, files.images, y)
    test = map_idx(files.test_images), None if files.test_labels is None else read_idx(files.test_labels)
    return MappedArrays(x, files.images, y, None, test, files.test_images)
