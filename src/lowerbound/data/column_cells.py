"""From a model's numbers back to the cells of columns, and from single columns to what is no part of x."""

import re
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ..core.errors import DataError
from ..core.spec import Column, ColumnKind
from .column_kinds import (
    cells_of_texts,
    check_known,
    kind_of,
    named,
    numbers_of,
    refuse_cells,
    texts_of,
    typed_column,
)
from .table_files import check_names, listed, shown

_DECIMALS = {"32", "64", "128", "256"}


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
        refuse_cells(np.isnan(own), "NaN", column.name, "", expected="numbers from the model")
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
        values = cells_of_texts(column.categories, type_.value_type)
        return pa.DictionaryArray.from_arrays(places.cast(type_.index_type), values, ordered=type_.ordered)
    if pa.types.is_string_view(type_):  # Arrow cannot take from these
        return cells_of_texts(column.categories, pa.string()).take(places).cast(type_)
    return cells_of_texts(column.categories, type_).take(places)


def shown_value(value: float, column: Column) -> str:
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
            return cells_of_texts(values, arrow_type(column.dtype))
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
    labels = typed_column(cells, column, "category", [column], "")
    found = texts_of(cells)
    missing = ~np.asarray(found.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    refuse_cells(missing, "no label", column, "", fix="fill the cells, or leave the rows out")
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
    refuse_cells(~observed, "no number", column, "", fix="fill the cells, or leave the rows out")
    refuse_cells(values < 0, "negative numbers", column, "", expected="0 or more")
    if not values.any():
        raise DataError(f"column {shown(column)} holds zeros alone", expected="a number above 0")
    return values


def _found(table: pa.Table, column: str) -> pa.ChunkedArray:
    check_names(table.column_names, "")
    check_known([column], table.column_names, "")
    return table.column(column)
