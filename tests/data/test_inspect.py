"""What `inspect` finds: against counts and moments of the very cells that were written."""

import csv
import json
import shlex
from datetime import date, timedelta

import numpy as np
import pytest

from lowerbound.core.errors import DataError
from lowerbound.data import from_arrays, from_sequences, load_data
from lowerbound.data.inspect import inspect

N = 83


@pytest.fixture(scope="module")
def cells():
    """Columns of a table, by name, None where missing."""
    r = np.random.default_rng(3)
    height = [None if i % 11 == 4 else round(float(v), 2) for i, v in enumerate(170 + 9 * r.standard_normal(N))]
    return {
        "id": [1000 + 7 * i for i in range(N)],
        "height": height,
        "grade": [float(v) for v in r.integers(0, 4, N)],
        "sold": ["true" if v else "false" for v in r.integers(0, 2, N)],
        "colour": [None if i % 29 == 2 else ("red", "grün", "blue")[v] for i, v in enumerate(r.integers(0, 3, N))],
        "when": [date(2020, 1, 31) + timedelta(int(v)) for v in r.integers(0, 900, N)],
        "one": [5] * N,
        "far": [1e9 + round(float(v), 3) for v in r.standard_normal(N)],
    }


@pytest.fixture(scope="module")
def table(cells, tmp_path_factory):
    path = tmp_path_factory.mktemp("inspect") / "mixed.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(cells)
        writer.writerows([["" if v is None else v for v in row] for row in zip(*cells.values(), strict=True)])
    return path


@pytest.fixture(scope="module")
def facts(table):
    return inspect(load_data(table))


def column(facts, name):
    return next(c for c in facts.columns if c.name == name)


def test_counts_of_the_whole_table(facts):
    assert facts.rows == {"train": N - 8 - 7, "valid": 7, "test": 8}
    assert (facts.kind, facts.form, facts.support, facts.shape) == ("table", "csv", "mixed", (7,))
    assert facts.missing == {"height": 8, "colour": 3}
    assert facts.constant == ("one",)
    assert facts.duplicates == 0
    assert (facts.low, facts.high) == (None, None)
    json.dumps(facts.to_json(), allow_nan=False)


def test_numbers_are_those_of_the_cells(facts, cells):
    seen = np.array([v for v in cells["height"] if v is not None])
    height = column(facts, "height")
    assert (height.kind, height.dtype, height.missing) == ("numeric", "double", 8)
    assert height.distinct == len(set(seen))
    assert (height.low, height.high) == pytest.approx((seen.min(), seen.max()), abs=1e-9)
    assert (height.mean, height.std) == pytest.approx((seen.mean(), seen.std(ddof=1)), rel=1e-6)
    number = column(facts, "id")
    assert (number.low, number.high, number.distinct) == (1000, 1000 + 7 * (N - 1), N)


def test_categories_dates_and_constants_are_shown_as_they_came(facts, cells):
    colours = [v for v in cells["colour"] if v is not None]
    assert dict(column(facts, "colour").categories) == {c: colours.count(c) for c in set(colours)}
    assert dict(column(facts, "sold").categories) == {s: cells["sold"].count(s) for s in ("true", "false")}
    when = column(facts, "when")
    assert (when.low, when.high, when.mean) == (str(min(cells["when"])), str(max(cells["when"])), None)
    one = column(facts, "one")
    assert (one.low, one.high, one.constant, one.distinct) == (5.0, 5.0, True, 1)


def test_columns_that_look_odd_are_named(facts):
    whole = [note for note in facts.notes if "whole numbers" in note]
    assert len(whole) == 1
    assert whole[0].endswith("--columns id height grade:category sold colour when one far")
    assert [w for w in facts.warnings if "identifier" in w] == [
        "column 'id' rises from row to row: it looks like an identifier, which says nothing of a row"
    ]


def test_the_advice_about_whole_numbers_can_be_followed(facts, table):
    words = next(n for n in facts.notes if "whole" in n).split("--columns ")[1].split()
    grade = column(inspect(load_data(table, columns=words)), "grade")
    assert (grade.kind, len(grade.categories)) == ("category", 4)


def test_repeated_rows_and_classes():
    x = np.arange(60.0, dtype=np.float32).reshape(20, 3)
    data = from_arrays(np.concatenate([x, x[:4]]), ["b"] * 5 + ["a"] * 19, name="twice")
    facts = inspect(data)
    assert facts.duplicates == 4
    assert facts.classes == (("a", 19), ("b", 5))
    assert (facts.low, facts.high) == (0, 59)
    assert [c.name for c in facts.columns] == ["x0", "x1", "x2"]
    assert not [n for n in facts.notes if "--columns" in n]  # arrays have no columns whose kind can be forced


def test_at_most_twenty_classes_are_listed():
    y = [f"class {i}" for i in range(23)] + ["class 7"]
    facts = inspect(from_arrays(np.random.default_rng(0).random((24, 5)), y))
    assert (len(facts.classes), facts.num_classes, facts.classes[0]) == (20, 23, ("class 7", 2))


def test_images_have_a_range_and_pixels_that_never_change():
    x = np.random.default_rng(0).integers(3, 250, (31, 4, 5), dtype=np.uint8)
    x[:, 0, :2] = 9
    facts = inspect(from_arrays(x))
    assert (facts.low, facts.high) == pytest.approx((x.min() / 255, x.max() / 255))
    assert (facts.constant_values, facts.columns) == (2, ())


def test_pairs_and_weights_are_seen():
    x = np.random.default_rng(0).random((12, 1, 3, 4)).astype(np.float32)
    facts = inspect(from_arrays(x, seen=x / 2, weight=np.arange(1, 13)))
    assert facts.paired
    assert facts.weighted
    assert not inspect(from_arrays(x)).paired


def test_names_in_advice_are_words_of_a_command(tmp_path):
    lines = [f"{i % 3}.0,{i * 0.37}" for i in range(60)]
    (tmp_path / "a.csv").write_text("my grade,size\n" + "\n".join(lines) + "\n")
    words = next(n for n in inspect(load_data(tmp_path / "a.csv")).notes if "whole" in n).split("--columns ")[1]
    assert shlex.split(words) == ["my grade:category", "size"]
    asked = "How satisfied are you, all things considered, with the way our service works today?"
    lines = [f"text{i},{i % 5}.5" for i in range(40)]
    (tmp_path / "b.csv").write_text(f'id,"{asked}"\n' + "\n".join(lines) + "\n")
    with pytest.raises(DataError) as error:
        load_data(tmp_path / "b.csv")
    words = str(error.value).split("--columns ")[1].split(" or force it")[0]
    assert shlex.split(words) == [asked]


def test_sequences_and_modalities_are_no_columns_of_numbers():
    for data in (from_sequences(["anna", "bob", "cy"] * 9), load_data("digits", with_label=True)):
        facts = inspect(data)
        assert facts.columns == ()
        assert not [note for note in facts.notes if "whole numbers" in note]
