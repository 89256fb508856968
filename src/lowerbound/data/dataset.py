"""A split: examples in memory or on disk, their labels, and how a batch is made of them without a loop over rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import prod
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from ..core.distribution import Support
from ..core.errors import DataError, ShapeError, UsageError
from ..core.noise import Stream, generator
from ..core.spec import DataSpec
from ..core.types import Batch
from .binarise import Fixed
from .order import Order
from .stored import Stored

SplitName: TypeAlias = Literal["train", "valid", "test", "all"]
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test", "all")
_FIXED_ROWS = 10_000  # rows binarised at once
_START_VALUES = 1 << 28  # of rows on disk, by which a training starts
_AT_HAND = 256 << 20  # bytes of rows on disk that are held if they are looked at often
_STORED_VALUES = 1 << 21  # of rows on disk that one pass over them holds

Values: TypeAlias = Tensor | Stored
"""Values of rows: in memory, or read when they are indexed."""


@dataclass(frozen=True)
class Dataset:
    """The examples of one split.

    Args:
        x: stored values `[N, *shape]`, float, or whole numbers 0..scale; in memory, or on disk (`Stored`).
        y: labels `[N]` as numbers 0..C-1, or None.
        spec: what they are.
        split: "train", "valid", "test", or "all" rows of data that were not split.
        scale: stored value that means 1.
        resample: True if 0/1 pixels are drawn anew from grey ones in each batch.
        seen: what the encoder sees in place of x, `[N, *shape]`, stored as x is; None means x.
        seen_scale: its stored value that means 1.
        mask: True where a cell is observed, `[N, *shape]`; None means everywhere.
        weight: row weights `[N]`, 1 on average; None means 1.
        index: place of each row in what was read, `[N]`; None means in order.
        augment: changes images in each batch; for training rows alone.
        files: the files that were read, by place; empty if rows were no files.
        grey: what 0/1 pixels were drawn from once, `[N, *shape]`, stored as x was; None if nothing was drawn.
        grey_scale: its stored value that means 1.
        order: in which an epoch visits rows that were on disk; None means that they never were.
    """

    x: Values
    y: Tensor | None
    spec: DataSpec
    split: SplitName
    scale: int = 1
    resample: bool = False
    seen: Values | None = None
    seen_scale: int = 1
    mask: Values | None = None
    weight: Tensor | None = None
    index: Tensor | None = None
    augment: nn.Module | None = None
    files: tuple[str, ...] = ()
    grey: Values | None = None
    grey_scale: int = 1
    order: Order | None = None

    def __len__(self) -> int:
        return self.x.shape[0]

    @property
    def support(self) -> Support:
        """Where the values of a batch lie."""
        if self.spec.modalities:
            return "mixed"
        if self.resample or self._is_binary():
            return "binary"
        return "levels" if self.spec.support == "unit" and self.spec.resolution else self.spec.support

    @property
    def places(self) -> Tensor:
        """Place of each row in what was read, `[N]`."""
        if isinstance(self.x, Stored):
            return self.x.places()
        return torch.arange(len(self), device=self.x.device) if self.index is None else self.index

    def file_names(self) -> list[str] | None:
        """Return the file of each row, `[N]`; None if rows were no files."""
        places = self.places.tolist()
        return [self.files[i] for i in places] if self.files and max(places, default=0) < len(self.files) else None

    def values(self, index: Tensor | slice = slice(None)) -> Tensor:
        """Return examples in model units, `[n, *shape]` float, before any binarisation in the batch."""
        return _in_units(_taken(self.x, index), self.scale)

    def seen_values(self, index: Tensor | slice = slice(None)) -> Tensor | None:
        """Return what the encoder sees in place of x, in model units, `[n, *shape]`; None if it sees x."""
        return None if self.seen is None else _in_units(_taken(self.seen, index), self.seen_scale)

    def mask_values(self, index: Tensor | slice = slice(None)) -> Tensor | None:
        """Return where cells are observed, `[n, *shape]` bool; None means everywhere."""
        return None if self.mask is None else self.mask[index]

    def grey_values(self, index: Tensor | slice = slice(None)) -> Tensor | None:
        """Return what 0/1 pixels were drawn from once, in model units, `[n, *shape]`; None if nothing was drawn."""
        return None if self.grey is None else _in_units(self.grey[index], self.grey_scale)

    def labels(self, index: Tensor | slice = slice(None)) -> Tensor | None:
        """Return one-hot labels `[n, C]`, or None."""
        if self.y is None:
            return None
        return torch.nn.functional.one_hot(self.y[index], self.spec.num_classes).float()

    def batch(self, index: Tensor | slice) -> Batch:
        """Return the rows `index`; what is drawn (0/1 pixels, augmentation) comes from torch's default generator."""
        x, seen = self._augmented(index)
        if self.resample:
            x = _kept(self.spec, x, (torch.rand(x.shape, device=x.device) * self.scale < x).float())
        else:
            x = _in_units(x, self.scale)
        return Batch(
            x,
            seen=seen,
            y=self.labels(index),
            mask=None if self.mask is None else self.mask[index].float(),
            index=self._places(index),
            weight=None if self.weight is None else self.weight[index],
        )

    def _places(self, index: Tensor | slice) -> Tensor:
        """Return the place of each of these rows in what was read."""
        if isinstance(self.x, Stored):
            return self.x.places(index)
        if isinstance(index, slice) and self.index is None:
            return torch.arange(*index.indices(len(self)), device=self.x.device)
        return index if self.index is None else self.index[index]  # pyright: ignore[reportReturnType]

    def _augmented(self, index: Tensor | slice) -> tuple[Tensor, Tensor | None]:
        """Return stored x and what is seen in model units; x and what is seen of it move together."""
        x, seen = _taken(self.x, index), self.seen_values(index)
        if self.augment is None:
            return x, seen
        unit = _in_units(x, self.scale)
        moved = self.augment(unit if seen is None else torch.cat([unit, seen], 1))
        x = moved[:, : x.shape[1]]
        if self.spec.support == "binary" or self._is_binary():
            x = (x >= 0.5).float()
        elif self.spec.resolution and not self.resample:  # back to the levels that a discrete likelihood scores
            x = (x / self.spec.resolution).round() * self.spec.resolution
        return x * self.scale, None if seen is None else moved[:, x.shape[1] :]

    def matching(self, spec: DataSpec, *, resample: bool = False) -> "Dataset":
        """Return the data as a model built for `spec` wants them: the same shape, binarised as it was trained.

        0/1 pixels are drawn once, from the data seed, the split's name and the place among these rows alone; with
        `resample` and `binarize="dynamic"` they are drawn anew in each batch, as training does.

        Raises:
            ShapeError: if the examples have another shape.
            DataError: if the labels differ.
        """
        if self.spec.columns != spec.columns:
            raise DataError(
                f"{self.spec.name} was not read as the columns of {spec.name}, which the model was built for",
                expected="cells typed and standardised as in training",
                fix="load_data(path, like=model.spec)",
            )
        if self.spec.vocabulary != spec.vocabulary:
            raise DataError(
                f"{self.spec.name} numbers other symbols than {spec.name}, which the model was built for",
                expected=f"sequences of {' '.join(spec.vocabulary[:20])}" if spec.vocabulary else "no sequences",
                fix="from_sequences(..., vocabulary=model.spec.vocabulary), or load_data(path, like=model.spec)",
            )
        if tuple(self.spec.shape) != tuple(spec.shape):
            raise ShapeError(
                f"{self.spec.name} has examples of shape {tuple(self.spec.shape)}",
                expected=f"{tuple(spec.shape)}, as in {spec.name}, which the model was built for",
            )
        _check_modalities(self.spec, spec)
        if self.spec.classes and spec.classes and self.spec.num_classes != spec.num_classes:
            raise DataError(
                f"{self.spec.name} has {self.spec.num_classes} classes",
                expected=f"{spec.num_classes}, as in {spec.name}",
            )
        if self.spec.classes and spec.classes and self.spec.classes != spec.classes:
            raise DataError(
                f"{self.spec.name} has the classes {', '.join(self.spec.classes[:20])}",
                expected=f"{', '.join(spec.classes[:20])}, as in {spec.name}",
            )
        protocol = self.spec.binarize if self.spec.binarize != "auto" else spec.binarize
        if self.spec.support != "unit" and not self.spec.modalities:
            protocol = "none"
        settled = self.spec.protocol(protocol)
        if protocol in ("none", "auto") or self._is_binary():
            return replace(self, spec=settled)
        if protocol == "dynamic" and resample:
            return replace(self, spec=settled, resample=True)
        drawn = protocol != "threshold"
        origin = {"grey": self.x, "grey_scale": self.scale} if drawn and not self.spec.modalities else {}
        fixed = replace(self, spec=settled)._fixed(drawn=drawn)
        return replace(self, x=fixed, spec=settled, scale=1, resample=False, **origin)

    def to(self, device: torch.device) -> "Dataset":
        """Return the data on `device`; what is on disk goes there once it is read."""
        return self._each(lambda t: t.to(device))

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[Tensor]:
        """Yield the row numbers of each batch of an epoch, `[size]`: a function of seed and epoch."""
        device = None if isinstance(self.x, Stored) else self.x.device
        return self.visits.batches(seed, epoch, size, device)

    def some(self, wanted: int, seed: int, key: int) -> Tensor:
        """Return the numbers of so many rows at random, `[min(wanted, N)]`."""
        return self.visits.some(wanted, seed, key)

    def start_rows(self, seed: int) -> Iterator[Batch]:
        """Yield the rows whose mean and variance a training starts at: all in memory, else some blocks of them."""
        if not self._placed:
            yield from self.blocks(_FIXED_ROWS)
            return
        size = self.most_rows(_FIXED_ROWS)
        for index in islice(self.batches(seed, 0, size), max(1, _START_VALUES // (size * self.spec.dims))):
            yield self.batch(index)

    def in_memory(self) -> "Dataset":
        """Return the same rows in memory, in the same order of an epoch, with the same draws."""
        order = self.x.order if isinstance(self.x, Stored) else self.order
        return replace(self.fetch(slice(None)), order=order) if self._placed else self

    def at_hand(self) -> "Dataset":
        """Return rows that are looked at again and again: in memory, unless they are many on disk."""
        small = sum(bytes_of(t) for t in (self.x, self.seen, self.grey) if t is not None) <= _AT_HAND
        return self.in_memory() if small else self

    def fetch(self, index: Tensor | slice) -> "Dataset":
        """Return the rows `index` in memory: what is on disk is read, and nothing drawn."""
        some = self.rows(index)
        some = replace(some, index=some.places)
        return some._each(lambda t: t[:] if isinstance(t, Stored) else t)

    def most_rows(self, rows: int) -> int:
        """Return how many rows, `rows` at most, one pass over all of them may hold: fewer of large ones on disk."""
        return rows if not self._placed else max(1, min(rows, _STORED_VALUES // self.spec.dims))

    def blocks(self, rows: int) -> Iterator[Batch]:
        """Yield all rows in order, `rows` at a time."""
        for start in range(0, len(self), rows):
            yield self.batch(slice(start, start + rows))

    def take(self, rows: int) -> "Dataset":
        """Return the first `rows` rows.

        Raises:
            UsageError: if that is less than one.
        """
        if rows < 1:
            raise UsageError(f"cannot take {rows} rows", expected="a whole number above 0")
        return self.rows(slice(rows))

    def rows(self, index: Tensor | slice) -> "Dataset":
        """Return some of the rows; each keeps its place in what was read."""
        if not isinstance(self.x, Stored):
            return replace(self, index=self.places, order=None)._each(lambda t: t[index])
        return self._each(lambda t: t.rows(index) if isinstance(t, Stored) else t[index])

    @property
    def _placed(self) -> bool:
        """True where rows are or were on disk."""
        return self.order is not None or isinstance(self.x, Stored)

    @property
    def visits(self) -> Order:
        """The order of an epoch."""
        return self.x.order if isinstance(self.x, Stored) else self.order or Order(len(self))

    def _each(self, change: Callable[[Any], Values]) -> "Dataset":
        names = ("x", "y", "seen", "mask", "weight", "index", "grey")
        tensors = {name: getattr(self, name) for name in names}
        return replace(self, **{name: change(t) for name, t in tensors.items() if t is not None})

    def _is_binary(self) -> bool:
        return self.scale == 1 and self.x.dtype == torch.uint8

    def _fixed(self, *, drawn: bool) -> Values:
        """Return 0/1 pixels, drawn once or 1 from one half on, as bytes."""
        by_place = Fixed("drawn" if drawn else "threshold", self.scale, self.spec.data_seed)
        if isinstance(self.x, Stored):
            return self.x.changed(by_place, torch.uint8)
        if not drawn:
            return _kept(self.spec, self.x, (self.x >= self.scale / 2).to(torch.uint8))
        if self._placed:  # it was on disk, where draws are made by place
            return by_place(self.x.cpu(), self.places.cpu().numpy()).to(self.x.device)
        draws = generator(Stream.BINARISATION, self.spec.data_seed, SPLITS.index(self.split))
        pieces = []
        for x in self.x.cpu().split(_FIXED_ROWS):
            pieces.append((torch.rand(x.shape, generator=draws) * self.scale < x).to(torch.uint8))
        return _kept(self.spec, self.x, torch.cat(pieces).to(self.x.device))


def bytes_of(values: Values) -> int:
    """Return the bytes of values as they are kept, in memory or on disk."""
    return prod(values.shape) * values.dtype.itemsize


def _check_modalities(mine: DataSpec, wanted: DataSpec) -> None:
    """Raise DataError unless both have the same modalities."""
    each = [[(m.name, m.spec.shape, m.spec.classes, m.spec.columns) for m in s.modalities] for s in (mine, wanted)]
    if each[0] == each[1]:
        return
    listed = [", ".join(f"{m.name} {m.spec.shape}" for m in s.modalities) or "none" for s in (mine, wanted)]
    raise DataError(
        f"{mine.name} has the modalities {listed[0]}",
        expected=f"{listed[1]}, with the same classes and columns, as in {wanted.name}",
    )


def _kept(spec: DataSpec, x: Tensor, pixels: Tensor) -> Tensor:
    """Return 0/1 pixels made of stored x; of several modalities those that are no grey images stay as they are."""
    cells = spec.drawn
    # bytes are grey pixels, or 0 and the scale, which become 0 and 1 in the same way
    return pixels if cells is None or x.dtype == torch.uint8 else torch.where(cells.to(x.device), pixels, x)


def _taken(values: Tensor | Stored, index: Tensor | slice) -> Tensor:
    if isinstance(values, Tensor) and isinstance(index, Tensor):
        return values.index_select(0, index)  # copies whole rows, where an index goes value by value
    return values[index]


def _in_units(x: Tensor, scale: int) -> Tensor:
    return x.float() / scale if scale != 1 else x.float()


@dataclass(frozen=True)
class Data:
    """Training, validation and test split of one data set, and its spec.

    Args:
        train: rows to train on.
        valid: rows that decide which weights are best.
        test: rows to report on.
        origin: the arguments of `load_data` that bring the same data again; None for data made of arrays.
        notes: what was found while reading, for people.
        warnings: what is probably wrong, for people.
    """

    train: Dataset
    valid: Dataset
    test: Dataset
    origin: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def spec(self) -> DataSpec:
        """What the data are; recipes read it."""
        return self.train.spec

    def split(self, name: SplitName) -> Dataset:
        """Return the split called `name`."""
        if name not in SPLITS:
            raise UsageError(f"there is no split {name!r}", expected=", ".join(SPLITS))
        if name == "all":
            return joined((self.train, self.valid, self.test))
        return getattr(self, name)


def joined(parts: Sequence[Dataset]) -> Dataset:
    """Return the rows of several splits of the same data as one, called "all", in the order they were read."""
    places = None if _bare(parts) else torch.cat([part.places for part in parts])
    order = None if places is None else places.argsort()
    made: dict[str, Any] = {}
    for name in ("x", "y", "seen", "mask", "weight", "grey"):
        each = [getattr(part, name) for part in parts]
        if all(t is not None for t in each):
            stored = isinstance(each[0], Stored)
            made[name] = each[0].joined(each[1:]) if stored else torch.cat(each)[order]
    if isinstance(made["x"], Stored):
        return replace(parts[0], split="all", **made)
    assert places is not None, "rows in memory have places"
    return replace(parts[0], split="all", order=None, index=places[order], **made)


def _bare(parts: Sequence[Dataset]) -> bool:
    """Tell whether all there is of these rows is on disk, so that no number for each of them is needed."""
    names = ("x", "y", "seen", "mask", "weight", "grey")
    held = [getattr(part, name) for part in parts for name in names]
    return all(values is None or isinstance(values, Stored) for values in held)
