"""Tables to arrays and back: types, cells and fits against hand-made answers, and what is refused."""

from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from lowerbound.core.errors import DataError
from lowerbound.core.spec import Column
from lowerbound.data.tables import (
    arrow_column,
    arrow_type,
    column_of_array,
    columns_of,
    encode,
    fit_columns,
    numbers,
    texts,
    to_model,
    to_table,
    to_units,
)

WORDS = ["b", "a", None, "b", "c"]
DATES = [date(1970, 1, 3), date(1969, 12, 31), None, date(2000, 1, 1), date(1970, 1, 1)]


def typed(cells, type_=None, forced="", **others):
    """Return the one column of a table of these cells."""
    array = cells if isinstance(cells, pa.Array) else pa.array(cells, type_)
    return columns_of(pa.table({"x": array, **others}), [f"x{forced}"], name="t")[0]


def refused(make, *words):
    with pytest.raises(DataError) as caught:
        make()
    for word in words:
        assert word in str(caught.value), caught.value
    return str(caught.value)


def fitted(table, train=None):
    """Return fitted columns, cells and all notes."""
    columns = columns_of(table, name="t")
    cells, notes = encode(table, columns, name="t")
    columns, more = fit_columns(columns, cells, np.arange(table.num_rows) if train is None else np.array(train))
    return columns, cells, notes + more


TYPES = [
    (pa.array([1.5, None, 2.0], pa.float16()), "numeric", "halffloat", 0, (), [1.5, 0, 2]),
    (pa.array([1.5, float("nan"), 2.0], pa.float32()), "numeric", "float", 0, (), [1.5, 0, 2]),
    (pa.array([1.5, None, 2.0]), "numeric", "double", 0, (), [1.5, 0, 2]),
    (pa.array([Decimal("1.50"), None, Decimal("-2")]), "numeric", "decimal128(3, 2)", 0, (), [1.5, 0, -2]),
    (pa.array([5, None, 7], pa.uint8()), "integer", "uint8", 1, (), [5, 0, 7]),
    (pa.array([0, None, 2], pa.int64()), "integer", "int64", 1, (), [0, 0, 2]),
    (pa.array([1, None, 0], pa.int32()), "boolean", "int32", 0, (), [1, 0, 0]),
    (pa.array([1, 1, 1], pa.int32()), "integer", "int32", 1, (), [1, 1, 1]),
    (pa.array([0, 0, None], pa.int32()), "integer", "int32", 1, (), [0, 0, 0]),
    (pa.array([True, None, False]), "boolean", "bool", 0, (), [1, 0, 0]),
    (pa.array([True, None, True]), "boolean", "bool", 0, (), [1, 0, 1]),
    (pa.array(DATES), "date", "date32[day]", 1, (), [2, -1, 0, 10957, 0]),
    (
        pa.array(DATES, pa.date64()),
        "date",
        "date64[ms]",
        86_400_000,
        (),
        [172_800_000, -86_400_000, 0, 946_684_800_000, 0],
    ),
    *(
        (
            pa.array([datetime(1970, 1, 2), None], pa.timestamp(unit)),
            "date",
            f"timestamp[{unit}]",
            1,
            (),
            [86_400 * k, 0],
        )
        for unit, k in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9))
    ),
    (
        pa.array([datetime(1970, 1, 2, tzinfo=UTC)], pa.timestamp("s", "Asia/Tokyo")),
        *("date", "timestamp[s, tz=Asia/Tokyo]", 1, (), [86_400]),
    ),
    (pa.array(WORDS), "category", "string", 0, ("a", "b", "c"), [1, 0, 0, 1, 2]),
    (pa.array(WORDS, pa.large_string()), "category", "large_string", 0, ("a", "b", "c"), [1, 0, 0, 1, 2]),
    (pa.array(WORDS).cast(pa.string_view()), "category", "string_view", 0, ("a", "b", "c"), [1, 0, 0, 1, 2]),
    (
        pa.array(WORDS).dictionary_encode(),
        *("category", "dictionary<values=string, indices=int32, ordered=0>", 0, ("b", "a", "c"), [0, 1, 0, 0, 2]),
    ),
    (
        pa.DictionaryArray.from_arrays(pa.array([2, None, 0], pa.int8()), pa.array([30, 10, 20]), ordered=True),
        *("category", "dictionary<values=int64, indices=int8, ordered=1>", 0, ("30", "10", "20"), [2, 0, 0]),
    ),
]


