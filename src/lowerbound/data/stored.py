"""Rows that stay on disk: a source of rows by their place, and the part of it that is a split, read when asked for."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from math import prod
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from .order import Order

WINDOW_BYTES = 64 << 20  # of rows among which an epoch draws, and which are at hand
BLOCK_BYTES = 1 << 20  # of rows that are read together, where nothing else decides
PIECE_BYTES = 16 << 20  # of rows that one pass over all of them holds


class Source(ABC):
    """Where rows lie, by their place 0..N-1; what it returns is on the CPU, and no place is read for another's sake.

    Args:
        shape: `(N, *shape)`.
        dtype: uint8, float32, or bool for masks.
        bounds: where blocks of rows that are cheaply read together start, and N: `[B + 1]`.
        files: what is read, by which changed data are noticed.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    bounds: np.ndarray
    files: tuple[Path, ...]

    @abstractmethod
    def read(self, places: np.ndarray) -> np.ndarray:
        """Return the rows at `places` `[n]`, in any order and any number of times: `[n, *shape]`.

        Raises:
            DataError: if they can no longer be read.
        """

    def digest(self) -> bytes:
        """Return a digest by which changed data are noticed."""
        return files_digest(self.files)

    def told(self) -> tuple[str, ...]:
        """Return what was found and changed once all rows have been read, for people."""
        return ()

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as it is read."""
        return max(1, prod(self.shape[1:]) * self.dtype.itemsize)


_SAMPLES, _SAMPLE = 256, 1 << 14  # of all files, and bytes of each


def files_digest(files: Sequence[Path]) -> bytes:
    """Return a digest of names, sizes and samples of files, the first and last bytes of the first and last among them.

    What changes between two samples is not noticed: all of some 40 GiB would take a minute to read.
    """
    digest = blake2b(digest_size=16)
    sizes = np.array([file.stat().st_size for file in files])
    for file, size in zip(files, sizes.tolist(), strict=True):
        digest.update(f"{file.name}\0{size}\0".encode(errors="surrogateescape"))
    ends = np.cumsum(sizes)
    starts = np.linspace(0, max(0, int(ends[-1]) - _SAMPLE), _SAMPLES).astype(np.int64) if len(files) else []
    for start in starts:
        place = min(int(np.searchsorted(ends, start, "right")), len(files) - 1)
        with files[place].open("rb") as stream:
            stream.seek(int(start - (ends[place] - sizes[place])))
            digest.update(stream.read(_SAMPLE))
    return digest.digest()


def even_bounds(count: int, size: int) -> np.ndarray:
    """Return the bounds of blocks of `size` rows each, the last one shorter: `[B + 1]`."""
    return np.append(np.arange(0, count, size, dtype=np.int64), count)


class Blocks:
    """The blocks that were read last, no more than `rows` rows of them; several threads may ask."""

    def __init__(self, bounds: np.ndarray, rows: int, read: Callable[[int], np.ndarray]) -> None:
        self.bounds, self.rows, self._read = bounds, rows, read
        self._held: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = Lock()

    def gather(self, places: np.ndarray) -> np.ndarray:
        """Return the rows at `places`; blocks at hand are used before others take their room."""
        with self._lock:
            blocks = np.searchsorted(self.bounds, places, "right") - 1
            wanted = sorted(np.unique(blocks).tolist(), key=lambda b: b not in self._held)
            made: np.ndarray | None = None
            for block in wanted:
                rows = self._block(block)
                made = np.empty((len(places), *rows.shape[1:]), rows.dtype) if made is None else made
                here = blocks == block
                made[here] = rows[places[here] - self.bounds[block]]
        assert made is not None, "rows are asked for"
        return made

    def _block(self, block: int) -> np.ndarray:
        if block in self._held:
            self._held.move_to_end(block)
            return self._held[block]
        sizes = np.diff(self.bounds)
        while self._held and sum(int(sizes[b]) for b in self._held) + sizes[block] > self.rows:
            self._held.popitem(last=False)
        self._held[block] = self._read(block)
        return self._held[block]


def room(bounds: np.ndarray, row_bytes: int) -> int:
    """Return the rows that are kept at hand: those of the largest window."""
    return window_of(row_bytes) + int(np.diff(bounds).max(initial=1))


def window_of(row_bytes: int) -> int:
    """Return the rows of a window."""
    return max(1, WINDOW_BYTES // row_bytes)


@dataclass(frozen=True)
class Spans:
    """Places in ranges that rise and do not meet: `starts[s]` + 0, 1, ..., for `sizes[s]` of them.

    Args:
        starts: `[S]` int64.
        sizes: `[S]` int64, above 0.
    """

    starts: np.ndarray
    sizes: np.ndarray

    @cached_property
    def before(self) -> np.ndarray:
        """Number of places before each range, and in all: `[S + 1]`."""
        return np.concatenate([[0], np.cumsum(self.sizes)])

    def __len__(self) -> int:
        return int(self.before[-1])

    def at(self, index: np.ndarray) -> np.ndarray:
        """Return the places number `index` `[n]`."""
        span = np.searchsorted(self.before, index, "right") - 1
        return self.starts[span] + index - self.before[span]

    def places(self) -> np.ndarray:
        """Return all of them, `[n]`."""
        return self.at(np.arange(len(self), dtype=np.int64))

    def cut(self, start: int, stop: int) -> "Spans":
        """Return the places from number `start` up to `stop`."""
        first = np.maximum(self.before[:-1], start)
        last = np.minimum(self.before[1:], stop)
        keep = last > first
        return Spans((self.starts + first - self.before[:-1])[keep], (last - first)[keep])

    def blocks(self, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where, among these places, another block begins, and their number, `[B + 1]`; and the blocks, `[B]`.

        Args:
            blocks: bounds of all places.
        """
        first = np.searchsorted(blocks, self.starts, "right") - 1
        last = np.searchsorted(blocks, self.starts + self.sizes - 1, "right") - 1
        counts = last - first + 1
        span = np.repeat(np.arange(len(counts)), counts)
        block = first[span] + np.arange(len(span)) - np.repeat(np.cumsum(counts) - counts, counts)
        starts = self.before[span] + np.maximum(blocks[block] - self.starts[span], 0)
        new = np.concatenate([[True], np.diff(block) != 0]) if len(block) else np.zeros(0, bool)
        return np.append(starts[new], len(self)).astype(np.int64), block[new]


