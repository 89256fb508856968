"""Tables to arrays and back: the type of each column, its cells as numbers, and numbers as cells of that type."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ..core.errors import DataError
from ..core.spec import Column
from .column_cells import (
    arrow_column,
    arrow_type,
    column_of_array,
    numbers,
    shown_value,
    texts,
    to_table,
    to_units,
)
from .column_kinds import (
    DAY_MS,
    FORCED,
    MAX_CATEGORIES,
    all_missing,
    check_fit,
    check_known,
    columns_of,
    kind_of,
    leave_out,
    named,
    numbers_of,
    odd_texts,
    pc,
    refuse_cells,
    refuse_odd_texts,
    step_of,
    texts_of,
    unfit,
    untakeable,
    wanted_columns,
)
from .table_files import NUMBER, check_names, listed, shown

__all__ = [
    "FORCED",
    "MAX_CATEGORIES",
    "Cells",
    "Known",
    "all_missing",
    "arrow_column",
    "arrow_type",
    "check_fit",
    "column_of_array",
    "columns_of",
    "encode",
    "fit_columns",
    "fitted_to",
    "kind_of",
    "leave_out",
    "named",
    "numbers",
    "numbers_of",
    "refuse_odd_texts",
    "settled",
    "step_of",
    "texts",
    "texts_of",
    "to_model",
    "to_table",
    "to_units",
    "unfit",
    "untakeable",
    "wanted_columns",
]

_TICKS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}  # in nanoseconds


@dataclass(frozen=True)
class Cells:
    """The cells of some columns as numbers.

    Args:
        values: `[N, D]` float64 in the data's units: numbers, 0/1 for booleans, places in the categories, dates counted
            from 1970 in the units of their type; 0 where missing.
        observed: `[N, D]` bool, False where missing.
    """

    values: np.ndarray
    observed: np.ndarray


def encode(table: pa.Table, columns: Sequence[Column], *, name: str) -> tuple[Cells, tuple[str, ...]]:
    """Return the cells `[N, D]` of the given columns, looked up by name, and notes for the user.

    Raises:
        DataError: if a column is missing, holds another type of cells or a category it did not have.
    """
    check_names(table.column_names, name)
    known = [column.name for column in columns]
    given = set(known)
    check_known(known, table.column_names, name, by="the model")
    notes: list[str] = []
    extra = [column for column in table.column_names if column not in given]
    if extra:
        notes.append(f"ignored columns that the model does not know: {listed(extra)}")
    values = np.zeros((table.num_rows, len(columns)))
    observed = np.zeros(values.shape, dtype=bool)
    for i, column in enumerate(columns):
        with named(column.name, name):
            values[:, i], observed[:, i] = _encoded(table.column(column.name), column, name)
        if not column.constant:
            continue
        other = int((observed[:, i] & (values[:, i] != column.offset)).sum())
        values[:, i] = np.where(observed[:, i], column.offset, 0.0)  # a category may be one it never had
        if other:
            notes.append(
                f"column {shown(column.name)} was constant ({shown_value(column.offset, column)}) in training: "
                f"the model does not see the {other:,} other values"
            )
    return Cells(values, observed), tuple(notes)


def _encoded(cells: pa.ChunkedArray, column: Column, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return one column's cells as numbers `[N]`, and which are observed `[N]`."""
    kind = kind_of(cells.type)
    if pa.types.is_null(cells.type):
        return np.zeros(len(cells)), np.zeros(len(cells), dtype=bool)
    if column.kind == "category":
        if kind is None:
            raise _changed(cells, column, where)
        return _encoded_categories(cells, column, where)
    if kind is None or kind == "category" or (kind == "date") != (column.kind == "date"):
        raise _changed(cells, column, where)
    values, observed = numbers_of(cells, column.name, where)
    if kind == "date":
        values = _in_units(values, _ticks(cells.type), column)
    check_fit(values, observed, column, where)
    return values, observed


def _changed(cells: pa.ChunkedArray, column: Column, where: str) -> DataError:
    """Return the error of a column whose cells are of another type than in training."""
    what = f"type {listed([str(cells.type)])}"
    if kind_of(cells.type) == "category":
        texts = texts_of(cells)
        odd = odd_texts(texts, NUMBER)
        row = int(np.argmax(odd if odd.any() else texts.is_valid().to_numpy(zero_copy_only=False)))
        what = f"text, like {shown(texts[row].as_py() or '')} in row {row + 1:,}"
    return DataError(
        f"column {shown(column.name)} holds {what}",
        where=where,
        expected=f"{column.kind} values ({column.dtype}), as in training",
        fix="correct the cells, or leave them empty",
    )


def _ticks(type_: pa.DataType) -> int:
    """Return the nanoseconds of one unit of a date's type."""
    if pa.types.is_timestamp(type_):
        return _TICKS[type_.unit]
    return _TICKS["ms"] if pa.types.is_date64(type_) else DAY_MS * _TICKS["ms"]


