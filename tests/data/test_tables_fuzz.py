"""Random tables come back as they were; whatever bytes a file holds, it is read as a table or refused as DataError."""

import tempfile
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lowerbound.core.errors import DataError
from lowerbound.data.table_files import read_table, write_table
from lowerbound.data.tables import columns_of, encode, fit_columns, to_model, to_table, to_units

few = settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
ROWS = 13
days = st.integers(-30_000, 60_000).map(lambda d: date(1970, 1, 1) + timedelta(d))
moments = st.integers(-(10**9), 2 * 10**9).map(lambda s: datetime(1970, 1, 1) + timedelta(seconds=s))
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)


def floats(width):
    return st.floats(width=width, allow_nan=False, allow_infinity=False, min_value=-1000, max_value=1000)


def integers(bits, *, signed):
    low = -(2 ** (bits - 1)) if signed else 0
    return st.integers(low, low + 2**bits - 1)


TYPES = [
    *((pa.type_for_alias(f"int{b}"), integers(b, signed=True)) for b in (8, 16, 32, 64)),
    *((pa.type_for_alias(f"uint{b}"), integers(b, signed=False)) for b in (8, 16, 32, 64)),
    (pa.int16(), st.integers(0, 1)),
    (pa.float32(), floats(32)),
    (pa.float64(), floats(64)),
    (pa.float64(), st.floats(allow_nan=False, min_value=-9e299, max_value=9e299)),
    (pa.bool_(), st.booleans()),
    (pa.decimal128(9, 3), st.integers(-(10**8), 10**8).map(lambda v: Decimal(v) / 1000)),
    (pa.date32(), days),
    (pa.date64(), days),
    *((pa.timestamp(unit), moments) for unit in ("s", "ms", "us", "ns")),
    (pa.timestamp("us", "UTC"), moments),
    (pa.string(), words),
    (pa.large_string(), words),
    (pa.string_view(), words),
    (pa.dictionary(pa.int32(), pa.string()), words),
    (pa.dictionary(pa.int8(), pa.string(), ordered=True), words),
]


@st.composite
def columns(draw):
    """Return a column of some type with one observed cell at least."""
    type_, values = draw(st.sampled_from(TYPES))
    cells = draw(st.lists(st.one_of(values, values, values, st.none()), min_size=ROWS, max_size=ROWS))
    cells[draw(st.integers(0, ROWS - 1))] = draw(values)
    if not pa.types.is_dictionary(type_):
        return pa.array(cells, type_)
    levels = list(dict.fromkeys(c for c in cells if c is not None))
    codes = pa.array([None if c is None else levels.index(c) for c in cells], type_.index_type)
    return pa.DictionaryArray.from_arrays(codes, pa.array(levels, type_.value_type), ordered=type_.ordered)


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).filter(str.strip)
tables = st.dictionaries(names, columns(), min_size=1, max_size=5).map(pa.table)


def texts(column):
    """Return the cells of a column of words, without what its type adds to them."""
    return column.cast(pa.large_string()).to_pylist()


def there_and_back(table):
    """Take a table to model units and back; compare types, missing cells, words exactly and numbers as float32 can."""
    before = columns_of(table, name="t")
    cells, notes = encode(table, before, name="t")
    fitted, _ = fit_columns(before, cells, np.arange(table.num_rows))
    values, observed = to_model(cells, fitted)
    assert notes == ()
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    back = to_table(values, fitted, observed=observed)
    assert [(f.name, f.type) for f in back.schema] == [(f.name, f.type) for f in table.schema]
    again, _ = encode(back, fitted, name="back")
    np.testing.assert_array_equal(again.observed, cells.observed)
    place = 0
    for i, column in enumerate(fitted):
        if not column.real or column.constant:
            np.testing.assert_array_equal(again.values[:, i], cells.values[:, i])
        else:
            kept, reach = cells.values[:, i][cells.observed[:, i]], 1e-6 * column.scale * 13 + column.step
            half = 5e-4 if "decimal" in column.dtype else 0
            single = 1e-7 * np.abs(kept).max() if column.dtype == "float" else 1e-15 * np.abs(kept).max()
            np.testing.assert_allclose(
                again.values[:, i][cells.observed[:, i]], kept, rtol=0, atol=reach + half + 4 * single
            )
            units = to_units(values, fitted)[:, place]
            np.testing.assert_allclose(units[cells.observed[:, i]], kept, rtol=0, atol=reach + half + 4 * single)
        place += not column.constant
        if column.kind == "category":
            assert texts(back.column(i)) == texts(table.column(i))


@few
@given(table=tables)
def test_any_table_there_and_back(table):
    there_and_back(table)


@few
@given(table=tables, suffix=st.sampled_from([".csv", ".parquet"]))
def test_any_table_there_and_back_through_a_file(table, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = write_table(table, Path(folder) / f"t{suffix}")
        found = read_table(path)
        assert found.column_names == table.column_names
        assert found.num_rows == ROWS
        try:
            there_and_back(found)
        except DataError as error:  # words of a CSV that mean "missing", or times without a date
            assert suffix == ".csv"
            assert "missing" in str(error) or "time" in str(error), error


WHOLE = pa.table(
    {
        "age": pa.array([5, None, 3, 7, 11], pa.int16()),
        "height": [1.5, 2.25, None, 1e9, -3.0],
        "when": pa.array([date(2001, 2, 3)] * 4 + [None]),
        "town": pa.array(["Ulm", "Genève", 'a\n"b"', None, "Ulm"]).dictionary_encode(),
        "ok": [True, None, False, True, False],
    }
)


def contents(suffix):
    with tempfile.TemporaryDirectory() as folder:
        return write_table(WHOLE, Path(folder) / f"t{suffix}").read_bytes()


CONTENTS = {suffix: contents(suffix) for suffix in (".csv", ".parquet")}


def attempt(content, suffix):
    """Read, type, encode and decode what a file of these bytes holds, or see it refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"t{suffix}"
        path.write_bytes(content)
        try:
            table = read_table(path)
            assert table.num_rows > 0
            there_and_back(table)
        except DataError as error:
            assert error.exit_code == 2
            assert "\x1b" not in str(error)


places = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), max_size=4)


@few
@given(suffix=st.sampled_from([".csv", ".parquet"]), places=places, share=st.one_of(st.just(1.0), st.floats(0, 1)))
def test_truncated_files_and_flipped_bits(suffix, places, share):
    content = bytearray(CONTENTS[suffix])
    for place, bit in places:
        content[int(place * len(content))] ^= 1 << bit
    attempt(bytes(content[: round(share * len(content))]), suffix)


@few
@given(content=st.binary(max_size=60), suffix=st.sampled_from([".csv", ".csv.gz", ".parquet", ".tsv"]))
def test_any_bytes(content, suffix):
    attempt(content, suffix)


@few
@given(text=st.text("ab1.5,;\t|\n\r\"'é\0 -e", max_size=60))
def test_any_text(text):
    attempt(text.encode(), ".csv")
