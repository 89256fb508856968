"""What data hold, found before anything is trained: counts, ranges, classes, missing cells, columns that look odd."""

from dataclasses import asdict, dataclass, replace
from math import ceil, log10
from shlex import quote
from typing import Any

import numpy as np
import torch

from ..core.spec import Column, ColumnKind
from .checks import repeated
from .dataset import Data, Dataset
from .stored import Stored

MOST = 20  # classes and categories that are listed
LOOKED_AT = 10_000  # rows, of those on disk
FEW_VALUES = 50  # distinct whole numbers up to which a column of floats may hold classes
FORCEABLE = ("csv", "parquet")  # forms whose columns have kinds that can be forced


@dataclass(frozen=True)
class ColumnFacts:
    """What one column of a table holds, over the rows of all splits.

    Args:
        name: its name.
        kind: its kind.
        dtype: the type of its cells where they came from.
        missing: number of missing cells.
        distinct: number of different values.
        mean: mean in the data's units, of real values.
        std: their standard deviation (n - 1).
        low: the smallest value: a number, or a date as text.
        high: the largest value.
        categories: the most frequent categories with their counts, at most 20.
        constant: True if all training rows have one value.
    """

    name: str
    kind: ColumnKind
    dtype: str
    missing: int = 0
    distinct: int = 0
    mean: float | None = None
    std: float | None = None
    low: float | str | None = None
    high: float | str | None = None
    categories: tuple[tuple[str, int], ...] = ()
    constant: bool = False


