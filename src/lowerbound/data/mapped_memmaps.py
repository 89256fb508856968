"""`numpy.memmap`s that are given as arrays: their rows are read from the file that they are in."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError, UsageError
from ..core.spec import Binarize, Kind, Layout
from .columns import Missing
from .dataset import Data
from .mapped import is_mapped, mapped_data
from .mapped_arrays import MappedArrays
from .mapped_files import mapped_arrays
from .mapped_pairs import with_seen
from .splits import Fractions, Memory


@dataclass(frozen=True)
class Given:
    """Arrays as `from_arrays` takes them; x is a `numpy.memmap`."""

    x: Any
    y: Any
    weight: Any
    seen: Any
    test: tuple[Any, Any] | None
    name: str
    kind: Kind | None
    layout: Layout | None


def stays(given: Given, memory: Memory) -> bool:
    """Tell whether rows stay in files, which all of them must be in.

    Raises:
        UsageError: if they are to, and are in none.
    """
    parts = {"": given.x, " (test)": None if given.test is None else given.test[0], " (seen)": given.seen}
    held = [what for what, x in parts.items() if x is not None and not _in_file(x)]
    if held and memory == "map":
        raise UsageError(
            f"{given.name}{held[0]} is in memory and cannot stay on disk",
            expected="a numpy.memmap",
            fix='numpy.load(path, mmap_mode="r")',
        )
    return not held and is_mapped(memory, given.x.nbytes)


def _in_file(x: Any) -> bool:
    return isinstance(x, np.memmap) and x.filename is not None


def from_memmap(
    given: Given,
    *,
    scale: int | None,
    binarize: Binarize,
    standardize: bool,
    missing: Missing,
    fractions: Fractions,
) -> Data:
    """Return data whose rows stay in the file of a `numpy.memmap`.

    Raises:
        DataError: if values, labels or partners do not fit.
        UsageError: if options do not fit each other.
    """
    found = _arrays(given.x, given, given.y, given.weight)
    if given.test is not None:
        found = replace(found, test=given.test, test_file=Path(given.test[0].filename))
    if standardize or missing == "keep":
        from .mapped_tables import array_table, mapped_table

        if given.test is not None or given.seen is not None or found.kind != "table" or found.x.ndim != 2:
            raise UsageError(
                "only tables are standardised or keep missing cells, and all their rows are given together",
                fix="give x [N, D] without `test`, `seen` or another `kind`",
            )
        table = array_table(found, given.name)
        return mapped_table(table, (), missing=missing, standardize=standardize, like=None, fractions=fractions)
    mapped = mapped_arrays(found, given.name)
    data = mapped_data(mapped, binarize=binarize, scale=scale, fractions=fractions)
    if given.seen is None:
        return data
    shown = _arrays(given.seen, given, None, None)
    return with_seen(data, mapped, mapped_arrays(shown, given.name))


def _arrays(x: np.memmap, given: Given, y: Any, weight: Any) -> MappedArrays:
    if x.dtype.kind not in "biuf":
        raise DataError(f"{given.name} has values of type {x.dtype} (complex or text)", expected="real numbers")
    return MappedArrays(x, Path(str(x.filename)), y, weight, given_kind=given.kind, given_layout=given.layout)