@pytest.mark.parametrize(("array", "kind", "dtype", "step", "categories", "values"), TYPES, ids=lambda v: str(v)[:20])
def test_every_type(array, kind, dtype, step, categories, values):
    table = pa.table({"x": array})
    (column,) = columns_of(table, name="t")
    assert column == Column("x", kind, dtype, step=float(step), categories=categories)
    assert arrow_type(dtype) == array.type
    cells, notes = encode(table, [column], name="t")
    assert notes == ()
    np.testing.assert_array_equal(cells.values, np.array(values, dtype=np.float64)[:, None])
    missing = [v is None or v != v for v in array.to_pylist()] if kind != "date" else array.is_null().to_pylist()
    np.testing.assert_array_equal(cells.observed, ~np.array(missing)[:, None])
    back = to_table(cells.values, [column], observed=cells.observed)
    assert back.schema.types == [array.type]
    assert back.column(0).null_count == sum(missing)
    np.testing.assert_array_equal(encode(back, [column], name="t")[0].values, cells.values)


def test_chunks_of_a_dictionary_are_one():
    parts = [pa.array(p).dictionary_encode() for p in (["b", "a"], ["c", "b", None])]
    table = pa.table({"x": pa.chunked_array(parts)})
    (column,) = columns_of(table, name="t")
    assert column.categories == ("b", "a", "c")
    assert encode(table, [column], name="t")[0].values[:, 0].tolist() == [0, 1, 2, 0, 0]


FORCED = [
    ([10, 9, None, 9], pa.int16(), "category", ("9", "10"), [1, 0, 0, 0]),
    ([1.5, 10.0, None, -2.0], pa.float64(), "category", ("-2", "1.5", "10"), [1, 2, 0, 0]),
    ([True, None, False], pa.bool_(), "category", ("false", "true"), [1, 0, 0]),
    (DATES[:3], pa.date32(), "category", ("1969-12-31", "1970-01-03"), [1, 0, 0]),
    ([3, None, 4], pa.int64(), "numeric", (), [3, 0, 4]),
    ([3.0, None, 4.0], pa.float64(), "integer", (), [3, 0, 4]),
    ([1.0, None, 1.0], pa.float32(), "boolean", (), [1, 0, 1]),
    ([0, 0, 0], pa.int8(), "boolean", (), [0, 0, 0]),
    ([0, 1, 1], pa.int8(), "integer", (), [0, 1, 1]),
    (DATES, pa.date32(), "date", (), [2, -1, 0, 10957, 0]),
]


@pytest.mark.parametrize(("cells", "type_", "kind", "categories", "values"), FORCED)
def test_a_forced_kind(cells, type_, kind, categories, values):
    column = typed(cells, type_, f":{kind}")
    assert (column.kind, column.categories, column.dtype) == (kind, categories, str(type_))
    assert column.step == (kind in ("integer", "date"))
    table = pa.table({"x": pa.array(cells, type_)})
    encoded = encode(table, [column], name="t")[0]
    assert encoded.values[:, 0].tolist() == values
    assert to_table(encoded.values, [column], observed=encoded.observed).equals(table)


def test_a_kind_that_does_not_fit():
    refused(lambda: typed([1, 2], None, ":date"), "'x' cannot be date", "int64")
    refused(lambda: typed(["a", "b"], None, ":numeric"), "'x' cannot be numeric")
    refused(lambda: typed([True, False], None, ":integer"), "'x' cannot be integer")
    refused(lambda: typed([1.0, 2.5, 3.5], None, ":integer"), "holds 2.5", "2 rows", "first in row 2", "whole numbers")
    refused(lambda: typed([0, 1, 7], None, ":boolean"), "holds 7", "in row 3")
    refused(lambda: typed([1, 2], None, ":number"), "'number'", "numeric, integer, boolean, category, date")


