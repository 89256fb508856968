"""Tables to arrays and back: the type of each column, its cells as numbers, and numbers as cells of that type."""

import difflib
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from typing import Any, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ..core.errors import DataError
from ..core.spec import Column, ColumnKind
from .table_files import NUMBER, check_names, listed, shown

MAX_CATEGORIES = 1000
pc: Any = pyarrow.compute  # its functions are made when it is imported, so no checker knows them
KINDS: tuple[ColumnKind, ...] = get_args(ColumnKind)

_LARGEST = 1e300  # squares of the scaled values and sums of two cells then stay finite
_FEW = 20  # observed cells below which texts are not judged
_DAY_MS = 86_400_000
_TICKS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}  # in nanoseconds
_COMMAS = r"[+-]?\d+,\d+|[+-]?\d{1,3}(,\d{3})+(\.\d+)?"
_DECIMALS = {"32", "64", "128", "256"}
# What may be forced on a column of each kind; that the values fit is checked beside.
FORCED: dict[ColumnKind, tuple[ColumnKind, ...]] = {
    "numeric": ("numeric", "integer", "boolean", "category"),
    "integer": ("numeric", "integer", "boolean", "category"),
    "boolean": ("boolean", "category"),
    "date": ("date", "category"),
    "category": ("category",),
}


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


def columns_of(table: pa.Table, wanted: Sequence[str] = (), *, name: str) -> tuple[Column, ...]:
    """Return the D columns of a table `[N, D]`, or the wanted ones in that order, each with its kind.

    Args:
        table: the table.
        wanted: names of columns, each alone or as "NAME:KIND" to force a kind; all columns if empty.
        name: what to call the table in messages.

    Raises:
        DataError: if a column does not exist, has a type or values no model can take, or no cells.
    """
    check_names(table.column_names, name)
    pairs = wanted_columns(table.column_names, wanted, name)
    names = [column for column, _ in pairs]
    return tuple(_typed(table.column(column), column, forced, names, name) for column, forced in pairs)


def wanted_columns(names: list[str], wanted: Sequence[str], where: str) -> list[tuple[str, ColumnKind | None]]:
    """Return the wanted columns with the kinds forced on them."""
    if not wanted:
        return [(name, None) for name in names]
    have, pairs = set(names), []
    for item in wanted:
        name, _, kind = item.rpartition(":")
        if item in have or name not in have:  # a name may hold a colon, too
            pairs.append((item, None))
        elif kind in KINDS:
            pairs.append((name, cast(ColumnKind, kind)))
        else:
            raise DataError(
                f"column {shown(name)} cannot be of kind {shown(kind)}", where=where, expected=", ".join(KINDS)
            )
    _check_known([name for name, _ in pairs], names, where)
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise DataError(f"columns are asked for twice: {listed(twice)}", where=where, fix="name each column once")
    return pairs


def _check_known(asked: Sequence[str], names: Sequence[str], where: str) -> None:
    """Refuse columns that the table does not have."""
    have = set(names)
    unknown = [name for name in asked if name not in have]
    if not unknown:
        return
    lower = {name.lower(): name for name in names[:1000]}
    near = [lower[m] for name in unknown[:5] for m in difflib.get_close_matches(name.lower(), lower, 1)]
    raise DataError(
        f"the table has no column {', '.join(shown(name) for name in unknown[:20])}",
        where=where,
        expected=f"columns of it: {listed(names)}",
        fix=f"did you mean {', '.join(shown(name) for name in dict.fromkeys(near))}?" if near else "",
    )


