"""Rows into training, validation and test split, by seed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from ..core.noise import Stream, generator
from ..core.spec import DataSpec
from .checks import warnings_of
from .dataset import Data, Dataset, SplitName, Values

Memory: TypeAlias = Literal["auto", "hold", "map"]
"""Where rows are: "map" leaves them on disk, "hold" reads them, "auto" decides by their size."""


@dataclass(frozen=True)
class Rows:
    """All rows of something before they are split.

    Args:
        x: stored values `[N, *shape]`.
        y: labels `[N]` as numbers, or None.
        weight: row weights `[N]`, or None.
        seen: what the encoder sees, `[N, *shape]`, or None.
        mask: True where observed, `[N, *shape]`, or None.
    """

    x: Values
    y: Tensor | None = None
    weight: Tensor | None = None
    seen: Values | None = None
    mask: Values | None = None


@dataclass(frozen=True)
class Plan:
    """Row numbers of each split, in order; `test` is None where a test split was given."""

    train: Tensor
    valid: Tensor
    test: Tensor | None


@dataclass(frozen=True)
class Fractions:
    """How rows are split: the seed, and the shares of validation and test rows where they are asked for.

    Args:
        seed: of the split.
        valid: share of the training rows, or None.
        test: share of all rows, or None.
    """

    seed: int
    valid: float | None = None
    test: float | None = None

    def of(self, count: int, most: int) -> tuple[float, float]:
        """Return the shares of `count` rows, one tenth but no more than `most` rows unless asked for."""
        usual = min(0.1, most / max(1, count))
        return usual if self.valid is None else self.valid, usual if self.test is None else self.test


def plan_splits(count: int, held: object | None, seed: int, valid_fraction: float, test_fraction: float) -> Plan:
    """Split `count` rows by seed; no test rows are split off where some are given.

    Raises:
        DataError: if there are fewer than 2 rows.
        UsageError: if a fraction or the seed is out of range.
    """
    check_seed(seed)
    if count < 2:
        raise DataError(f"{count} examples cannot be split", expected="at least 2: one alone has no spread to learn")
    order = torch.randperm(count, generator=generator(Stream.SPLITS, seed))
    test = None
    if held is None:
        cut = _share(count, test_fraction, "test fraction")
        test, order = order[:cut].sort().values, order[cut:]
    cut = _share(len(order), valid_fraction, "validation fraction")
    return Plan(order[cut:].sort().values, order[:cut].sort().values, test)


def check_seed(seed: int) -> None:
    """Raise UsageError if the seed of the data is out of range."""
    if not 0 <= seed < 1 << 63:
        raise UsageError(f"the seed of the data cannot be {seed}", expected="0 to 2^63 - 1")


def _share(rows: int, fraction: float, what: str) -> int:
    if not 0 <= fraction < 1:
        raise UsageError(f"the {what} cannot be {fraction}", expected="0 or more and below 1")
    return int(rows * fraction)


def make_data(
    rows: Rows,
    held: Rows | None,
    plan: Plan,
    spec: DataSpec,
    *,
    scale: int = 1,
    seen_scale: int = 1,
    notes: tuple[str, ...] = (),
) -> Data:
    """Return `Data` of rows split by `plan`, or with the given test rows; weights are made 1 on average in training."""
    spec = replace(spec, size=len(plan.train), paired=rows.seen is not None)
    check_weights(rows.weight, {"train": plan.train, "valid": plan.valid, "test": plan.test})
    weight = None if rows.weight is None else (rows.weight / rows.weight[plan.train].mean()).float()
    whole = Dataset(
        rows.x, rows.y, spec, "train", scale,
        seen=rows.seen, seen_scale=seen_scale, mask=rows.mask, weight=weight,
    )  # fmt: skip

    def part(index: Tensor, split: SplitName) -> Dataset:
        return replace(whole.rows(index), split=split)

    if held is None:
        assert plan.test is not None, "test rows are given or split off"
        test = part(plan.test, "test")
    else:
        places = torch.arange(len(held.x)) + len(rows.x)
        seen_too = {"seen": held.seen, "seen_scale": seen_scale, "mask": held.mask}
        test = Dataset(held.x, held.y, spec, "test", scale, index=places, **seen_too)
    data = Data(part(plan.train, "train"), part(plan.valid, "valid"), test, notes=notes)
    return replace(data, warnings=warnings_of(data))


def check_weights(weight: Tensor | None, places: Mapping[str, Tensor | None]) -> None:
    """Raise DataError if all rows of a split, given by their places, have weight 0."""
    for name, index in places.items():
        if weight is not None and index is not None and len(index) and not bool(weight[index].any()):
            called = {"train": "training", "valid": "validation"}.get(name, name)
            raise DataError(
                f"all {len(index)} {called} rows have weight 0",
                expected="some weight in each split",
                fix="leave out rows of weight 0, or split by another --data-seed",
            )


def weights_of(weight: Any, rows: int, name: str) -> Tensor | None:
    """Return row weights as float64 `[N]`.

    Raises:
        DataError: if they are not one for each row, or not finite numbers of 0 or more, or all 0.
    """
    if weight is None:
        return None
    try:
        given = np.asarray(weight, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"the weights of {name} are no numbers: {error}") from error
    if given.shape != (rows,):
        raise DataError(f"{name} has {rows} examples but weights of shape {given.shape}", expected=f"({rows},)")
    if not np.isfinite(given).all() or given.min() < 0 or given.max() == 0:
        raise DataError(
            f"the weights of {name} go from {given.min()} to {given.max()}",
            expected="finite numbers of 0 or more, not all 0",
        )
    return torch.from_numpy(given.copy())
