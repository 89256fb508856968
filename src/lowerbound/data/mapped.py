"""Rows on disk to data: what is found in one pass over them, and their split by blocks."""

import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.distribution import Support
from ..core.errors import DataError, UsageError
from ..core.spec import Binarize, DataSpec, Form, Kind, Layout
from .checks import LARGE, refuse_large, refuse_signs
from .dataset import Data, Dataset, SplitName
from .sources import places_in
from .splits import Fractions, Memory, check_weights, plan_splits
from .stored import Source, Spans, Stored
from .survey import Survey, survey

SHARE = 4  # data of more than this part of the memory are mapped
MOST_HELD = 10_000  # rows of such a split, unless a share is asked for
_UNITS = 1000  # pieces that are split by seed, at least


def memory_size() -> int:
    """Return the bytes of memory this process may use: those of the machine, or of its container."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = []
    for file in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            limits.append(int(file.read_text()))
        except (OSError, ValueError):  # no such file, or no limit ("max")
            continue
    return min([machine, *limits])


def is_mapped(memory: Memory, size: int) -> bool:
    """Tell whether data that take `size` bytes in memory stay on disk."""
    return memory == "map" or (memory == "auto" and size > memory_size() // SHARE)


@dataclass(frozen=True)
class Mapped:
    """Rows that stay on disk, and what belongs to them.

    Args:
        name: what the data are called.
        source: all rows.
        form: what they came as.
        kind: of the data.
        layout: axes of one image where it came from.
        labels: of all rows, `[N]` numbers, or None.
        classes: their names.
        held: how many of the last rows are a test split.
        files: of each row, if rows are files.
        notes: for people.
        facts: what all values have in common, if they were looked at.
        weight: of the rows that are no test split of their own, `[N - held]`, or None.
        whole: True if values are stored as whole numbers.
    """

    name: str
    source: Source
    form: Form
    kind: Kind
    layout: Layout = "chw"
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    held: int = 0
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    facts: Survey | None = None
    weight: Tensor | None = None
    whole: bool = False


def mapped_data(
    found: Mapped, *, binarize: Binarize, scale: int | None, fractions: Fractions, like: DataSpec | None = None
) -> Data:
    """Return data whose training rows stay on disk; all rows are looked at once.

    Rows are split by blocks, since a number for each of all rows may take more memory than is left.

    Raises:
        DataError: if a value cannot be trained on.
        UsageError: if an option is out of range.
    """
    source, name = found.source, found.name
    if like is not None and like.classes and found.labels is not None:
        place = places_in(like.classes, found.classes, name)
        found = replace(found, labels=place[found.labels], classes=like.classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of odd metadata
        facts = found.facts or survey(source, name)
    if scale is None:
        scale = 255 if source.dtype == torch.uint8 and found.kind == "image" and facts.range[1] > 1 else 1
    if scale != 1 and not (facts.range[0] >= 0 and facts.range[1] <= scale):
        raise DataError(
            f"{name} has values from {facts.range[0]:g} to {facts.range[1]:g}",
            expected=f"0 to {scale}",
            fix="give the right scale (--max-value), the stored value that means 1",
        )
    if scale == 1:
        source.dtype = torch.float32
    notes = (*found.notes, *source.told())
    support: Support = "unit" if scale != 1 else facts.support(found.kind)
    if found.whole and found.kind == "table" and support == "real" and facts.range[0] >= 0:
        support = "count"
    _check(facts, found.kind, support, name)
    if support == "real" and binarize not in ("auto", "none"):
        raise UsageError(f"{name} has real values, which cannot be binarised", fix="drop --binarize")
    splits = split_blocks(source.bounds, found.held, fractions)
    spec = DataSpec(
        name=name,
        shape=tuple(source.shape[1:]),
        kind=found.kind,
        support=support,
        size=len(splits["train"]),
        classes=found.classes,
        binarize=binarize if support == "unit" else "none",
        data_seed=fractions.seed,
        resolution=1 / scale if scale != 1 else 0.0,
        layout=found.layout,
        form=found.form,
    )
    found = replace(found, weight=_shares(found, splits))
    train, valid, test = (_part(found, splits[name], name, spec, scale) for name in ("train", "valid", "test"))
    data = Data(train, valid, test, warnings=_warnings(facts, spec))
    return replace(data, notes=(*notes, held_out(name, source, data)))


def held_out(name: str, source: Source, data: Data) -> str:
    """Return what is said of data that stay on disk."""
    size = source.shape[0] * source.row_bytes
    where = "stays on disk" if source.files else "is streamed"
    return (
        f"{name} {where} ({size / 2**30:.2f} GiB as it is read; --memory hold would read it all): whole "
        f"blocks are shuffled, {len(data.valid):,} validation and {len(data.test):,} test rows held out"
    )


def _part(found: Mapped, spans: Spans, split: SplitName, spec: DataSpec, scale: int) -> Dataset:
    weighted = found.weight is not None and not (split == "test" and found.held)
    places = torch.from_numpy(spans.places()) if weighted or found.labels is not None else None
    y = None if found.labels is None else found.labels[places]
    weight = found.weight[places] if weighted and found.weight is not None else None
    return Dataset(Stored(found.source, spans), y, spec, split, scale, weight=weight, files=found.files)


def _shares(found: Mapped, splits: dict[SplitName, Spans]) -> Tensor | None:
    """Return row weights that are 1 on average over the training rows."""
    if found.weight is None:
        return None
    own = {name: torch.from_numpy(spans.places()) for name, spans in splits.items()}
    if found.held:
        own.pop("test")
    check_weights(found.weight, own)
    return (found.weight / found.weight[own["train"]].mean()).float()


def split_blocks(blocks: np.ndarray, held: int, fractions: Fractions) -> dict[SplitName, Spans]:
    """Return the places of each split: units of neighbouring rows are drawn by seed as single rows are in memory.

    A unit is a block, or the part of one of which there are a thousand. Validation and test rows are no more than
    `MOST_HELD` unless their shares are asked for.
    """
    count = int(blocks[-1]) - held
    bounds = np.append(blocks[blocks < count], count)
    sizes = np.diff(bounds)
    unit = max(1, min(int(sizes.max()), count // _UNITS))
    pieces = -(-sizes // unit)
    start = np.repeat(bounds[:-1], pieces)
    starts = start + unit * (np.arange(len(start)) - np.repeat(np.cumsum(pieces) - pieces, pieces))
    units = Spans(starts, np.diff(np.append(starts, count)))
    given = None if not held else Spans(np.array([count]), np.array([held]))
    plan = plan_splits(len(starts), given, fractions.seed, *fractions.of(count, MOST_HELD))

    def of(index: Tensor) -> Spans:
        return Spans(units.starts[index.numpy()], units.sizes[index.numpy()])

    test = given if given is not None else of(plan.test if plan.test is not None else torch.empty(0, dtype=torch.long))
    return {"train": of(plan.train), "valid": of(plan.valid), "test": test}


def _check(facts: Survey, kind: Kind, support: Support, name: str) -> None:
    if support != "real":
        return
    if kind == "image" and facts.signs:
        refuse_signs(name)
    refuse_large(max(abs(value) for value in facts.range), name)


def _warnings(facts: Survey, spec: DataSpec) -> tuple[str, ...]:
    """Return what is probably wrong; repeated rows are not looked for."""
    lines = []
    same = int((facts.low == facts.high).sum())
    if same == facts.low.size:
        lines.append("all rows are identical: zero variance, there is nothing to learn but the row itself")
    elif same and spec.kind != "image":
        lines.append(f"{same} of {facts.low.size} columns are constant: a learned variance goes to its floor there")
    low, high = facts.range
    if spec.support == "real" and max(-low, high) > LARGE:
        lines.append(f"values go from {low:.3g} to {high:.3g}: standardise the columns, or scale them down")
    return tuple(lines)