def test_wanted_columns():
    table = pa.table({"age": [3, 4], "a:b": [1.5, 2.5], "town": ["x", "y"]})
    assert [c.name for c in columns_of(table, name="t")] == ["age", "a:b", "town"]
    found = columns_of(table, ["town", "a:b", "age:category"], name="t")
    assert [(c.name, c.kind) for c in found] == [("town", "category"), ("a:b", "numeric"), ("age", "category")]
    refused(
        lambda: columns_of(table, ["Agee", "x"], name="t"), "'Agee', 'x'", "did you mean 'age'", "age, a:b, town", "t"
    )
    refused(lambda: columns_of(table, ["age", "age:integer"], name="t"), "twice: age")
    twice = pa.Table.from_arrays([pa.array([1])] * 2, names=["a", "a"])
    refused(lambda: columns_of(twice, name="t"), "occur twice: a")


def test_messages_hold_no_control_characters():
    name = "x\x1b[2J\u202e"
    table = pa.table({name: [f"u{i}" for i in range(30)], "n\x07": range(30), "s": pa.nulls(30, pa.list_(pa.int8()))})
    odd = pa.table({name: [*map(str, range(30)), "\x1b[2J"]})
    for make in (
        lambda: columns_of(table, [name], name="t"),
        lambda: columns_of(table, name="t"),
        lambda: columns_of(odd, name="t"),
        lambda: columns_of(table, [name + "\x1b"], name="t"),
        lambda: columns_of(table, [name + ":\x1b"], name="t"),
        lambda: columns_of(pa.table({name: [{name: 1}]}), name="t"),
        lambda: columns_of(pa.table({name: pa.nulls(3), "a\x1b": [1, 2, 3]}), name="t"),
    ):
        with pytest.raises(DataError) as caught:
            make()
        assert str(caught.value).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "array",
    [
        pa.array([[1], [2]]),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.array([b"a", b"b"]),
        pa.array([1, 2], pa.time32("s")),
        pa.array([1, 2], pa.duration("s")),
        pa.array([b"a", b"b"]).dictionary_encode(),
    ],
)
def test_types_that_no_model_takes(array):
    refused(lambda: columns_of(pa.table({"ok": [1, 2], "x": array}), name="t"), "'x'", str(array.type), "--columns ok")


@pytest.mark.parametrize("array", [pa.nulls(3), pa.nulls(3, pa.string()), pa.array([float("nan")] * 3)])
@pytest.mark.parametrize("forced", ["", ":category"])
def test_a_column_without_cells(array, forced):
    refused(lambda: typed(array, forced=forced), "all cells of column 'x' are missing")


def test_numbers_no_model_can_take():
    refused(lambda: typed([1.0, float("inf"), 2.0, -float("inf")]), "infinite", "2 rows", "row 2")
    refused(lambda: typed([1.0, 2.0, -1.1e300]), "beyond 1e300 in row 3", "scale the column down")
    refused(lambda: typed([1.0, float("inf")], None, ":category"), "infinite")
    assert typed([1.0, 1e300]).kind == "numeric"


def test_texts_that_are_no_categories():
    ids = [f"u{i}" for i in range(300)]
    words = ("column 'x' holds 300 different texts in 300 rows", "identifier", "--columns age", "x:category")
    table = pa.table({"x": ids, "age": range(300)})
    refused(lambda: columns_of(table, name="t"), *words)
    assert "lines:FILE" not in refused(lambda: columns_of(table, name="t"))
    refused(lambda: typed(ids), "lines:FILE")  # a file of names alone may be one of sequences
    assert len(columns_of(table, ["x:category"], name="t")[0].categories) == 300
    assert len(typed(ids[:19]).categories) == 19  # too few to judge
    assert len(typed(ids[:20] * 2).categories) == 20  # half of them
    refused(lambda: typed(ids[:21] * 2 + ids[21:40]), "40 different texts in 61 rows")
    many = [f"u{i}" for i in range(1001)]
    refused(lambda: typed(many, None, ":category"), "1,001 categories", "1,000")
    refused(lambda: typed(many * 3), "1,001 categories")
    assert len(typed(many[:1000] * 3).categories) == 1000