def _typed(cells: pa.ChunkedArray, name: str, forced: ColumnKind | None, names: list[str], where: str) -> Column:
    """Return the column with the kind its type and values have, or the one forced on it."""
    if cells.null_count == len(cells):
        raise all_missing(name, names, where)
    natural = kind_of(cells.type)
    if natural is None:
        raise untakeable(cells.type, name, names, where)
    kind = forced or natural
    if kind not in FORCED[natural]:
        raise unfit(f"type {listed([str(cells.type)])}", name, kind, where)
    with named(name, where):
        if kind == "category":
            if natural == "numeric":
                numbers_of(cells, name, where)  # infinity is no category either
            found = _categories(cells, name, names, where, forced=forced)
            return Column(name, kind, str(cells.type), categories=found)
        values, observed = numbers_of(cells, name, where)
    kept = values[observed]
    if not kept.size:
        raise all_missing(name, names, where)
    if forced is None and natural == "integer" and kept.min() == 0 and kept.max() == 1:
        kind = "boolean"
    step = step_of(cells.type) if kind in ("integer", "date") else 0.0
    column = Column(name, kind, str(cells.type), step=step)
    check_fit(values, observed, column, where)
    return column


def step_of(type_: pa.DataType) -> float:
    """Return the distance of neighbouring whole numbers or dates of a type."""
    return float(_DAY_MS) if pa.types.is_date64(type_) else 1.0  # date64 counts milliseconds but holds whole days


def kind_of(type_: pa.DataType) -> ColumnKind | None:
    """Return the kind of the columns of an Arrow type, None if no model takes them."""
    t = pa.types
    if t.is_dictionary(type_):
        return None if t.is_dictionary(type_.value_type) or kind_of(type_.value_type) is None else "category"
    tests: tuple[tuple[ColumnKind, bool], ...] = (
        ("numeric", t.is_floating(type_) or t.is_decimal(type_)),
        ("integer", t.is_integer(type_)),
        ("boolean", t.is_boolean(type_)),
        ("date", t.is_date(type_) or t.is_timestamp(type_)),
        ("category", t.is_string(type_) or t.is_large_string(type_) or t.is_string_view(type_)),
    )
    return next((kind for kind, true in tests if true), None)


def leave_out(name: str, names: Sequence[str]) -> str:
    """Return the words that tell how to take all columns but one."""
    others = [shlex.quote(shown(other)[1:-1]) for other in names if other != name]
    return f"leave it out: --columns {' '.join(others[:20])}{' ...' if len(others) > 20 else ''}" if others else ""


def _as_category(name: str) -> str:
    """Return what to write after --columns to make a column a category."""
    return shlex.quote(shown(name)[1:-1] + ":category")


def all_missing(name: str, names: Sequence[str], where: str) -> DataError:
    """Return the error of a column without a value."""
    return DataError(f"all cells of column {shown(name)} are missing", where=where, fix=leave_out(name, names))


def untakeable(type_: pa.DataType, name: str, names: Sequence[str], where: str) -> DataError:
    """Return the error of a column whose type no model takes."""
    return DataError(
        f"column {shown(name)} has type {listed([str(type_)])}, which no model takes",
        where=where,
        expected="numbers, texts, booleans, dates or times with a date",
        fix=leave_out(name, names),
    )


def unfit(what: str, name: str, kind: str, where: str) -> DataError:
    """Return the error of a column that a kind was forced on which it cannot be."""
    return DataError(
        f"column {shown(name)} cannot be {kind}: it has {what}", where=where, fix="give it another kind, or none"
    )


@contextmanager
def named(name: str, where: str) -> Iterator[None]:
    """Turn what Arrow cannot convert into an error that names the column."""
    try:
        yield
    except (pa.ArrowException, UnicodeError) as error:
        raise DataError(f"column {shown(name)} cannot be read: {shown(str(error), 300)}", where=where) from error


def _refuse(bad: np.ndarray, what: str, name: str, where: str, *, expected: str = "", fix: str = "") -> None:
    """Raise an error with count and first row if any cell is bad, `[N]`."""
    count = int(bad.sum())
    if count:
        first = int(np.argmax(bad)) + 1
        rows = f"in row {first:,}" if count == 1 else f"in {count:,} rows, first in row {first:,}"
        raise DataError(f"column {shown(name)} holds {what} {rows}", where=where, expected=expected, fix=fix)


