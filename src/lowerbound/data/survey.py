"""One pass over rows on disk: what must be known of all values before a model is built."""

from dataclasses import dataclass

import numpy as np

from ..core.distribution import Support
from ..core.errors import DataError
from ..core.spec import Kind
from .stored import Source, Stored, all_places


@dataclass(frozen=True)
class Survey:
    """What all rows have in common.

    Args:
        low: the smallest value at each place of a row, `[*shape]`.
        high: the largest one.
        binary: True if all values are 0 or 1.
        signs: True if all are -1 or 1.
    """

    low: np.ndarray
    high: np.ndarray
    binary: bool
    signs: bool

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        return float(self.low.min()), float(self.high.max())

    def support(self, kind: Kind) -> Support:
        """Where the values lie, as it is found for arrays in memory that are of no integer type."""
        low, high = self.range
        if self.binary:
            return "binary"
        return "unit" if kind == "image" and low >= 0 and high <= 1 else "real"


def survey(source: Source, name: str) -> Survey:
    """Look at all rows of a source once, some MiB at a time.

    Raises:
        DataError: if a value is not finite as float32.
    """
    rows = Stored(source, all_places(source.shape[0]))
    found: Survey | None = None
    for piece in rows.pieces():
        found = looked_at(found, rows[piece].numpy(), piece.start, name)
    assert found is not None, "a source has rows"
    return found


def looked_at(found: Survey | None, values: np.ndarray, start: int, name: str) -> Survey:
    """Return what is known once further rows `[n, *shape]`, those from number `start` on, were looked at.

    Raises:
        DataError: if a value is not finite as float32.
    """
    low, high = values.min(0), values.max(0)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):  # NaN passes through both
        bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
        raise DataError(
            f"{name} has values that are not finite as float32",
            where=f"first in row {start + int(np.argmax(bad)) + 1:,}",
            fix="remove or fill them, or scale the data down",
        )
    if found is None:
        found = Survey(low, high, binary=True, signs=True)
    low, high = np.minimum(low, found.low), np.maximum(high, found.high)
    least, most = float(low.min()), float(high.max())
    binary = found.binary and least >= 0 and most <= 1
    signs = found.signs and least == -1
    if values.dtype != np.uint8:  # of whole numbers the range says all
        binary = binary and bool(((values == 0) | (values == 1)).all())
    signs = signs and bool((np.abs(values) == 1).all())
    return Survey(low, high, binary, signs)