def test_one_bad_cell_among_numbers():
    cells = [str(i) for i in range(40)]
    cells[6], cells[20] = "12a", None
    refused(lambda: typed(cells), "column 'x' holds '12a' among numbers in row 7", "x:category", "leave it empty")
    cells[30:32] = ["?"] * 2
    refused(lambda: typed(cells), "'12a'", "in 3 rows, first in row 7", "among numbers")
    cells[32:36] = ["?"] * 4  # 7 of 39: perhaps they are no numbers
    refused(lambda: typed(cells), "identifier")
    assert len(typed(cells, None, ":category").categories) == 34
    assert typed(cells[:10]).kind == "category"
    assert typed(["38", "40", "42"] * 9).categories == ("38", "40", "42")  # texts as the file says
    refused(lambda: typed([f"{i % 3},5" for i in range(30)]), "numbers with a comma, like '0,5'", "row 1")
    refused(lambda: typed(["1,234.5", "7"] * 30), "numbers with a comma, like '1,234.5'")


def test_dates_that_are_read_as_texts():
    refused(lambda: typed(["01.02.2020", "3/4/2021 10:30"] * 15), "dates like '01.02.2020'", "2020-12-31", "x:category")
    refused(lambda: typed([None, "2020/1/2"] * 25), "dates like '2020/1/2'", "in 25 rows, first in row 2")
    cells = [f"2020-01-{1 + i % 9:02}" for i in range(30)]
    assert typed(cells).kind == "category"  # texts as the file says
    cells[6] = "soon"
    refused(lambda: typed(cells), "'soon' among dates in row 7", "2020-12-31", "leave it empty", "x:category")
    assert len(typed(cells, None, ":category").categories) == 10
    assert typed(["1.2.3", "10.0.12"] * 15).kind == "category"  # versions, not dates
    assert typed(["01.02.2020"] * 19).kind == "category"  # too few to judge


def test_what_encode_refuses():
    like = pa.table({"a": ["x", "y"], "n": [5, 2], "f": [1.5, 2.0], "b": [True, False], "d": DATES[:2]})
    columns = columns_of(like, name="t")

    def tried(**changes):
        names = {
            name: changes.get(name, like.column(name))
            for name in like.column_names
            if name not in changes.get("drop", ())
        }
        return lambda: encode(pa.table({**names, **changes.get("add", {})}), columns, name="new.csv")

    refused(tried(drop=["n", "a"], add={"N ": [1, 2]}), "no column 'a', 'n'", "did you mean 'N '", "new.csv")
    refused(tried(drop=["d"]), "no column 'd'", "the columns of the model: a, n, f, b, d", "add it")
    refused(tried(a=["z", "w\x1b"]), r"'z', 'w\x1b'", "2 rows, first in row 1", "x, y", "leave the cell empty")
    refused(tried(a=[[1], [2]]), "'a'", "list")
    refused(tried(n=["7", "1x"]), "'n' holds text, like '1x' in row 2", "int64")
    refused(tried(n=[1.0, 1.5]), "'n' holds 1.5", "whole numbers")
    refused(tried(n=DATES[:2]), "'n'", "date32")
    refused(tried(f=[b"1", b"2"]), "'f'", "binary")
    refused(tried(f=[1.0, float("inf")]), "'f'", "infinite")
    refused(tried(b=[1, 2]), "'b' holds 2")
    refused(tried(d=[1, 2]), "'d' holds type int64", "date32")
    refused(tried(a=["z"] * 1 + ["x"]), "'z'")


def test_what_encode_takes():
    like = pa.table(
        {"a": ["x", "y"], "n": pa.array([5, 2], pa.uint8()), "b": [True, False], "d": DATES[:2], "k": [3, 4]}
    )
    columns = columns_of(like, ["a", "n", "b", "d", "k:category"], name="t")
    new = pa.table(
        {
            "zz": [1, 2, 3],
            "d": pa.array([datetime(1970, 1, 2, 12), None, datetime(1969, 12, 31, 23)], pa.timestamp("ns")),
            "k": [4.0, None, 3.0],
            "b": pa.nulls(3),
            "n": [300.0, float("nan"), 1.0],
            "a": pa.array(["y", None, "x"]).dictionary_encode(),
            "y\n": [1, 2, 3],
        }
    )
    cells, notes = encode(new, columns, name="t")
    assert notes == (r"ignored columns that the model does not know: zz, y\n",)
    np.testing.assert_array_equal(cells.values, [[1, 300, 0, 1, 1], [0, 0, 0, 0, 0], [0, 1, 0, -1, 0]])
    np.testing.assert_array_equal(cells.observed, [[1, 1, 0, 1, 1], [0] * 5, [1, 1, 0, 1, 1]])


