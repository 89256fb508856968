"""Hugging Face data sets that are streamed: looked at once from end to end, then read again block by block."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from math import prod
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..core.errors import DataError, LowerboundError
from ..core.spec import Kind, Layout
from .arrays import layout_of
from .images import Alpha, picture_values
from .shards import Block, Shards
from .stored import Blocks, Source, room
from .survey import Survey, looked_at

STREAM_BYTES = 16 << 20  # of rows that are read together: a shard, or a part of one
_LOOKED = 1 << 20  # bytes of rows that are looked at together


@dataclass(frozen=True)
class Pictured:
    """How pictures become arrays.

    Args:
        size: height and width they are scaled and cut to; None: they must have those of the first.
        channels: 1 or 3; None: what the first has.
        alpha: what to do with transparent pixels.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    alpha: Alpha = "refuse"


@dataclass
class Scan:
    """What the pass over all rows found.

    Args:
        blocks: all of them, in order.
        facts: what the values have in common.
        labels: of each block, numbers; empty without a label column.
        values: what the numbers of labels stand for.
    """

    blocks: list[Block] = field(default_factory=list)
    facts: Survey | None = None
    labels: list[np.ndarray] = field(default_factory=list)
    values: dict[Any, int] = field(default_factory=dict)


class StreamRows(Source):
    """The rows of one column of streams, one after another; each block is read again from its shard.

    Args:
        parts: `datasets.IterableDataset`s of the same columns.
        column: with images or arrays of numbers.
        name: of the data.
        feature: of the column, as the streams declare it; None if they do not.
        pictured: how pictures become arrays.
    """

    files = ()

    def __init__(self, parts: Sequence[Any], column: str, name: str, feature: Any, pictured: Pictured) -> None:
        self.column, self.name, self.pictured = column, name, pictured
        self.parts = [Shards(part) for part in parts]
        first = self._guarded(lambda: next(iter(parts[0].take(1)), None))
        if first is None:
            raise DataError(f"0 examples in {name}", expected="at least 2")
        value = first[column]
        self.drawn = isinstance(value, Image.Image)
        if self.drawn and pictured.channels is None:
            self.pictured = replace(pictured, channels=1 if value.mode in ("1", "L", "LA") else 3)
        self.row = (self._picture(value) if self.drawn else self._array(value)).shape
        self.kind: Kind = "image" if len(self.row) in (2, 3) else "table"
        self.layout: Layout = "chw" if self.drawn or self.kind == "table" else layout_of(self.row)
        row = (self.row[2], *self.row[:2]) if self.layout == "hwc" and len(self.row) == 3 else self.row
        self._shape = (1, *row) if len(row) == 2 else row
        declared = getattr(feature, "dtype", None) or getattr(value, "dtype", None)
        self._whole = self.drawn or (self.kind == "image" and str(declared) == "uint8")
        self.dtype = torch.uint8 if self._whole else torch.float32
        self.blocks: list[Block] = []

    def scan(self, label: str | None, names: Sequence[str] | None) -> Scan:
        """Read all rows once and return what they are; the source can be read from then on.

        Args:
            label: column of the labels, or None.
            names: of the classes, where labels are their numbers.

        Raises:
            DataError: if a row cannot be read, has another shape or no label.
        """
        found = Scan(values={i: i for i in range(len(names or ()))})
        columns = [self.column, *([] if label is None else [label])]
        per = max(1, STREAM_BYTES // self._bytes // self._step) * self._step
        before = 0
        for part, shards in enumerate(self.parts):
            for shard in range(shards.count):
                rows = self._guarded(lambda s=shards, i=shard: s[i].select_columns(columns))
                start, digest, count = 0, blake2b(digest_size=8), 0
                for values, given in self._pieces(rows, label):
                    found.facts = looked_at(found.facts, values, before, self.name)
                    digest.update(values.tobytes())
                    before, count = before + len(values), count + len(values)
                    if label is not None:
                        found.labels.append(self._numbered(given, label, found.values, fixed=names is not None))
                    if count == per:
                        found.blocks.append(Block(part, shard, start, count, digest.digest()))
                        start, digest, count = start + count, blake2b(digest_size=8), 0
                if count:
                    found.blocks.append(Block(part, shard, start, count, digest.digest()))
        self.blocks = found.blocks
        self.bounds = np.cumsum([0, *(block.count for block in self.blocks)]).astype(np.int64)
        self.shape = (int(self.bounds[-1]), *self._shape)
        return found

    @cached_property
    def _held(self) -> Blocks:
        return Blocks(self.bounds, room(self.bounds, self._bytes), self._block)

    def read(self, places: np.ndarray) -> np.ndarray:
        """Return the rows at `places`; their blocks are read again, and compared with what they were."""
        return self._held.gather(places).astype(np.uint8 if self.dtype == torch.uint8 else np.float32, copy=False)

    def digest(self) -> bytes:
        """Return a digest of all values."""
        digest = blake2b(digest_size=16)
        for block in self.blocks:
            digest.update(block.digest)
        return digest.digest()

    @property
    def most(self) -> int:
        """How many blocks a shard has at most: one is read from the start of its shard."""
        shards = np.array([(block.part, block.shard) for block in self.blocks])
        return int(np.unique(shards, axis=0, return_counts=True)[1].max())

    @property
    def _bytes(self) -> int:
        return prod(self._shape) * (1 if self._whole else 4)

    @property
    def _step(self) -> int:
        return max(1, _LOOKED // self._bytes)

    def _block(self, number: int) -> np.ndarray:
        block = self.blocks[number]
        shard = self.parts[block.part][block.shard].select_columns([self.column])
        rows = self._guarded(lambda: shard.skip(block.start) if block.start else shard)
        made, digest, count = np.empty((block.count, *self._shape), self._raw), blake2b(digest_size=8), 0
        for values, _ in self._pieces(rows, None):
            values = values[: block.count - count]
            digest.update(values.tobytes())
            made[count : count + len(values)] = values
            count += len(values)
            if count == block.count:
                break
        if count != block.count or digest.digest() != block.digest:
            raise DataError(
                f"{self.name} has changed since it was looked at",
                where=f"shard {block.shard + 1}, rows {block.start + 1:,} to {block.start + block.count:,}",
                expected="a stream that gives the same rows in the same order each time",
                fix="leave out what is random in it (shuffle, random crops): rows are shuffled in training",
            )
        return made

    @property
    def _raw(self) -> type:
        return np.uint8 if self._whole else np.float32

    def _pieces(self, rows: Any, label: str | None) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield rows `[n, *shape]` and their labels, always as many but for the last ones."""
        if self.drawn:
            stream = self._guarded(lambda: iter(rows))
            while some := self._guarded(lambda: list(islice(stream, self._step))):
                yield (
                    self._values([row[self.column] for row in some]),
                    [row[label] for row in some if label is not None],
                )
            return
        stream = self._guarded(lambda: iter(rows.with_format("numpy").iter(self._step)))
        while (some := self._guarded(lambda: next(stream, None))) is not None:
            yield self._values(some[self.column]), [] if label is None else some[label]

    def _values(self, given: Any) -> np.ndarray:
        rows = given
        if not isinstance(given, np.ndarray) or given.dtype.kind not in "biuf" or given.shape[1:] != self.row:
            arrays = [self._picture(value) if self.drawn else self._array(value) for value in given]
            odd = next((array.shape for array in arrays if array.shape != self.row), None)
            if odd is not None:
                raise DataError(
                    f"column {self.column!r} of {self.name} has rows of shape {odd}",
                    expected=f"{self.row}, as the first row",
                    fix="--image-size 64, or HEIGHT WIDTH" if self.drawn else "bring them to one: stream.map(...)",
                )
            rows = np.stack(arrays)
        rows = rows.transpose(0, 3, 1, 2) if self.layout == "hwc" and rows.ndim == 4 else rows
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(rows.reshape(len(rows), *self._shape), self._raw)

    def _array(self, value: Any) -> np.ndarray:
        try:
            array = np.asarray(value)
        except ValueError:
            array = np.asarray(None)
        if array.dtype.kind not in "biuf" or not 1 <= array.ndim <= 3 or not array.size:
            raise DataError(
                f"column {self.column!r} of {self.name} has {_called(value, array)}",
                expected="images, or arrays of numbers with 1 to 3 axes",
                fix="name another column (--columns NAME)",
            )
        return array

    def _picture(self, value: Any) -> np.ndarray:
        if not isinstance(value, Image.Image):
            raise DataError(f"column {self.column!r} of {self.name} has rows without a picture", expected="one each")
        return picture_values(value, self.pictured.channels or 3, self.pictured.size, self.pictured.alpha)

    def _numbered(self, given: Any, label: str, values: dict[Any, int], *, fixed: bool) -> np.ndarray:
        plain = [value.item() if isinstance(value, np.generic) else value for value in given]
        bad = next((v for v in plain if not isinstance(v, (str, int, bool)) or (fixed and v not in values)), None)
        if bad is not None or None in plain:
            raise DataError(
                f"column {label!r} of {self.name} has rows without a label ({bad!r})",
                expected="a class for each row",
                fix="leave them out (stream.filter(...)), or train without labels",
            )
        return np.array([values.setdefault(value, len(values)) for value in plain], np.int32)

    def _guarded(self, make: Callable[[], Any]) -> Any:
        """Return what `make` returns; what `datasets` raises becomes an error of ours: there is no end of its kinds."""
        try:
            return make()
        except LowerboundError:
            raise
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
            raise DataError(
                f"{self.name} cannot be read: {reason}", where=f"column {self.column!r}", fix="check the files it reads"
            ) from error


def _called(value: Any, array: np.ndarray) -> str:
    return (
        f"values of shape {array.shape}"
        if array.ndim and array.dtype.kind in "biuf"
        else f"{type(value).__name__} values"
    )
