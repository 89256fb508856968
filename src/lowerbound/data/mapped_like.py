"""New rows for a trained model that stay where they are: looked at once, then read in the model's units."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from ..core.distribution import Support
from ..core.errors import DataError, ShapeError
from ..core.spec import Binarize, DataSpec
from .columns import refuse_negative
from .dataset import Dataset
from .mapped import Mapped
from .mapped_arrays import MappedArrays
from .mapped_files import find_mapped, mapped_arrays
from .sources import TABLES, Reading, parquet_files, places_in, stem_of
from .splits import Memory, weights_of
from .stored import Stored, all_places
from .survey import survey

if TYPE_CHECKING:
    from .mapped_tables import MappedTable

Rows: TypeAlias = tuple[Dataset, tuple[str, ...]]


def mapped_new_rows(path: Path, like: DataSpec, reading: Reading, memory: Memory) -> Rows | None:
    """Return all rows of a path in a model's units, and what was found, if they stay on disk; None if they are read.

    Raises:
        DataError: if values, labels or columns do not fit the model.
        UsageError: if they are to stay on disk and cannot.
    """
    if memory == "hold" or (like.support == "count" and not like.columns):
        return None
    shards = parquet_files(path)
    if shards or (path.is_file() and path.name.lower().endswith(TABLES)):
        return _table(path, shards, like, reading, memory)
    found = find_mapped(path, reading, memory)
    if not isinstance(found, MappedArrays):
        return None if found is None else streamed_rows(found, like)
    name = stem_of(path)
    if like.columns:
        from .mapped_tables import array_table

        if found.held or found.x.ndim != 2 or found.x.shape[1] != len(like.columns):
            return None  # it is read, and said what does not fit
        return _columns(array_table(found, name), like)
    if found.x.shape[1:] != like.shape and like.kind == "image":
        found = replace(found, given_layout=like.layout)
    return streamed_rows(mapped_arrays(replace(found, given_kind=like.kind), name), like)


def _table(path: Path, shards: tuple[Path, ...], like: DataSpec, reading: Reading, memory: Memory) -> Rows | None:
    from .mapped_tables import find_table

    found = find_table(path, shards, reading, memory) if like.columns else None
    return None if found is None else _columns(found, like)


def _columns(found: "MappedTable", like: DataSpec) -> Rows:
    from .stored_tables import TableRows, check_table

    blocks, read = found.blocks, found.read
    notes, lost = check_table(blocks, like.columns, read.name)
    if lost and not like.masked:
        raise DataError(
            f"{read.name} has {lost:,} missing cells, but the model was trained without any",
            fix="fill them, or train on data with missing cells",
        )
    rows = TableRows(blocks, like.columns, read.name)
    count = rows.shape[0]
    if like.support == "count":
        for piece in Stored(rows, all_places(count)).pieces():
            refuse_negative(rows.read(np.arange(piece.start, piece.stop)), like, read.name)
    weight = weights_of(read.weight, count, read.name)
    every = all_places(count)
    made = Dataset(
        Stored(rows, every),
        read.numbers_of(like.classes) if like.classes else None,
        replace(like, name=read.name, size=count, form=read.form),
        "all",
        mask=Stored(rows.mask(), every) if lost else None,
        weight=None if weight is None else weight.float(),
    )
    return made, (*read.notes, *notes)


def streamed_rows(found: Mapped, like: DataSpec) -> Rows:
    """Return rows that stay where they are in a model's units, and what was found.

    Raises:
        DataError: if values or labels do not fit.
        ShapeError: if the rows have another shape.
    """
    source, name = found.source, found.name
    if tuple(source.shape[1:]) != tuple(like.shape):
        raise ShapeError(
            f"{name} has examples of shape {tuple(source.shape[1:])}",
            expected=f"{tuple(like.shape)}, as in {like.name}, which the model was built for",
        )
    facts = found.facts or survey(source, name)
    scale = _scale(found, like, facts.range[1])
    low, high = facts.range
    support: Support = "unit" if scale != 1 else facts.support(like.kind)
    wanted = (0, scale) if scale != 1 else (0, 1)
    refused = scale != 1 or (like.kind == "image" and like.support != "real" and support == "real")
    if refused and not (low >= wanted[0] and high <= wanted[1]):
        raise DataError(
            f"{name} has values from {low:g} to {high:g}",
            expected=f"{wanted[0]} to {wanted[1]}, as in {like.name}, which the model was built for",
            fix="divide by the value that means white",
        )
    if scale == 1:
        source.dtype = torch.float32
    protocol: Binarize = "auto" if support == "unit" else "none"
    count, notes = source.shape[0], (*found.notes, *source.told())
    spec = replace(like, name=name, support=support, size=count, classes=(), binarize=protocol, form=found.form)
    y = None
    if found.labels is not None and set(found.classes) & set(like.classes):
        y, spec = places_in(like.classes, found.classes, name)[found.labels], replace(spec, classes=like.classes)
    elif found.labels is not None and like.classes:
        notes = (*notes, f"the labels of {name} are none of the model's classes: left out")
    rows = Dataset(Stored(source, all_places(count)), y, spec, "all", scale, files=found.files)
    return rows, notes


def _scale(found: Mapped, like: DataSpec, high: float) -> int:
    """Return the stored value that means 1, as it is found for rows in memory."""
    if like.kind != "image":
        return 1
    if found.form == "images":
        return 1 if like.form == "images" and like.support == "binary" else 255
    if found.whole and like.resolution:
        return round(1 / like.resolution)
    return 255 if found.source.dtype == torch.uint8 and high > 1 else 1