@pytest.mark.parametrize(("unit", "value"), [("s", 90_000), ("ms", 90_000_000), ("us", 90_000_000_000)])
def test_dates_in_other_units(unit, value):
    column = typed([datetime(1970, 1, 2, 1)], pa.timestamp(unit))
    for other in ("s", "ms", "us", "ns"):
        table = pa.table({"x": pa.array([datetime(1970, 1, 2, 1)], pa.timestamp(other, "UTC"))})
        assert encode(table, [column], name="t")[0].values.item() == value


def test_fit_reads_the_training_rows_alone():
    table = pa.table(
        {
            "n": pa.array([1, 2, 3, 100, None], pa.int16()),
            "f": [1.0, None, 4.0, 9.0, 9.0],
            "b": [True, False, True, True, None],
            "c": [7, 7, 7, 8, 7],
            "s": ["x", "x", "x", "y", "z"],
        }
    )
    columns, cells, notes = fitted(table, [0, 1, 2])
    assert [c.offset for c in columns] == [2.0, 2.5, 0.0, 7.0, 0.0]
    np.testing.assert_allclose([c.scale for c in columns], [np.sqrt(2 / 3), 1.5, 1, 1, 1], rtol=1e-15)
    assert [c.constant for c in columns] == [False, False, False, True, True]
    assert [c.missing for c in columns] == [False, True, False, False, False]
    assert columns[4].categories == ("x", "y", "z")
    assert [n.split(":")[0] for n in notes] == ["column 'c' is constant (7)", "column 's' is constant (x)"]
    values, observed = to_model(cells, columns)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[:, 0], np.array([-1, 0, 1, 98, 0]) / np.sqrt([2 / 3] * 4 + [1]), rtol=1e-6)
    np.testing.assert_array_equal(values[:, 2], [1, 0, 1, 1, 0])
    np.testing.assert_array_equal(observed, cells.observed[:, :3])
    back = to_table(values, columns, observed=observed)
    assert back.schema == table.schema
    assert back.slice(0, 3).equals(table.slice(0, 3))
    assert back.column("s").to_pylist() == ["x"] * 5
    _, again = encode(table, columns, name="t")
    assert [n.split(" in training")[0] for n in again] == ["column 'c' was constant (7)", "column 's' was constant (x)"]
    assert "the 2 other values" in again[1]


def test_a_constant_column_may_hold_what_it_never_held():
    columns, _, _ = fitted(pa.table({"s": ["x"] * 3, "n": [1, 2, 4]}))
    cells, notes = encode(pa.table({"s": ["new", "x", None], "n": [1, 2, 4]}), columns, name="t")
    assert "the 1 other values" in notes[0]
    assert cells.values[:, 0].tolist() == [0, 0, 0]
    assert cells.observed[:, 0].tolist() == [True, True, False]


def test_one_value_with_missing_cells_stays_in_the_model():
    columns, cells, notes = fitted(pa.table({"x": [5, None, 5], "y": [1, 2, 4]}))
    assert (columns[0].constant, columns[0].missing, columns[0].offset, columns[0].scale) == (False, True, 5.0, 1.0)
    assert notes == ()
    assert to_model(cells, columns)[0][:, 0].tolist() == [0, 0, 0]


def test_rows_that_are_all_the_same():
    table = pa.table({"x": [5.0] * 3, "b": [True] * 3, "s": ["k"] * 3})
    columns, cells, notes = fitted(table)
    assert notes == ("all rows are identical: zero variance",)
    assert [(c.constant, c.scale) for c in columns] == [(False, 1.0)] * 3
    values, observed = to_model(cells, columns)
    assert values.tolist() == [[0, 1, 0]] * 3
    assert to_table(values, columns, observed=observed).equals(table)


def test_no_cell_among_the_training_rows():
    table = pa.table({"x": [None, None, 5], "y": [1, 2, 4]})
    refused(lambda: fitted(table, [0, 1]), "no training row has a value in column 'x'")


