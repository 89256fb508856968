"""New rows for a trained model: brought into its shape, units and columns."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError
from ..core.spec import DataSpec
from .arrays import given_rows, seen_scale_of
from .columns import refuse_bad_cells, refuse_negative
from .dataset import Dataset
from .sources import Found, Table, places_in
from .splits import weights_of


def table_rows(found: Table, like: DataSpec) -> tuple[Dataset, tuple[str, ...]]:
    """Return all rows of a table in the model's units, and what was found: columns are looked up by name.

    Raises:
        DataError: if a column is missing or of another type, a category is unknown, or cells are missing that the
            model has no way to take.
    """
    from .tables import encode, to_model

    if not like.columns:
        raise DataError(
            f"{found.name} is a table, the model was built for {like.name}: {like.kind} of shape {like.shape}",
            expected="data of the kind it was trained on",
        )
    cells, notes = encode(found.table, like.columns, name=found.name)
    _check_missing(cells.observed, like, found.name)
    weight = weights_of(found.weight, found.count, found.name)
    x, observed = to_model(cells, like.columns)
    refuse_negative(x, like, found.name)
    labels = found.numbers_of(like.classes) if like.classes else None
    mask = None if observed.all() else torch.from_numpy(observed)
    spec = replace(like, name=found.name, size=found.count, form=found.form)
    weight = None if weight is None else weight.float()
    return Dataset(torch.from_numpy(x), labels, spec, "all", mask=mask, weight=weight), (*found.notes, *notes)


def array_rows(found: Found, shown: Found | None, like: DataSpec) -> tuple[Dataset, tuple[str, ...]]:
    """Return all rows of images or arrays in the model's units, and what was found.

    Raises:
        DataError: if values or labels do not fit.
        ShapeError: if the examples have another shape.
    """
    if like.columns:
        return _columns(found, like)
    rows = given_rows(found.x, like, _called(found), scale=_scale(found, like))
    spec = replace(rows.spec, name=found.name, form=found.form)
    rows = replace(rows, spec=spec, split="all", files=found.files)
    notes = found.notes
    if found.y is not None and like.classes:
        names = [str(label) for label in found.y.tolist()]
        if set(names) & set(like.classes):
            rows = replace(rows, y=places_in(like.classes, names, found.name), spec=_with(rows.spec, like))
        else:
            notes = (*notes, f"the labels of {found.name} are none of the model's classes: left out")
    if shown is not None:
        seen = given_rows(found.paired(shown), like, _called(shown), scale=_scale(shown))
        if seen.scale != 1 and shown.form != "images":
            seen = replace(seen, scale=seen_scale_of(seen.x[:], seen.scale))
        if seen.spec.shape != rows.spec.shape:
            raise DataError(f"what is seen has shape {seen.spec.shape}", expected=f"{rows.spec.shape}")
        rows = replace(rows, seen=seen.x, seen_scale=seen.scale)
    return rows, notes


def _called(found: Found) -> str:
    return f"{'images' if found.form == 'images' else 'array'} of {found.name}"


def _scale(found: Found, like: DataSpec | None = None) -> int | None:
    """Return 255 for image files, whatever the model's own data counted to, 1 if those were files of 0 and 1 alone.

    None leaves it to the data.
    """
    if found.form != "images":
        return None
    return 1 if like is not None and like.form == "images" and like.support == "binary" else 255


def _with(spec: DataSpec, like: DataSpec) -> DataSpec:
    return replace(spec, classes=like.classes)


def _columns(found: Found, like: DataSpec) -> tuple[Dataset, tuple[str, ...]]:
    from .tables import Cells, check_fit, to_model

    if like.form != "arrays":
        raise DataError(
            f"{found.name} holds {'images' if found.kind == 'image' else 'an array'}, the model reads columns by name",
            expected="a CSV or Parquet file with " + ", ".join(c.name for c in like.columns[:20]),
        )
    if found.x.ndim != 2 or found.x.shape[1] != len(like.columns):
        raise DataError(f"{found.name} has shape {found.x.shape}", expected=f"[N, {len(like.columns)}], as {like.name}")
    values = found.x.astype(np.float64)
    refuse_bad_cells(values, found.name, "keep" if like.masked else "error")
    cells = Cells(np.nan_to_num(values), ~np.isnan(values))
    for place, column in enumerate(like.columns):
        if not column.constant:
            check_fit(cells.values[:, place], cells.observed[:, place], column, found.name)
    x, observed = to_model(cells, like.columns)
    refuse_negative(x, like, found.name)
    mask = None if observed.all() else torch.from_numpy(observed)
    labels = _array_labels(found, like)
    spec = replace(like, name=found.name, size=len(x))
    return Dataset(torch.from_numpy(x), labels, spec, "all", mask=mask), found.notes


def _array_labels(found: Found, like: DataSpec) -> Tensor | None:
    if found.y is None or not like.classes:
        return None
    return places_in(like.classes, [str(label) for label in found.y.tolist()], found.name)


def _check_missing(observed: np.ndarray, like: DataSpec, name: str) -> None:
    """Refuse missing cells if no training cell was missing: the encoder would take them for the column's mean."""
    lost = ~observed & np.array([not c.constant for c in like.columns])
    if like.masked or not lost.any():
        return
    row, column = np.argwhere(lost)[0]
    raise DataError(
        f"{name} has {int(lost.sum())} missing cells, but the model was trained without any",
        where=f"first in row {row + 1}, column {like.columns[column].name!r}",
        fix="fill them, or train on data with missing cells",
    )