def numbers_of(cells: pa.ChunkedArray, name: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers, booleans or dates as float64 `[N]`, 0 where missing, and where they are observed `[N]`."""
    if pa.types.is_date32(cells.type):
        cells = cells.cast(pa.int32())
    elif pa.types.is_temporal(cells.type):
        cells = cells.cast(pa.int64())
    values = np.asarray(cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    observed = ~np.isnan(values)
    values = np.where(observed, values, 0.0)
    _refuse(np.isinf(values), "infinite values", name, where, fix="remove them, or leave the cells empty")
    large = np.abs(values) > _LARGEST
    _refuse(large, "values beyond 1e300", name, where, fix="scale the column down, e.g. take other units or logarithms")
    return values, observed


def check_fit(values: np.ndarray, observed: np.ndarray, column: Column, where: str) -> None:
    """Raise DataError for values `[N]` that a column of that kind does not have."""
    if column.kind == "boolean":
        bad, expected = observed & (values != 0) & (values != 1), "0 and 1, or true and false"
    elif column.kind == "integer":
        bad, expected = observed & (values != np.floor(values)), "whole numbers"
    else:
        return
    example = f"{values[np.argmax(bad)]:.15g}" if bad.any() else ""
    _refuse(bad, f"{example}, which is not {column.kind}," if example else "", column.name, where, expected=expected)


def texts_of(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the cells as texts, from which `_from_texts` makes the same cells again."""
    t, type_ = pa.types, cells.type
    if t.is_dictionary(type_):
        return texts_of(cells.cast(type_.value_type))
    if t.is_floating(type_):
        cells = cells.cast(pa.float32()) if t.is_float16(type_) else cells
        cells = pc.if_else(pc.is_nan(cells), pa.scalar(None, cells.type), cells)
    if t.is_timestamp(type_):  # without the zone: its tables may be missing here
        cells = cells.cast(pa.int64()).cast(pa.timestamp(type_.unit))
    return cells.cast(pa.large_string())


def _from_texts(texts: Sequence[str], type_: pa.DataType) -> pa.Array:
    """Return texts `[N]` as cells of an Arrow type."""
    plain = pa.array(list(texts), pa.string())
    if pa.types.is_timestamp(type_):
        return plain.cast(pa.timestamp(type_.unit)).cast(pa.int64()).cast(type_)
    return pa.array(list(texts), type_) if kind_of(type_) == "category" else plain.cast(type_)


def _categories(
    cells: pa.ChunkedArray, name: str, names: Sequence[str], where: str, *, forced: ColumnKind | None
) -> tuple[str, ...]:
    """Return the distinct texts of a column: in order, of a dictionary in its order."""
    texts = texts_of(cells)
    if texts.null_count == len(texts):
        raise all_missing(name, names, where)
    distinct = pc.count_distinct(texts).as_py()
    count = len(texts) - texts.null_count
    fix = " or ".join(part for part in (leave_out(name, names), f"force it: {_as_category(name)}") if part)
    if forced is None and not pa.types.is_dictionary(cells.type):
        refuse_odd_texts(texts, name, where)
    if forced is None and count >= _FEW and distinct > count / 2:
        raise DataError(
            f"column {shown(name)} holds {distinct:,} different texts in {count:,} rows: "
            "it looks like an identifier or free text",
            where=where,
            fix=fix,
        )
    if pa.types.is_dictionary(cells.type):
        texts = texts_of(pa.chunked_array([cells.unify_dictionaries().chunk(0).dictionary]))
        distinct = pc.count_distinct(texts).as_py()
    if distinct > MAX_CATEGORIES:
        raise DataError(
            f"column {shown(name)} has {distinct:,} categories",
            where=where,
            expected=f"at most {MAX_CATEGORIES:,}",
            fix=leave_out(name, names),
        )
    found = list(dict.fromkeys(texts.unique().drop_null().to_pylist()))
    if pa.types.is_dictionary(cells.type):
        return tuple(found)
    number = kind_of(cells.type) in ("numeric", "integer")
    return tuple(sorted(found, key=Decimal) if number else sorted(found))


def _odd(texts: pa.ChunkedArray, pattern: str) -> np.ndarray:
    """Tell which of the texts `[N]` do not follow a pattern; missing ones do."""
    matches = pc.match_substring_regex(texts, pattern=f"^({pattern})$")
    return ~np.asarray(pc.fill_null(matches, fill_value=True).to_numpy(zero_copy_only=False), dtype=bool)


def refuse_odd_texts(texts: pa.ChunkedArray, name: str, where: str) -> None:
    """Refuse a column of numbers that one bad cell made a column of texts."""
    count = len(texts) - texts.null_count
    odd = _odd(texts, NUMBER)
    if count < _FEW or not odd.any():
        return
    if odd.sum() <= 0.1 * count:
        first = shown(texts[int(np.argmax(odd))].as_py())
        fix = f"correct the cell, leave it empty, or use {_as_category(name)}"
        _refuse(odd, f"{first} among numbers", name, where, expected="numbers", fix=fix)
    if _odd(texts, f"{NUMBER}|{_COMMAS}").sum() <= 0.1 * count:
        first = shown(texts[int(np.argmax(odd))].as_py())
        fix = f"write numbers with a point and nothing between thousands, or use {_as_category(name)}"
        _refuse(odd, f"numbers with a comma, like {first},", name, where, fix=fix)


def encode(table: pa.Table, columns: Sequence[Column], *, name: str) -> tuple[Cells, tuple[str, ...]]:
    """Return the cells `[N, D]` of the given columns, looked up by name, and notes for the user.

    Raises:
        DataError: if a column is missing, holds another type of cells or a category it did not have.
    """
    check_names(table.column_names, name)
    known = [column.name for column in columns]
    given = set(known)
    _check_known(known, table.column_names, name)
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
                f"column {shown(column.name)} was constant ({_shown_value(column.offset, column)}) in training: "
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
        odd = _odd(texts, NUMBER)
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
    return _TICKS["ms"] if pa.types.is_date64(type_) else _DAY_MS * _TICKS["ms"]


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
        _refuse(
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
        f"column {shown(c.name)} is constant ({_shown_value(c.offset, c)}): "
        "kept out of the model, put back when decoded"
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
        _refuse(far, "values too far from those of training", column.name, "", fix="correct or scale them")
    return values, observed


def to_units(values: np.ndarray, columns: Sequence[Column]) -> np.ndarray:
    """Return model values `[N, M]` in the data's units, `[N, M]` float64, without rounding.

    Raises:
        DataError: if there is not one value for each column that is not constant.
    """
    modelled = [column for column in columns if not column.constant]
    if values.ndim != 2 or values.shape[1] != len(modelled):
        raise DataError(f"the values have shape {values.shape}", expected=f"(N, {len(modelled)})")
    units = np.array(values, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for j, column in enumerate(modelled):
            if column.real:
                units[:, j] = units[:, j] * column.scale + column.offset
    return units


def to_table(values: np.ndarray, columns: Sequence[Column], *, observed: np.ndarray | None = None) -> pa.Table:
    """Return model values `[N, M]` as a table `[N, D]` of all columns, in the data's order and types.

    Args:
        values: the M columns that are not constant, in model units; places of categories are rounded and clipped.
        columns: all D columns.
        observed: `[N, M]`, False where a cell is to be empty.

    Raises:
        DataError: if shapes do not fit, or a value is NaN.
    """
    units = to_units(values, columns)
    missing = np.zeros(units.shape, dtype=bool) if observed is None else ~observed
    if missing.shape != units.shape:
        raise DataError(f"`observed` has shape {missing.shape}", expected=f"{units.shape}")
    place, arrays = 0, []
    for column in columns:
        if column.constant:
            own, empty = np.full(len(units), column.offset), np.zeros(len(units), dtype=bool)
        else:
            empty = missing[:, place]
            own = np.where(empty, 0.0, units[:, place])
            place += 1
        _refuse(np.isnan(own), "NaN", column.name, "", expected="numbers from the model")
        with named(column.name, ""):
            arrays.append(_cells(own, empty, column))
    return pa.table(arrays, names=[column.name for column in columns])


def _cells(values: np.ndarray, missing: np.ndarray, column: Column) -> pa.Array:
    """Return values `[N]` in the data's units as Arrow cells of the column's type."""
    type_, t = arrow_type(column.dtype), pa.types
    if column.kind == "category":
        return _category_cells(values, missing, column)
    if column.kind == "boolean":
        values = (values >= 0.5).astype(np.float64)
    elif column.step:
        values = np.rint(values / column.step) * column.step
    if t.is_boolean(type_):
        return pa.array(values != 0, mask=missing)
    if t.is_decimal(type_):
        return pa.array(_decimals(values, missing, type_), type_)
    if t.is_floating(type_):
        dtype = np.dtype(type_.to_pandas_dtype())
        largest = float(np.finfo(dtype).max)
        with np.errstate(under="ignore"):
            return pa.array(np.clip(values, -largest, largest).astype(dtype), mask=missing)
    if t.is_integer(type_):
        return pa.array(_whole(values, np.dtype(type_.to_pandas_dtype())), mask=missing)
    storage = np.dtype(np.int32 if t.is_date32(type_) else np.int64)
    return pa.array(_whole(values, storage), mask=missing).cast(type_)


def _whole(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return values `[N]` rounded and clipped to an integer type."""
    low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    if int(high) > np.iinfo(dtype).max:  # 2^63 - 1 is no float64: take the one below, which converts
        high = float(np.nextafter(high, 0))
    return np.clip(np.rint(values), low, high).astype(dtype)


def _decimals(values: np.ndarray, missing: np.ndarray, type_: Any) -> list[Decimal | None]:
    """Return values `[N]` rounded and clipped to a decimal type."""
    context = Context(prec=400)  # holds 1e300 exactly
    largest = Decimal(10**type_.precision - 1).scaleb(-type_.scale, context)
    unit = Decimal(1).scaleb(-type_.scale, context)
    rounded = (max(-largest, min(largest, Decimal(repr(float(v))))).quantize(unit, context=context) for v in values)
    return [None if empty else v for v, empty in zip(rounded, missing, strict=True)]


def _category_cells(codes: np.ndarray, missing: np.ndarray, column: Column) -> pa.Array:
    """Return places of categories `[N]` as Arrow cells of the column's type."""
    type_ = arrow_type(column.dtype)
    whole = np.clip(np.rint(codes), 0, len(column.categories) - 1).astype(np.int64)
    places = pa.array(whole, mask=missing)
    if pa.types.is_dictionary(type_):
        values = _from_texts(column.categories, type_.value_type)
        return pa.DictionaryArray.from_arrays(places.cast(type_.index_type), values, ordered=type_.ordered)
    if pa.types.is_string_view(type_):  # Arrow cannot take from these
        return _from_texts(column.categories, pa.string()).take(places).cast(type_)
    return _from_texts(column.categories, type_).take(places)


def _shown_value(value: float, column: Column) -> str:
    """Return one value in the data's units as a message shows it."""
    cell = _cells(np.array([value]), np.zeros(1, dtype=bool), column)
    return shown(texts_of(pa.chunked_array([cell]))[0].as_py())[1:-1]


def arrow_type(text: str) -> Any:
    """Return the Arrow type that a column's `dtype` names.

    Raises:
        DataError: if there is no such type.
    """
    try:
        if found := re.fullmatch(r"dictionary<values=(.+), indices=(\w+), ordered=([01])>", text):
            values, index, ordered = found.groups()
            return pa.dictionary(pa.type_for_alias(index), arrow_type(values), ordered=ordered == "1")
        if found := re.fullmatch(r"timestamp\[(\w+), tz=(.+)\]", text):
            return pa.timestamp(found[1], tz=found[2])
        found = re.fullmatch(r"decimal(\d+)\((\d+), (-?\d+)\)", text)
        if found and found[1] in _DECIMALS:
            return getattr(pa, f"decimal{found[1]}")(int(found[2]), int(found[3]))
        return pa.type_for_alias(text)
    except (ValueError, AttributeError, pa.ArrowException) as error:
        raise DataError(f"there is no type of cells {shown(text)}") from error


def arrow_column(values: Sequence[str], column: Column) -> pa.Array:
    """Return texts of classes `[N]` as cells of the type the column came with.

    Raises:
        DataError: if a text is no value of that type.
    """
    with named(column.name, ""):
        if not column.categories:
            return _from_texts(values, arrow_type(column.dtype))
        place = {text: i for i, text in enumerate(column.categories)}
        unknown = sorted({text for text in values if text not in place})
        if unknown:
            raise DataError(
                f"column {shown(column.name)} has no category {shown(unknown[0])}", expected=listed(column.categories)
            )
        codes = np.array([place[text] for text in values], dtype=np.float64)
        return _category_cells(codes, np.zeros(len(codes), dtype=bool), column)


def column_of_array(name: str, values: np.ndarray) -> Column:
    """Return the column of a plain array of numbers or booleans, of any shape, by its dtype.

    Raises:
        DataError: if its values are neither.
    """
    kinds: dict[str, ColumnKind] = {"f": "numeric", "i": "integer", "u": "integer", "b": "boolean"}
    try:
        kind, type_ = kinds[values.dtype.kind], pa.from_numpy_dtype(values.dtype.newbyteorder("="))
    except (KeyError, pa.ArrowException) as error:
        raise DataError(f"{shown(name)} has values of type {values.dtype}", expected="numbers or booleans") from error
    return Column(name, kind, str(type_), step=1.0 if kind == "integer" else 0.0)


def texts(table: pa.Table, column: str) -> tuple[np.ndarray, Column]:
    """Return a label column as an array of str `[N]` (dtype object), and the column with its categories.

    Raises:
        DataError: if there is no such column, a cell is missing, or there are too many labels.
    """
    cells = _found(table, column)
    labels = _typed(cells, column, "category", [column], "")
    found = texts_of(cells)
    missing = ~np.asarray(found.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    _refuse(missing, "no label", column, "", fix="fill the cells, or leave the rows out")
    return np.array(found.to_pylist(), dtype=object), labels


def numbers(table: pa.Table, column: str) -> np.ndarray:
    """Return a column of weights as float64 `[N]`.

    Raises:
        DataError: if there is no such column, or it is not of numbers that are 0 or more, one at least positive.
    """
    cells = _found(table, column)
    if kind_of(cells.type) not in ("numeric", "integer", "boolean"):
        raise DataError(f"column {shown(column)} has type {listed([str(cells.type)])}", expected="numbers")
    with named(column, ""):
        values, observed = numbers_of(cells, column, "")
    _refuse(~observed, "no number", column, "", fix="fill the cells, or leave the rows out")
    _refuse(values < 0, "negative numbers", column, "", expected="0 or more")
    if not values.any():
        raise DataError(f"column {shown(column)} holds zeros alone", expected="a number above 0")
    return values


def _found(table: pa.Table, column: str) -> pa.ChunkedArray:
    check_names(table.column_names, "")
    _check_known([column], table.column_names, "")
    return table.column(column)
