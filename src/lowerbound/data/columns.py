"""Columns of a table as a model sees them: typed, standardised on the training rows, with missing cells masked."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..core.distribution import Support
from ..core.errors import DataError
from ..core.spec import Column, DataSpec, Form
from .checks import check_range

if TYPE_CHECKING:
    from .splits import Plan
    from .tables import Cells

Missing: TypeAlias = Literal["error", "keep"]


@dataclass(frozen=True)
class Fitted:
    """Rows in model units, and the columns that brought them there.

    Args:
        x: model values of the columns a model sees, `[N, M]` float32.
        mask: True where observed, `[N, M]`; None if nothing is missing anywhere.
        columns: all columns, fitted.
        notes: what was found, for people.
        counts: True if all cells are whole numbers of 0 or more, in rows held out as well, kept as they are.
    """

    x: Tensor
    mask: Tensor | None
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()
    counts: bool = False


def fit_cells(cells: "Cells", columns: tuple[Column, ...], plan: "Plan", *, standardize: bool = True) -> Fitted:
    """Fit columns on the training rows and return all rows in model units."""
    from .tables import fit_columns, to_model

    counts = not standardize and _are_counts(cells, columns)
    if counts:  # a column whose counts are all 0 and 1 is one of counts, too
        columns = tuple(replace(c, kind="integer", step=1.0) for c in columns)
    fitted, notes = fit_columns(columns, cells, plan.train.numpy())
    if not standardize:
        fitted = tuple(replace(c, offset=0.0, scale=1.0, constant=False) for c in fitted)
        notes = tuple(_wide(cells, fitted, plan.train.numpy()))  # not those that tell of constants being kept out
    notes = (*notes, *_unlearned(cells, fitted, plan.train.numpy()))
    # of all rows: a cell missing in a row held out must not meet a model that knows no mask
    anywhere = (cells.observed.sum(axis=0) < len(cells.observed)).tolist()
    fitted = tuple(replace(c, missing=m) for c, m in zip(fitted, anywhere, strict=True))
    lost = int((~cells.observed).sum())
    if lost:
        named = ", ".join(c.name for c in fitted if c.missing)
        notes = (*notes, f"{lost:,} of {cells.observed.size:,} cells are missing (in {named}) and kept as missing")
    x, observed = to_model(cells, fitted)
    check_range(torch.from_numpy(x), "table", "real", "the table")
    return Fitted(torch.from_numpy(x), torch.from_numpy(observed) if lost else None, fitted, notes, counts)


def _are_counts(cells: "Cells", columns: tuple[Column, ...]) -> bool:
    """Tell whether all columns are of an integer type, none is below 0 in any row, and not all are 0 and 1."""
    whole = all(c.kind in ("integer", "boolean") and c.dtype.startswith(("int", "uint")) for c in columns)
    return whole and any(c.kind == "integer" for c in columns) and not (cells.values[cells.observed] < 0).any()


def refuse_negative(values: np.ndarray, like: DataSpec, name: str) -> None:
    """Raise DataError if rows `[N, D]` for a model of counts are below 0 anywhere; missing cells are 0."""
    if like.support != "count" or not (values < 0).any():
        return
    row, column = np.argwhere(values < 0)[0]
    raise DataError(
        f"{name} has {int((values < 0).sum())} negative values, the model was built for counts",
        where=f"first in row {row + 1}, column {like.modelled[column].name!r}",
        expected="whole numbers of 0 or more",
    )


def _wide(cells: "Cells", columns: tuple[Column, ...], train: np.ndarray) -> list[str]:
    """Return the real columns whose spread is far from 1, which training takes badly."""
    lines = []
    for place, column in enumerate(columns):
        known = cells.values[train, place][cells.observed[train, place]]
        spread = float(known.std()) if column.real and known.size else 1.0
        if spread and not 0.01 <= spread <= 100:
            lines.append(
                f"warning: column {column.name!r} has a spread of {spread:.3g}: training wants about 1, standardise it"
            )
    return lines


def _unlearned(cells: "Cells", columns: tuple[Column, ...], train: np.ndarray) -> tuple[str, ...]:
    """Return what rows held out have and no training row: missing cells, categories, other values of a constant."""
    lines = []
    for place, column in enumerate(columns):
        values, observed = cells.values[:, place], cells.observed[:, place]
        known = values[train][observed[train]]
        if observed[train].all() and not observed.all():
            lines.append(
                f"column {column.name!r} has missing cells in rows held out alone: a model learns nothing of them"
            )
        if column.size > 1 and not column.constant:
            unknown = sorted(set(values[observed].astype(int)) - set(known.astype(int)))
            names = ", ".join(column.categories[i] for i in unknown[:5])
            if unknown:
                lines.append(f"column {column.name!r} has categories in rows held out alone: {names}")
        if column.constant and len(np.unique(values[observed])) > 1:
            lines.append(f"column {column.name!r} has other values in rows held out: they are not looked at")
    return tuple(lines)


def columns_of_array(values: np.ndarray, plan: "Plan", name: str, *, standardize: bool, missing: Missing) -> Fitted:
    """Return a numeric array `[N, D]` in model units, its columns called x0, x1, ...

    Raises:
        DataError: if values are infinite, or NaN under `missing="error"`; the message says where.
    """
    from .tables import Cells

    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "biuf":
        raise DataError(f"{name} has shape {values.shape} and type {values.dtype}", expected="numbers [N, D]")
    numbers = values.astype(np.float64)
    refuse_bad_cells(numbers, name, missing)
    columns = tuple(_column(f"x{i}", values[:, i]) for i in range(values.shape[1]))
    return fit_cells(Cells(np.nan_to_num(numbers), ~np.isnan(numbers)), columns, plan, standardize=standardize)


def _column(name: str, values: np.ndarray) -> Column:
    """Return the column of an array; whole numbers that are all 0 and 1 are booleans."""
    from .tables import column_of_array

    column = column_of_array(name, values)
    if column.kind == "integer" and values.min() == 0 and values.max() == 1:
        return replace(column, kind="boolean", step=0.0)
    return column


def refuse_bad_cells(values: np.ndarray, name: str, missing: Missing) -> None:
    """Raise DataError if cells are infinite, or NaN unless kept as missing; it says how many and which is first."""
    for bad, what, allowed in (
        (np.isinf(values), "infinite values", False),
        (np.isnan(values), "NaN values", missing == "keep"),
    ):
        if bad.any() and not allowed:
            row, column = np.argwhere(bad)[0]
            raise DataError(
                f"{name} has {int(bad.sum())} {what}",
                where=f"first in row {row + 1}, column {column + 1}",
                fix="remove or fill them" + ("" if "inf" in what else ", or keep them as missing (--missing keep)"),
            )


def support_of(columns: tuple[Column, ...]) -> Support:
    """Return where the values of these columns lie: all 0/1, all real, or mixed."""
    sizes = {min(c.size, 2) for c in columns if not c.constant}
    return "binary" if sizes == {1} else "real" if sizes == {0} else "mixed"


def table_spec(name: str, fitted: Fitted, classes: tuple[str, ...], seed: int, form: Form = "arrays") -> DataSpec:
    """Return the spec of a table; its size is set when it is split."""
    columns = fitted.columns
    seen = tuple(c for c in columns if not c.constant)
    support = "count" if fitted.counts else support_of(columns)
    return DataSpec(name, (len(seen),), "table", support, 0, classes, "none", seed, columns=columns, form=form)
