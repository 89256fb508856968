"""Data sets that Hugging Face `datasets` saved: Arrow files, mapped, whose rows are read by place."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.errors import DataError, UsageError
from ..core.spec import Kind, Layout
from .arrays import layout_of
from .stored import BLOCK_BYTES, Source, even_bounds

SPLITS = ("train", "validation", "valid", "test")


def is_saved_set(path: Path) -> bool:
    """Tell whether a folder was written by `save_to_disk` of `datasets`."""
    return path.is_dir() and any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))


def library() -> Any:
    """Return the module `datasets`.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise UsageError("Hugging Face data sets need `datasets`", fix='pip install "lowerbound[hf]"') from error
    return datasets


@dataclass(frozen=True)
class SavedSet:
    """A saved data set with one column of images or arrays.

    Args:
        rows: of all splits, those for the test last.
        kind: of the data.
        layout: axes of one image.
        labels: of each row, or None.
        held: how many of the last rows are the test split.
    """

    rows: "SetRows"
    kind: Kind
    layout: Layout
    labels: np.ndarray | None
    held: int


class SetRows(Source):
    """The rows of one column of saved splits, one after another.

    Args:
        parts: `datasets.Dataset`s of the same columns.
        column: with images or arrays of numbers.
        path: the folder.
    """

    def __init__(self, parts: Sequence[Any], column: str, path: Path) -> None:
        self.parts = [part.select_columns([column]).with_format("numpy") for part in parts]
        self.column, self.path = column, path
        self.before = np.cumsum([0, *(len(part) for part in parts)])
        self.row = self._rows(0, [0]).shape[1:]
        kind = _kind_of(parts[0].features[column])
        self.layout: Layout = layout_of(self.row) if kind == "image" else "chw"
        shape = (self.row[2], *self.row[:2]) if len(self.row) == 3 and self.layout == "hwc" else self.row
        self.shape = (int(self.before[-1]), *((1, *shape) if kind == "image" and len(shape) == 2 else shape))
        whole = getattr(parts[0].features[column], "dtype", "uint8") == "uint8" or not hasattr(
            parts[0].features[column], "shape"
        )
        self.dtype = torch.uint8 if whole and kind == "image" else torch.float32
        self.bounds = even_bounds(self.shape[0], max(1, BLOCK_BYTES // self.row_bytes))
        self.files = tuple(Path(file["filename"]) for part in parts for file in part.cache_files)

    def read(self, places: np.ndarray) -> np.ndarray:
        """Return the rows at `places`."""
        made = np.empty((len(places), *self.shape[1:]), np.uint8 if self.dtype == torch.uint8 else np.float32)
        of = np.searchsorted(self.before, places, "right") - 1
        for part in np.unique(of).tolist():
            here = np.flatnonzero(of == part)
            rows = self._rows(part, (places[here] - self.before[part]).tolist())
            if rows.shape[1:] != self.row:
                raise self._ragged(f"rows of shape {rows.shape[1:]}")
            rows = rows.transpose(0, 3, 1, 2) if self.layout == "hwc" and rows.ndim == 4 else rows
            made[here] = rows.reshape(len(here), *self.shape[1:])
        return made

    def _rows(self, part: int, numbers: list[int]) -> np.ndarray:
        try:
            rows = self.parts[part][numbers][self.column]
        except Exception as error:  # Arrow's and Pillow's errors are many
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise DataError(
                f"rows of column {self.column!r} cannot be read: {reason}", where=str(self.path), fix="save it again"
            ) from error
        if not isinstance(rows, np.ndarray) or rows.dtype == object:
            raise self._ragged("rows of several shapes")
        return rows

    def _ragged(self, what: str) -> DataError:
        return DataError(
            f"column {self.column!r} of {self.path.name} has {what}",
            where=str(self.path),
            expected=f"{self.row}, as in the first row" if hasattr(self, "row") else "one shape",
        )


def read_set(path: Path, label: str | None, *, whole: bool = False) -> SavedSet | Any:
    """Return a saved data set, unread; a `pyarrow.Table` of its rows if all its columns hold single values.

    Args:
        path: the folder.
        label: column of the labels; None: the only one of class labels.
        whole: True if a test split is joined to the other rows.

    Raises:
        DataError: if it cannot be read, or which column is to be modelled is not clear.
        UsageError: if `datasets` is not installed.
    """
    parts, held = _parts(path)
    features = parts[0].features
    if label is not None and label not in features and not whole:
        raise DataError(f"{path.name} has no column {label!r}", where=str(path), expected=", ".join(features))
    arrays = [name for name, feature in features.items() if _kind_of(feature) is not None and name != label]
    if not arrays:
        return _table(parts)
    if len(arrays) > 1:
        raise DataError(
            f"{path.name} has {len(arrays)} columns of images or arrays: {', '.join(arrays)}",
            where=str(path),
            expected="one",
            fix="save it with one of them: dataset.select_columns([...]).save_to_disk(path)",
        )
    rows = SetRows(parts, arrays[0], path)
    return SavedSet(
        rows, _kind_of(features[arrays[0]]) or "image", rows.layout, _labels(parts, label), 0 if whole else held
    )


def _parts(path: Path) -> tuple[list[Any], int]:
    """Return the splits, the test split last, and its number of rows."""
    sets = library()
    try:
        saved = sets.load_from_disk(str(path))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{path.name} cannot be read as a saved data set: {reason}", where=str(path)) from error
    if isinstance(saved, sets.Dataset):
        parts, held = [saved], 0
    else:
        unknown = [name for name in saved if name not in SPLITS]
        if unknown or "train" not in saved:
            raise DataError(
                f"{path.name} has the splits {', '.join(saved)}", where=str(path), expected="train, validation and test"
            )
        parts = [saved[name] for name in SPLITS if name in saved]
        held = len(saved["test"]) if "test" in saved else 0
    if not len(parts[0]):
        raise DataError(f"0 examples in {path}", expected="at least 2")
    return parts, held


def _kind_of(feature: Any) -> Kind | None:
    """Return the kind of data in a column; None for single values, labels and texts."""
    shape = getattr(feature, "shape", None)
    if shape is not None:
        return "image" if len(shape) in (2, 3) else None
    return "image" if type(feature).__name__ == "Image" else None


def class_column(features: Any) -> str | None:
    """Return the one column of class labels; None if there is none, or several."""
    named = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    return named[0] if len(named) == 1 else None


def _labels(parts: Sequence[Any], label: str | None) -> np.ndarray | None:
    """Return the labels of all rows, class labels by name."""
    features = parts[0].features
    column = label if label is not None else class_column(features)
    if column is None or column not in features:
        return None
    numbers = np.concatenate([np.asarray(part.with_format("numpy")[column][:]) for part in parts])
    names = getattr(features[column], "names", None)
    if names is not None and (numbers < 0).any():
        raise DataError(
            f"column {column!r} has {int((numbers < 0).sum()):,} rows without a label",
            expected="a class for each row",
            fix="leave them out: dataset.filter(...).save_to_disk(path)",
        )
    return numbers if names is None else np.asarray(names)[numbers]


def _table(parts: Sequence[Any]) -> Any:
    """Return the rows of all parts as one table; numbers of classes become their names, those below 0 are missing."""
    import pyarrow as pa

    table = pa.concat_tables([part.flatten_indices().data.table for part in parts])
    for i, (column, feature) in enumerate(parts[0].features.items()):
        names = getattr(feature, "names", None)
        if names is not None:
            numbers = table.column(column).to_pylist()
            known = [None if number is None or number < 0 else names[number] for number in numbers]
            table = table.set_column(i, column, pa.array(known, pa.string()))
    return table