def _in_units(values: np.ndarray, ticks: int, column: Column) -> np.ndarray:
    """Return dates `[N]` counted in units of `ticks` nanoseconds in those of the column, rounded down."""
    own = _ticks(arrow_type(column.dtype))
    values = values * (ticks // own) if ticks >= own else np.floor(values / (own // ticks))
    return np.floor(values / column.step) * column.step if column.step > 1 else values


def _encoded_categories(cells: pa.ChunkedArray, column: Column, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the places `[N]` of texts in the column's categories, and which are observed `[N]`."""
    type_ = arrow_type(column.dtype)
    if kind_of(type_) != "category" and cells.type != type_:  # so that 1.0 is the category 1
        cells = cells.cast(type_)
    texts = texts_of(cells)
    places = pc.index_in(texts, value_set=pa.array(column.categories, pa.large_string()))
    observed = np.asarray(texts.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    values = np.asarray(pc.fill_null(places, -1).to_numpy(zero_copy_only=False), dtype=np.float64)
    unseen = observed & (values < 0)
    if column.constant:  # it is kept out of the model, whatever it holds
        return np.where(observed, values, 0.0), observed
    if unseen.any():
        found = texts.filter(pa.array(unseen)).unique().to_pylist()
        few = ", ".join(shown(text) for text in found[:5]) + (f" and {len(found) - 5:,} more" if len(found) > 5 else "")
        refuse_cells(
            unseen,
            f"{few}, which no training row has,",
            column.name,
            where,
            expected=listed(column.categories),
            fix="leave the cell empty, or train again with it",
        )
    return np.where(observed, values, 0.0), observed


def fit_columns(
    columns: Sequence[Column], cells: Cells, train: np.ndarray
) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """Return the D columns with offset, scale, constant and missing from the training rows, and notes for the user.

    Args:
        columns: the columns of the cells.
        cells: all rows, `[N, D]`.
        train: numbers of the training rows, `[n]`.

    Raises:
        DataError: if a column has no cell in the training rows.
    """
    return settled(tuple(_fitted(c, cells.values[train, i], cells.observed[train, i]) for i, c in enumerate(columns)))


def settled(fitted: tuple[Column, ...]) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """Return fitted columns, and what is to be said of those that are constant; if all are, they are modelled."""
    if fitted and all(column.constant for column in fitted):  # a model needs something to model
        kept = (replace(c, constant=False, offset=c.offset if c.real else 0.0) for c in fitted)
        return tuple(kept), ("all rows are identical: zero variance",)
    notes = (
        f"column {shown(c.name)} is constant ({shown_value(c.offset, c)}): kept out of the model, put back when decoded"
        for c in fitted
        if c.constant
    )
    return fitted, tuple(notes)


@dataclass(frozen=True)
class Known:
    """What the training cells of a column have in common.

    Args:
        rows: number of training rows.
        cells: of them with a value.
        low: the smallest value.
        high: the largest one.
        mean: of the values.
        std: their standard deviation, 1 where it is only rounding.
    """

    rows: int
    cells: int
    low: float
    high: float
    mean: float
    std: float


def fitted_to(column: Column, known: Known) -> Column:
    """Return a column fitted to its training cells.

    Raises:
        DataError: if there are none.
    """
    if not known.cells:
        raise DataError(
            f"no training row has a value in column {shown(column.name)}",
            fix="leave the column out, or give more rows",
        )
    missing = known.cells < known.rows
    if not missing and known.low == known.high:
        return replace(column, offset=known.low, scale=1.0, constant=True, missing=False)
    offset, scale = (known.mean, known.std) if column.real else (0.0, 1.0)
    return replace(column, offset=offset, scale=scale, constant=False, missing=missing)


def _fitted(column: Column, values: np.ndarray, observed: np.ndarray) -> Column:
    """Return a column fitted to its training cells `[n]`."""
    kept = values[observed]
    if not kept.size:
        return fitted_to(column, Known(values.size, 0, 0.0, 0.0, 0.0, 1.0))
    low, high = float(kept.min()), float(kept.max())
    mean, std = _mean_and_std(kept) if column.real else (0.0, 1.0)
    return fitted_to(column, Known(values.size, kept.size, low, high, mean, std))


def _mean_and_std(values: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation of values `[n]` up to 1e300, the latter 1 where it is only rounding."""
    power = int(np.frexp(np.abs(values).max())[1])
    small = np.ldexp(values, -power)  # exact, and its squares are finite
    mean, std = (float(np.ldexp(v, power)) for v in (small.mean(), small.std()))
    return mean, std if std > 1e-12 * abs(mean) else 1.0


def to_model(cells: Cells, columns: Sequence[Column]) -> tuple[np.ndarray, np.ndarray]:
    """Return the M columns that are not constant in model units, `[N, M]` float32 with 0 where missing, and observed.

    Raises:
        DataError: if a value is too far from the training rows for float32.
    """
    keep = [i for i, column in enumerate(columns) if not column.constant]
    values = np.zeros((len(cells.values), len(keep)), dtype=np.float32)
    observed = cells.observed[:, keep]
    for j, i in enumerate(keep):
        column, own = columns[i], cells.values[:, i]
        with np.errstate(over="ignore", under="ignore"):
            units = (own - column.offset) / column.scale if column.real else own
            values[:, j] = np.where(observed[:, j], units, 0.0)
        far = ~np.isfinite(values[:, j])
        refuse_cells(far, "values too far from those of training", column.name, "", fix="correct or scale them")
    return values, observed