def all_places(count: int) -> Spans:
    """Return the places 0..count-1."""
    one = min(1, count)
    return Spans(np.zeros(one, np.int64), np.full(one, count, np.int64))


@dataclass(frozen=True)
class Stored:
    """Some rows of a source: like a tensor `[N, *shape]` that is read when it is indexed.

    Args:
        source: where they lie.
        chosen: which of its rows they are.
        device: where what is read goes.
        change: makes other values `[n, *shape]` of those read and their places, such as 0/1 pixels of grey ones.
        dtype: of what it makes; None: as they are read.
    """

    source: Source
    chosen: Spans
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    change: Callable[[Tensor, np.ndarray], Tensor] | None = None
    as_dtype: torch.dtype | None = None

    @property
    def shape(self) -> torch.Size:
        """`(N, *shape)`."""
        return torch.Size((len(self), *self.source.shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        """Of what is read."""
        return self.as_dtype or self.source.dtype

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        places = self._places(index)
        if not len(places):
            return torch.empty((0, *self.source.shape[1:]), dtype=self.dtype, device=self.device)
        values = torch.from_numpy(self.source.read(places))
        return (values if self.change is None else self.change(values, places)).to(self.device)

    def places(self, index: Tensor | slice = slice(None)) -> Tensor:
        """Return the place of rows in the source, `[n]`, on the device."""
        return torch.from_numpy(self._places(index)).to(self.device)

    def _places(self, index: Tensor | slice) -> np.ndarray:
        if isinstance(index, slice):
            return self.chosen.at(np.arange(*index.indices(len(self)), dtype=np.int64))
        rows = index.cpu().numpy()
        return self.chosen.at(np.where(rows < 0, rows + len(self), rows))

    def rows(self, index: Tensor | slice) -> "Stored":
        """Return some of the rows; nothing is read."""
        start, stop, step = index.indices(len(self)) if isinstance(index, slice) else (0, 0, 0)
        if step == 1:
            return replace(self, chosen=self.chosen.cut(start, stop))
        places = self._places(index)
        return replace(self, chosen=Spans(places, np.ones_like(places)))

    def to(self, device: torch.device) -> "Stored":
        """Return the same rows, whose values go to `device` once read."""
        return replace(self, device=device)

    def changed(self, change: Callable[[Tensor, np.ndarray], Tensor], dtype: torch.dtype) -> "Stored":
        """Return the rows whose values are made anew each time they are read; places tell `change` which they are."""
        return replace(self, change=change, as_dtype=dtype)

    @cached_property
    def order(self) -> Order:
        """The order of an epoch: of blocks, or of rows where each is read by itself."""
        bounds, blocks = self.chosen.blocks(self.source.bounds)
        if len(bounds) > len(self):
            return Order(len(self))
        sizes = torch.from_numpy(np.diff(self.source.bounds)[blocks])
        return Order(len(self), torch.from_numpy(bounds), window_of(self.source.row_bytes), sizes)

    def pieces(self) -> Iterator[slice]:
        """Yield slices that cover all rows, each of some MiB."""
        step = max(1, PIECE_BYTES // self.source.row_bytes)
        return (slice(start, min(start + step, len(self))) for start in range(0, len(self), step))

    def digest(self) -> bytes:
        """Return a digest of the files' names and sizes, of samples of their bytes, and of which rows these are."""
        digest = blake2b(self.source.digest(), digest_size=16)
        digest.update(repr((tuple(self.shape), str(self.dtype))).encode())
        digest.update(self.chosen.starts.tobytes() + self.chosen.sizes.tobytes())
        return digest.digest()

    def joined(self, others: Sequence["Stored"]) -> "Stored":
        """Return these rows and those of others, of the same source, in the order of their places."""
        every = [self, *others]
        starts, sizes = (np.concatenate([getattr(s.chosen, name) for s in every]) for name in ("starts", "sizes"))
        order = np.argsort(starts, kind="stable")
        return replace(self, chosen=Spans(starts[order], sizes[order]))