@dataclass(frozen=True)
class Facts:
    """What data hold.

    Args:
        name: what they are called.
        kind: "image", "table" or "points".
        form: what they came as.
        shape: shape of one example as a model sees it.
        support: where the values lie.
        rows: number of rows of each split.
        low: smallest value, in model units for images, else in the data's; None for mixed columns.
        high: largest value.
        paired: True if the encoder sees other values than those that are modelled.
        weighted: True if rows have weights.
        classes: the most frequent classes with their counts, at most 20.
        num_classes: how many classes there are.
        duplicates: rows that repeat an earlier one.
        constant: names of the constant columns.
        constant_values: number of values of an example that are the same in all training rows.
        missing: missing cells by column, where there are any.
        columns: the columns of a table.
        notes: what was found while reading and here, for people.
        warnings: what is probably wrong.
    """

    name: str
    kind: str
    form: str
    shape: tuple[int, ...]
    support: str
    rows: dict[str, int]
    low: float | None
    high: float | None
    paired: bool
    weighted: bool
    classes: tuple[tuple[str, int], ...]
    num_classes: int
    duplicates: int
    constant: tuple[str, ...]
    constant_values: int
    missing: dict[str, int]
    columns: tuple[ColumnFacts, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON."""
        return asdict(self)


def inspect(data: Data) -> Facts:
    """Return what data hold; numbers are over the rows of all splits, what is constant over the training rows.

    Of rows on disk the first 10,000 are looked at, as its notes say.
    """
    rows, spec, train = data.split("all"), data.spec, data.train
    looked: tuple[str, ...] = ()
    if isinstance(rows.x, Stored):
        looked = (f"of {len(rows):,} rows on disk the first {min(LOOKED_AT, len(rows)):,} were looked at",)
        rows, train = (part.take(LOOKED_AT).in_memory() for part in (rows, train))
    columns, notes, warnings = _columns(rows)
    low, high = _range(rows, columns)
    return Facts(
        name=spec.name,
        kind=spec.kind,
        form=spec.form,
        shape=spec.shape,
        support=spec.support,
        rows={"train": len(data.train), "valid": len(data.valid), "test": len(data.test)},
        low=low,
        high=high,
        paired=rows.seen is not None,
        weighted=rows.weight is not None,
        classes=_classes(rows),
        num_classes=spec.num_classes,
        duplicates=repeated(rows),
        constant=tuple(c.name for c in columns if c.constant),
        constant_values=_constant_values(train),
        missing={c.name: c.missing for c in columns if c.missing},
        columns=columns,
        notes=(*data.notes, *looked, *notes),
        warnings=(*data.warnings, *warnings),
    )


def _classes(rows: Dataset) -> tuple[tuple[str, int], ...]:
    if rows.y is None:
        return ()
    counts = torch.bincount(rows.y, minlength=rows.spec.num_classes).tolist()
    return tuple(sorted(zip(rows.spec.classes, counts, strict=True), key=lambda pair: -pair[1])[:MOST])


def _constant_values(rows: Dataset) -> int:
    """Count the values of an example that are the same in all rows."""
    x = rows.x[:].flatten(1)
    return int((x == x[:1]).all(0).sum()) if len(x) else 0


def _range(rows: Dataset, columns: tuple[ColumnFacts, ...]) -> tuple[float | None, float | None]:
    """Return smallest and largest value, None where columns hold more than plain numbers."""
    if columns:
        pairs = [(c.low, c.high) for c in columns]
        lows = [low for low, _ in pairs if isinstance(low, float)]
        highs = [high for _, high in pairs if isinstance(high, float)]
        return (min(lows), max(highs)) if len(lows) == len(highs) == len(columns) else (None, None)
    x = rows.x[:]
    return float(x.min()) / rows.scale, float(x.max()) / rows.scale


def _columns(rows: Dataset) -> tuple[tuple[ColumnFacts, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the facts of all columns, with what is to be noted and warned of; nothing for images."""
    spec = rows.spec
    if spec.kind in ("image", "sequence") or spec.modalities or len(spec.shape) != 1:
        return (), (), ()
    columns = spec.columns or tuple(Column(f"x{i}", "numeric", "float", constant=False) for i in range(spec.dims))
    facts, notes, warnings, place = [], [], [], 0
    for column in columns:
        if column.constant:
            facts.append(_constant(column, len(rows)))
            continue
        values, seen, kept = _cells(rows, column, place)
        place += 1
        facts.append(_facts(column, values[seen], int((~seen).sum())))
        notes += _whole_numbers(column, values[seen], kept, columns if spec.form in FORCEABLE else ())
        warnings += _identifier(column, values[seen])
    return tuple(facts), tuple(notes), tuple(warnings)


def _cells(rows: Dataset, column: Column, place: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return one column in the data's units, `[N]` float64, where it is observed, and the digit float32 kept of it."""
    values = rows.x[:][:, place].double().cpu().numpy()
    if rows.scale != 1:
        values = values / rows.scale
    mask = rows.mask_values()
    seen = np.ones(len(rows), bool) if mask is None else mask[:, place].bool().cpu().numpy()
    if not column.real:
        return values, seen, 0.0
    error = 1.2e-7 * column.scale * float(np.abs(values).max(initial=0.0))
    power = ceil(log10(max(error, 1e-280)))
    values = np.round(values * column.scale + column.offset, -power)
    if column.step:
        values = np.rint(values / column.step) * column.step
    return values, seen, 10.0**power


def _constant(column: Column, count: int) -> ColumnFacts:
    value = _shown(column.offset, column)
    if column.kind in ("category", "boolean"):
        return ColumnFacts(
            column.name, column.kind, column.dtype, 0, 1, categories=((str(value), count),), constant=True
        )
    mean = column.offset if column.kind != "date" else None
    std = 0.0 if column.kind != "date" else None
    return ColumnFacts(column.name, column.kind, column.dtype, 0, 1, mean, std, value, value, constant=True)


def _facts(column: Column, values: np.ndarray, missing: int) -> ColumnFacts:
    """Return the facts of the observed values `[n]` of a column that is not constant."""
    places, counts = np.unique(values, return_counts=True)
    found = ColumnFacts(column.name, column.kind, column.dtype, missing, len(places))
    if column.kind in ("category", "boolean"):
        order = np.argsort(-counts, kind="stable")[:MOST]
        return replace(found, categories=tuple((str(_shown(float(places[i]), column)), int(counts[i])) for i in order))
    if not len(values):
        return found
    found = replace(found, low=_shown(float(places[0]), column), high=_shown(float(places[-1]), column))
    if column.kind == "date":
        return found
    std = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return replace(found, mean=float(values.mean()), std=std)


def _shown(value: float, column: Column) -> float | str:
    """Return one value in the data's units: a number, or the text of a category, a boolean or a date."""
    if column.kind == "category":
        return column.categories[int(value)]
    if column.kind == "boolean":
        return "true" if value >= 0.5 else "false"
    if column.kind != "date":
        return float(value)
    from .tables import to_table

    one = replace(column, constant=False, offset=0.0, scale=1.0)
    return str(to_table(np.array([[value]]), (one,)).column(0)[0])


def _whole_numbers(column: Column, values: np.ndarray, kept: float, columns: tuple[Column, ...]) -> list[str]:
    """Note a column of floats that holds whole numbers alone, if float32 `kept` enough to tell: counts, or classes."""
    if column.kind != "numeric" or not len(values):
        return []
    if kept >= 1 or np.abs(values - np.rint(values)).max() > kept / 2:
        return []
    few = len(np.unique(np.rint(values))) <= FEW_VALUES
    kind = "category" if few else "integer"
    what = "if they are classes" if few else "if they are counts"
    if not columns:
        advice = "give them as labels (y in an .npz file) or as a column of a CSV file" if few else "save them as whole"
        return [f"column {column.name!r} holds whole numbers only; {what}: {advice}"]
    own = quote(f"{column.name}:{kind}")
    names = [own if c is column else quote(c.name) for c in columns]
    words = " ".join(names) if len(names) <= MOST else f"... {own} ..."
    return [f"column {column.name!r} holds whole numbers only; {what}: --columns {words}"]


def _identifier(column: Column, values: np.ndarray) -> list[str]:
    """Warn of a column of whole numbers that all differ and rise from row to row."""
    if column.kind != "integer" or len(values) < 3 or not (np.diff(values) > 0).all():
        return []
    return [f"column {column.name!r} rises from row to row: it looks like an identifier, which says nothing of a row"]
