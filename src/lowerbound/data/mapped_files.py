"""Which rows of a path stay on disk: images, arrays, IDX files and saved sets."""

from pathlib import Path

import torch

from ..core.errors import UsageError
from .arrays import labels_of
from .idx import IdxFiles, idx_files
from .images import decoded_bytes, has_images, is_image
from .mapped import Mapped, Memory, is_mapped
from .mapped_arrays import MappedArrays, idx_arrays, numpy_arrays
from .sources import ARRAYS, TABLES, Reading, places_in, stem_of
from .splits import weights_of
from .stored_images import picture_rows
from .stored_sets import SavedSet, is_saved_set, read_set


def find_mapped(path: Path, reading: Reading, memory: Memory) -> Mapped | MappedArrays | None:
    """Return what stays on disk of what lies at `path`; None if it is to be read.

    Raises:
        UsageError: if it is to be mapped and cannot be.
        DataError: if it cannot be read.
    """
    if memory == "hold":
        return None
    if is_saved_set(path):
        found = read_set(path, reading.label)
        if isinstance(found, SavedSet) and is_mapped(memory, found.rows.shape[0] * found.rows.row_bytes):
            return _mapped_set(path, found)
    elif _holds_images(path):
        if is_mapped(memory, decoded_bytes(path, reading.size)):
            return _mapped_images(path, reading)
    else:
        arrays = _arrays(path, memory)
        if arrays is not None:
            return arrays
    if memory == "map":
        raise UsageError(
            f"{path.name} cannot stay on disk",
            expected="images, a CSV, Parquet, NumPy or IDX file, or a saved data set",
            fix="drop --memory map",
        )
    return None


def _holds_images(path: Path) -> bool:
    """Tell whether `find` would read image files here."""
    if not path.is_dir():
        return is_image(path)
    return has_images(path) and not _holds_idx(path)


def _holds_idx(path: Path) -> bool:
    names = [p.name.lower() for p in path.iterdir() if p.is_file() and not p.name.startswith(".")]
    return any("idx" in name and not is_image(Path(name)) for name in names)


def _arrays(path: Path, memory: Memory) -> MappedArrays | None:
    """Return the arrays at a path if they stay on disk."""
    low = path.name.lower()
    if path.is_dir():
        files = idx_files(path) if _holds_idx(path) else None
    else:
        files = None if low.endswith(TABLES) else IdxFiles(path, alone=True)
    if files is None:
        return None
    every = [file for file in (files.images, files.test_images) if file is not None]
    if not is_mapped(memory, 4 * sum(file.stat().st_size for file in every)):  # at most 4 bytes for one on disk
        return None
    try:
        made = numpy_arrays(path) if low.endswith(ARRAYS) else idx_arrays(files)
    except UsageError:
        if memory == "map":
            raise
        return None  # compressed: it is read
    return made if is_mapped(memory, made.bytes) else None


def mapped_arrays(found: MappedArrays, name: str) -> Mapped:
    """Return mapped arrays as rows by place, with labels and weights."""
    source, count = found.rows(), len(found.x)
    y, classes = labels_of(found.y, count, name)
    test_y = None if found.test is None else found.test[1]
    if y is not None and found.held:
        y = None if test_y is None else torch.cat([y, places_in(classes, [str(label) for label in test_y], name)])
    weight, whole = weights_of(found.weight, count, name), found.x.dtype.kind in "biu"
    return Mapped(
        name, source, "arrays", found.kind, found.layout, y, classes if y is not None else (), found.held,
        notes=found.notes, weight=weight, whole=whole,
    )  # fmt: skip


def _mapped_images(path: Path, reading: Reading) -> Mapped:
    source, labels, held, files = picture_rows(path, reading)
    name, count = stem_of(path), source.shape[0] - held
    y, classes = labels_of(None if labels is None else labels[:count], count, name)
    if y is not None and labels is not None and held:
        y = torch.cat([y, places_in(classes, labels[count:], name)])
    return Mapped(name, source, "images", "image", "chw", y, classes, held, files)


def _mapped_set(path: Path, found: SavedSet) -> Mapped:
    name, count = stem_of(path), found.rows.shape[0] - found.held
    labels = found.labels
    y, classes = labels_of(None if labels is None else labels[:count], count, name)
    if y is not None and labels is not None and found.held:
        y = torch.cat([y, places_in(classes, [str(label) for label in labels[count:]], name)])
    return Mapped(name, found.rows, "arrays", found.kind, found.layout, y, classes, found.held)