@pytest.mark.parametrize("size", [1e300, 1e-300, 1e155, 3e-310, 1.0])
def test_any_magnitude_without_overflow(size):
    values = np.array([-1.0, 0.25, 0.5, 1.0]) * size
    columns, cells, _ = fitted(pa.table({"x": values}))
    np.testing.assert_allclose(columns[0].offset / size, 0.1875, rtol=1e-9)
    np.testing.assert_allclose(columns[0].scale / size, np.std([-1, 0.25, 0.5, 1]), rtol=1e-9)
    back = to_units(to_model(cells, columns)[0], columns)
    np.testing.assert_allclose(back[:, 0] / size, values / size, rtol=1e-6)


def test_a_spread_of_rounding_alone_is_not_scaled_up():
    columns, _, _ = fitted(pa.table({"x": [1.0, 1.0 + 2e-16, 1.0 - 2e-16], "y": [1, 2, 4]}))
    assert columns[0].scale == 1.0
    assert not columns[0].constant


def test_values_too_far_for_float32():
    columns, _, _ = fitted(pa.table({"x": [1e-30, 2e-30, 4e-30]}))
    cells, _ = encode(pa.table({"x": [1e-30, 1e300]}), columns, name="t")
    refused(lambda: to_model(cells, columns), "'x'", "too far", "row 2")


INTEGERS = [pa.type_for_alias(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)]


@pytest.mark.parametrize("type_", INTEGERS, ids=str)
def test_integers_are_rounded_and_clipped(type_):
    limits = np.iinfo(type_.to_pandas_dtype())
    column = Column("x", "integer", str(type_), step=1.0)
    found = to_table(np.array([[2.5], [-1e30], [1e30], [3.4]]), [column]).column(0).to_pylist()
    assert found[0] == 2
    assert found[1] == limits.min
    assert found[2] <= limits.max
    np.testing.assert_allclose(found[2], limits.max, rtol=1e-15)
    assert found[3] == 3


def test_what_decoding_rounds_and_clips():
    def back(kind, dtype, *values, **more):
        return to_table(np.array(values)[:, None], [Column("x", kind, dtype, **more)]).column(0).to_pylist()

    assert back("boolean", "bool", 0.49, 0.5, -3.0, 9.0) == [False, True, False, True]
    assert back("boolean", "uint8", 0.49, 0.5, -3.0, 9.0) == [0, 1, 0, 1]
    assert back("category", "string", 0.4, 0.6, -3.0, 9.0, categories=("a", "b")) == ["a", "b", "a", "b"]
    assert back("category", "int8", 0.4, 0.6, categories=("5", "-7")) == [5, -7]
    assert back("date", "date32[day]", 0.6, -0.6, step=1.0) == [date(1970, 1, 2), date(1969, 12, 31)]
    assert back("date", "date64[ms]", 0.6 * 86_400_000, step=86_400_000.0) == [date(1970, 1, 2)]
    assert back("numeric", "decimal128(4, 2)", 1.005, 1e9, -1e300) == [
        Decimal("1.00"),
        Decimal("99.99"),
        Decimal("-99.99"),
    ]
    assert back("numeric", "float", 1e300, -1e300) == [np.finfo(np.float32).max, np.finfo(np.float32).min]
    assert back("numeric", "int8", 1.6, 900.0) == [2, 127]
    assert back("numeric", "double", float("inf")) == [np.finfo(np.float64).max]


def test_what_decoding_refuses():
    columns = (Column("x", "numeric", "double"), Column("y", "integer", "int8", offset=3.0, constant=True))
    refused(lambda: to_table(np.zeros((3, 2)), columns), "(3, 2)", "(N, 1)")
    refused(lambda: to_units(np.zeros(3), columns), "(3,)")
    refused(lambda: to_table(np.array([[1.0], [np.nan]]), columns), "'x' holds NaN in row 2")
    refused(lambda: to_table(np.zeros((3, 1)), columns, observed=np.ones((3, 2), dtype=bool)), "(3, 2)")
    gone = to_table(np.array([[1.0], [np.nan]]), columns, observed=np.array([[True], [False]]))
    assert gone.to_pydict() == {"x": [1.0, None], "y": [3, 3]}
    for dtype in ("foo", "decimal128(99, 2)", "decimal7(3, 2)", "dictionary<values=foo, indices=int8, ordered=0>"):
        refused(lambda dtype=dtype: arrow_type(dtype), "no type of cells")


