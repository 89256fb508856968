"""Data in memory: a tensor of examples, their labels, and how a batch is made of them without a loop over rows."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from ..core.distribution import Support
from ..core.errors import DataError, ShapeError, UsageError
from ..core.noise import Stream, generator
from ..core.spec import DataSpec
from ..core.types import Batch

SplitName: TypeAlias = Literal["train", "valid", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")
_FIXED_ROWS = 10_000  # rows binarised at once


@dataclass(frozen=True)
class Dataset:
    """The examples of one split.

    Args:
        x: stored values `[N, *shape]`, float, or whole numbers 0..scale.
        y: labels `[N]` as numbers 0..C-1, or None.
        spec: what they are.
        split: "train", "valid" or "test".
        scale: stored value that means 1.
        resample: True if 0/1 pixels are drawn anew from grey ones in each batch.
    """

    x: Tensor
    y: Tensor | None
    spec: DataSpec
    split: SplitName
    scale: int = 1
    resample: bool = False

    def __len__(self) -> int:
        return self.x.shape[0]

    @property
    def support(self) -> Support:
        """Where the values of a batch lie."""
        return "binary" if self.resample or self._is_binary() else self.spec.support

    def values(self, index: Tensor | slice = slice(None)) -> Tensor:
        """Return examples in model units, `[n, *shape]` float, before any binarisation in the batch."""
        x = self.x[index]
        return x.float() / self.scale if self.scale != 1 else x.float()

    def labels(self, index: Tensor | slice = slice(None)) -> Tensor | None:
        """Return one-hot labels `[n, C]`, or None."""
        if self.y is None:
            return None
        return torch.nn.functional.one_hot(self.y[index], self.spec.num_classes).float()

    def batch(self, index: Tensor | slice) -> Batch:
        """Return the rows `index`; where `resample`, their pixels are drawn from torch's default generator."""
        if self.resample:
            x = self.x[index]
            pixels = (torch.rand(x.shape, device=x.device) * self.scale < x).float()
            return Batch(pixels, y=self.labels(index))
        return Batch(self.values(index), y=self.labels(index))

    def matching(self, spec: DataSpec, *, resample: bool = False) -> "Dataset":
        """Return the data as a model built for `spec` wants them: the same shape, binarised as it was trained.

        0/1 pixels are drawn once, from the data seed and the split's name alone; with `resample` and
        `binarize="dynamic"` they are drawn anew in each batch, as training does.

        Raises:
            ShapeError: if the examples have another shape.
            DataError: if the labels differ.
        """
        if tuple(self.spec.shape) != tuple(spec.shape):
            raise ShapeError(
                f"{self.spec.name} has examples of shape {tuple(self.spec.shape)}",
                expected=f"{tuple(spec.shape)}, as in {spec.name}, which the model was built for",
            )
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
        if self.spec.support != "unit":
            protocol = "none"
        settled = replace(self.spec, binarize=protocol)
        if protocol in ("none", "auto") or self._is_binary():
            return replace(self, spec=settled)
        if protocol == "dynamic" and resample:
            return replace(self, spec=settled, resample=True)
        fixed = self.x >= self.scale / 2 if protocol == "threshold" else self._drawn_once()
        return replace(self, x=fixed.to(torch.uint8), spec=settled, scale=1, resample=False)

    def to(self, device: torch.device) -> "Dataset":
        """Return the data on `device`."""
        return replace(self, x=self.x.to(device), y=None if self.y is None else self.y.to(device))

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
        return replace(self, x=self.x[:rows], y=None if self.y is None else self.y[:rows])

    def _is_binary(self) -> bool:
        return self.scale == 1 and self.x.dtype == torch.uint8

    def _drawn_once(self) -> Tensor:
        draws = generator(Stream.BINARISATION, self.spec.data_seed, SPLITS.index(self.split))
        pieces = []
        for x in self.x.cpu().split(_FIXED_ROWS):
            pieces.append(torch.rand(x.shape, generator=draws) * self.scale < x)
        return torch.cat(pieces).to(self.x.device)


@dataclass(frozen=True)
class Data:
    """Training, validation and test split of one data set, and its spec.

    Args:
        train: rows to train on.
        valid: rows that decide which weights are best.
        test: rows to report on.
        origin: the arguments of `load_data` that bring the same data again; None for data made of arrays.
    """

    train: Dataset
    valid: Dataset
    test: Dataset
    origin: dict[str, Any] | None = None

    @property
    def spec(self) -> DataSpec:
        """What the data are; recipes read it."""
        return self.train.spec

    def split(self, name: SplitName) -> Dataset:
        """Return the split called `name`."""
        if name not in SPLITS:
            raise UsageError(f"there is no split {name!r}", expected=", ".join(SPLITS))
        return getattr(self, name)
