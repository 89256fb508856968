"""What the columns of a table are: the kind of each by the type and the values of its cells, or what refuses it."""

import difflib
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
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
DAY_MS = 86_400_000
_COMMAS = r"[+-]?\d+,\d+|[+-]?\d{1,3}(,\d{3})+(\.\d+)?"
_DATE = "dates such as 2020-12-31"
_TIME = r"([ T]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?Z?)?"
_DATES = r"\d{4}-\d{2}-\d{2}" + _TIME
# as people write them, and as no reader takes them for dates
_OTHER_DATES = r"(\d{1,2}[./-]\d{1,2}[./-]\d{4}|\d{4}[./]\d{1,2}[./]\d{1,2})" + _TIME
# What may be forced on a column of each kind; that the values fit is checked beside.
FORCED: dict[ColumnKind, tuple[ColumnKind, ...]] = {
    "numeric": ("numeric", "integer", "boolean", "category"),
    "integer": ("numeric", "integer", "boolean", "category"),
    "boolean": ("boolean", "category"),
    "date": ("date", "category"),
    "category": ("category",),
}


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
    return tuple(typed_column(table.column(column), column, forced, names, name) for column, forced in pairs)


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
    check_known([name for name, _ in pairs], names, where)
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise DataError(f"columns are asked for twice: {listed(twice)}", where=where, fix="name each column once")
    return pairs


def check_known(asked: Sequence[str], names: Sequence[str], where: str, *, by: str = "") -> None:
    """Refuse columns that the table does not have; `by` says who asks for all of them, if that is not the user."""
    have = set(names)
    unknown = [name for name in asked if name not in have]
    if not unknown:
        return
    lower = {name.lower(): name for name in names[:1000]}
    near = [lower[m] for name in unknown[:5] for m in difflib.get_close_matches(name.lower(), lower, 1)]
    nearest = f"did you mean {', '.join(shown(name) for name in dict.fromkeys(near))}?" if near else ""
    raise DataError(
        f"the table has no column {', '.join(shown(name) for name in unknown[:20])}",
        where=where,
        expected=f"the columns of {by}: {listed(asked)}" if by else f"columns of it: {listed(names)}",
        fix=nearest or ("add it; empty cells will do where cells of training were missing" if by else ""),
    )


def typed_column(cells: pa.ChunkedArray, name: str, forced: ColumnKind | None, names: list[str], where: str) -> Column:
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
    return float(DAY_MS) if pa.types.is_date64(type_) else 1.0  # date64 counts milliseconds but holds whole days


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
    others = [_word(other) for other in names if other != name]
    return f"leave it out: --columns {' '.join(others[:20])}{' ...' if len(others) > 20 else ''}" if others else ""


def _word(name: str) -> str:
    """Return a name as a word of a command, however long it is."""
    return shlex.quote(name if name.isprintable() else shown(name)[1:-1])


def _as_category(name: str) -> str:
    """Return what to write among the columns to make one a category."""
    return f"{_word(name + ':category')} among --columns"


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


def refuse_cells(bad: np.ndarray, what: str, name: str, where: str, *, expected: str = "", fix: str = "") -> None:
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
    refuse_cells(np.isinf(values), "infinite values", name, where, fix="remove them, or leave the cells empty")
    large = np.abs(values) > _LARGEST
    refuse_cells(
        large, "values beyond 1e300", name, where, fix="scale the column down, e.g. take other units or logarithms"
    )
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
    refuse_cells(
        bad, f"{example}, which is not {column.kind}," if example else "", column.name, where, expected=expected
    )


def texts_of(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the cells as texts, from which `cells_of_texts` makes the same cells again."""
    t, type_ = pa.types, cells.type
    if t.is_dictionary(type_):
        return texts_of(cells.cast(type_.value_type))
    if t.is_floating(type_):
        cells = cells.cast(pa.float32()) if t.is_float16(type_) else cells
        cells = pc.if_else(pc.is_nan(cells), pa.scalar(None, cells.type), cells)
    if t.is_timestamp(type_):  # without the zone: its tables may be missing here
        cells = cells.cast(pa.int64()).cast(pa.timestamp(type_.unit))
    return cells.cast(pa.large_string())


def cells_of_texts(texts: Sequence[str], type_: pa.DataType) -> pa.Array:
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
            fix=f"{fix}; or read each line as a sequence: lines:FILE" if len(names) == 1 else fix,
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


def odd_texts(texts: pa.ChunkedArray, pattern: str) -> np.ndarray:
    """Tell which of the texts `[N]` do not follow a pattern; missing ones do."""
    matches = pc.match_substring_regex(texts, pattern=f"^({pattern})$")
    return ~np.asarray(pc.fill_null(matches, fill_value=True).to_numpy(zero_copy_only=False), dtype=bool)


def refuse_odd_texts(texts: pa.ChunkedArray, name: str, where: str) -> None:
    """Refuse a column of numbers or dates that one bad cell, or the way they are written, made a column of texts."""
    count = len(texts) - texts.null_count
    odd, undated = odd_texts(texts, NUMBER), odd_texts(texts, _DATES)
    if count < _FEW or not odd.any():
        return
    otherwise = f"or use {_as_category(name)}"
    for bad, what, expected in ((odd, "numbers", "numbers"), (undated, "dates", _DATE)):
        if 0 < bad.sum() <= 0.1 * count:
            first = shown(texts[int(np.argmax(bad))].as_py())
            fix = f"correct the cell, leave it empty, {otherwise}"
            refuse_cells(bad, f"{first} among {what}", name, where, expected=expected, fix=fix)
    first = shown(texts[int(np.argmax(odd))].as_py())
    if odd_texts(texts, f"{NUMBER}|{_COMMAS}").sum() <= 0.1 * count:
        fix = f"write numbers with a point and nothing between thousands, {otherwise}"
        refuse_cells(odd, f"numbers with a comma, like {first},", name, where, fix=fix)
    if odd_texts(texts, _OTHER_DATES).sum() <= 0.1 * count:
        fix = f"write them so, {otherwise}"
        refuse_cells(odd, f"dates like {first},", name, where, expected=_DATE, fix=fix)