def test_units_are_not_rounded():
    columns = (Column("n", "integer", "int8", 10.0, 4.0, 1.0), Column("b", "boolean", "bool", constant=True))
    found = to_units(np.array([[0.3], [-9.0]], dtype=np.float32), columns)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [[11.2], [-26.0]], rtol=1e-7)


LABELS = [
    (pa.array([10, 9, 10]), ["10", "9", "10"], ("9", "10")),
    (pa.array([1, 0, 1], pa.int8()), ["1", "0", "1"], ("0", "1")),
    (pa.array([True, False, True]), ["true", "false", "true"], ("false", "true")),
    (pa.array(["b\0", "a", "é"]), ["b\0", "a", "é"], ("a", "b\0", "é")),
    (pa.array(["b", "a", "b"]).dictionary_encode(), ["b", "a", "b"], ("b", "a")),
    (pa.array([1.0, 2.5, 1.0]), ["1", "2.5", "1"], ("1", "2.5")),
    (pa.array(DATES[:2]), ["1970-01-03", "1969-12-31"], ("1969-12-31", "1970-01-03")),
]


@pytest.mark.parametrize(("array", "expected", "classes"), LABELS, ids=lambda v: str(v)[:20])
def test_labels_there_and_back(array, expected, classes):
    found, column = texts(pa.table({"y": array}), "y")
    assert found.tolist() == expected
    assert all(type(text) is str for text in found)
    assert column.categories == classes
    back = arrow_column(expected, column)
    assert back.type == array.type
    assert back.to_pylist() == array.to_pylist()
    refused(lambda: arrow_column(["none of them"], column), "'y'", "'none of them'")


def test_labels_that_are_refused():
    refused(lambda: texts(pa.table({"y": ["a", None, None]}), "y"), "no label", "2 rows", "row 2")
    refused(lambda: texts(pa.table({"label": ["a"]}), "labels"), "'labels'", "did you mean 'label'")
    refused(lambda: texts(pa.table({"y": [[1], [2]]}), "y"), "list")
    refused(lambda: arrow_column(["1", "x"], Column("y", "integer", "int64")), "'y'")
    assert len(texts(pa.table({"y": [f"name {i}" for i in range(50)]}), "y")[1].categories) == 50


def test_weights():
    for array in (pa.array([1, 0, 3]), pa.array([1.0, 0.0, 3.0]), pa.array([Decimal(1), Decimal(0), Decimal(3)])):
        found = numbers(pa.table({"w": array}), "w")
        assert found.dtype == np.float64
        assert found.tolist() == [1, 0, 3]
    assert numbers(pa.table({"w": [True, False]}), "w").tolist() == [1, 0]
    refused(lambda: numbers(pa.table({"w": [1, None]}), "w"), "'w' holds no number in row 2")
    refused(lambda: numbers(pa.table({"w": [1.0, float("nan")]}), "w"), "no number in row 2")
    refused(lambda: numbers(pa.table({"w": [1.0, float("inf")]}), "w"), "infinite")
    refused(lambda: numbers(pa.table({"w": [1, -2, -3]}), "w"), "negative", "2 rows, first in row 2")
    refused(lambda: numbers(pa.table({"w": [0, 0]}), "w"), "zeros alone")
    refused(lambda: numbers(pa.table({"w": ["1", "2"]}), "w"), "string")
    refused(lambda: numbers(pa.table({"w": DATES}), "w"), "date32")
    refused(lambda: numbers(pa.table({"w": [1]}), "v"), "'v'")


def test_columns_of_plain_arrays():
    for dtype, kind, name in (
        ("f2", "numeric", "halffloat"),
        (">f4", "numeric", "float"),
        ("f8", "numeric", "double"),
        ("u1", "integer", "uint8"),
        (">i8", "integer", "int64"),
        ("?", "boolean", "bool"),
    ):
        step = 1.0 if kind == "integer" else 0.0
        assert column_of_array("x", np.zeros((2, 3), dtype)) == Column("x", kind, name, step=step)
    for dtype in (complex, "U3", object, np.longdouble, "M8[s]"):
        refused(lambda dtype=dtype: column_of_array("x", np.zeros(3, dtype)), "'x'", "numbers or booleans")
