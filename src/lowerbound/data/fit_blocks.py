"""Columns of a table that stays on disk: found and fitted in one pass over its blocks."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import numpy as np
import pyarrow as pa

from ..core.errors import DataError
from ..core.spec import Column, ColumnKind
from .stored import Spans
from .tables import (
    FORCED,
    MAX_CATEGORIES,
    Known,
    all_missing,
    check_fit,
    fitted_to,
    kind_of,
    leave_out,
    named,
    numbers_of,
    refuse_odd_texts,
    settled,
    step_of,
    texts_of,
    unfit,
    untakeable,
)


@dataclass
class Seen:
    """What was seen of one column so far.

    Args:
        name: its name.
        type: of its cells.
        kind: its kind, before it is known whether whole numbers are all 0 and 1.
        forced: True if the kind was asked for.
    """

    name: str
    type: pa.DataType
    kind: ColumnKind
    forced: bool
    low: float = np.inf
    high: float = -np.inf
    lost: int = 0
    rows: int = 0  # of training, as all that follows
    cells: int = 0
    train_low: float = np.inf
    train_high: float = -np.inf
    mean: np.longdouble = field(default_factory=lambda: np.longdouble(0))  # values reach 1e300
    squares: np.longdouble = field(default_factory=lambda: np.longdouble(0))
    categories: set[str] = field(default_factory=set)
    train_categories: set[str] = field(default_factory=set)

    def add(self, cells: pa.ChunkedArray, train: np.ndarray, names: Sequence[str], where: str) -> None:
        """Take in a block `[n]`; `train` tells which of its rows are training rows."""
        self.rows += int(train.sum())
        with named(self.name, where):
            if self.kind == "category":
                self._add_texts(cells, train, names, where)
            else:
                self._add_numbers(cells, train, where)

    def _add_texts(self, cells: pa.ChunkedArray, train: np.ndarray, names: Sequence[str], where: str) -> None:
        texts = texts_of(cells)
        if not self.forced:
            refuse_odd_texts(texts, self.name, where)
        own = texts.filter(pa.array(train))
        self.lost += texts.null_count
        self.cells += len(own) - own.null_count
        self.categories |= set(texts.unique().drop_null().to_pylist())
        self.train_categories |= set(own.unique().drop_null().to_pylist())
        if len(self.categories) > MAX_CATEGORIES:
            raise DataError(
                f"column {self.name!r} has more than {MAX_CATEGORIES:,} categories",
                where=where,
                fix=leave_out(self.name, names),
            )

    def _add_numbers(self, cells: pa.ChunkedArray, train: np.ndarray, where: str) -> None:
        values, observed = numbers_of(cells, self.name, where)
        check_fit(values, observed, Column(self.name, self.kind, str(self.type)), where)
        kept, own = values[observed], values[observed & train]
        self.lost += int((~observed).sum())
        if kept.size:
            self.low, self.high = min(self.low, float(kept.min())), max(self.high, float(kept.max()))
        if not own.size:
            return
        self.train_low, self.train_high = min(self.train_low, float(own.min())), max(self.train_high, float(own.max()))
        mean, variance = np.longdouble(own.mean(dtype=np.longdouble)), np.longdouble(own.var(dtype=np.longdouble))
        total, apart = self.cells + own.size, mean - self.mean  # Chan, Golub and LeVeque 1979
        self.squares += variance * own.size + apart * apart * self.cells * own.size / total
        self.mean += apart * own.size / total
        self.cells = total

    def column(self, names: Sequence[str], where: str) -> Column:
        """Return the column, not yet fitted."""
        if self.kind == "category":
            if not self.categories:
                raise all_missing(self.name, names, where)
            number = kind_of(self.type) in ("numeric", "integer")
            found = sorted(self.categories, key=Decimal) if number else sorted(self.categories)
            return Column(self.name, "category", str(self.type), categories=tuple(found))
        if self.low > self.high:
            raise all_missing(self.name, names, where)
        kind = self.kind
        if not self.forced and kind == "integer" and (self.low, self.high) == (0, 1):
            kind = "boolean"
        return Column(self.name, kind, str(self.type), step=step_of(self.type) if kind in ("integer", "date") else 0.0)

    def fitted(self, column: Column) -> Column:
        """Return the column fitted to the training rows."""
        if column.kind == "category":
            places = sorted(column.categories.index(text) for text in self.train_categories) or [0]
            return fitted_to(column, Known(self.rows, self.cells, float(places[0]), float(places[-1]), 0.0, 1.0))
        mean, std = float(self.mean), float(np.sqrt(self.squares / max(1, self.cells)))
        std = std if std > 1e-12 * abs(mean) else 1.0
        return fitted_to(column, Known(self.rows, self.cells, self.train_low, self.train_high, mean, std))


def started(name: str, type_: pa.DataType, forced: ColumnKind | None, names: Sequence[str], where: str) -> Seen:
    """Return a column of which nothing was seen yet.

    Raises:
        DataError: if no model takes its type, or it cannot be found out block by block.
    """
    natural = kind_of(type_)
    if natural is None:
        raise untakeable(type_, name, names, where)
    if pa.types.is_dictionary(type_):
        raise DataError(
            f"column {name!r} is a dictionary, whose order is that of all its blocks",
            where=where,
            fix="--memory hold, or write the column as plain text",
        )
    if forced is not None and forced not in FORCED[natural]:
        raise unfit(f"type {type_}", name, forced, where)
    return Seen(name, type_, forced or natural, forced is not None)


def inside(spans: Spans, start: int, stop: int) -> np.ndarray:
    """Tell which of the places `start`..`stop`-1 are in the spans, `[stop - start]`."""
    places = np.arange(start, stop)
    span = np.searchsorted(spans.starts, places, "right") - 1
    return (span >= 0) & (places < spans.starts[span] + spans.sizes[span])


def settled_columns(seen: Sequence[Seen], where: str) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """Return the columns fitted to the training rows, and notes for people."""
    names = [one.name for one in seen]
    fitted, notes = settled(tuple(one.fitted(one.column(names, where)) for one in seen))
    fitted = tuple(replace(column, missing=one.lost > 0) for column, one in zip(fitted, seen, strict=True))
    return fitted, notes
