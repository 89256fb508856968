"""What a model must know about data before it sees them: DataSpec, and the columns of a table."""

import math
from dataclasses import dataclass, replace
from math import prod
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from .distribution import Support
from .record import recorded

Kind: TypeAlias = Literal["image", "table", "points", "sequence"]
Binarize: TypeAlias = Literal["auto", "none", "dynamic", "static-seed", "threshold"]
ColumnKind: TypeAlias = Literal["numeric", "integer", "boolean", "category", "date"]
Layout: TypeAlias = Literal["chw", "hwc", "hw"]
Form: TypeAlias = Literal["arrays", "images", "csv", "parquet", "lines"]


@recorded
@dataclass(frozen=True)
class Column:
    """One column of a table: its type as it came, and how its values become a model's.

    Numbers and dates are standardised: model value = (value - offset) / scale, both from the training rows. Booleans
    are 0 and 1, categories their place in `categories`.

    Args:
        name: the column's name.
        kind: "numeric", "integer", "boolean", "category" or "date".
        dtype: the type of its cells where they came from, in Arrow's words ("double", "int64", "date32[day]", ...).
        offset: mean of the training rows, in the data's units; dates count in the units of `dtype` from 1970 on.
        scale: their standard deviation, 1 where it is 0.
        step: distance of neighbouring values in the data's units: 1 for whole numbers and dates, 0 where continuous.
        categories: the values of a category, in order.
        constant: True if all training rows have one value; it is kept out of the model and put back when decoded.
        missing: True if rows have missing cells, held-out rows included.
    """

    name: str
    kind: ColumnKind
    dtype: str
    offset: float = 0.0
    scale: float = 1.0
    step: float = 0.0
    categories: tuple[str, ...] = ()
    constant: bool = False
    missing: bool = False

    @property
    def real(self) -> bool:
        """True if a model sees standardised real values."""
        return self.kind in ("numeric", "integer", "date")

    @property
    def size(self) -> int:
        """0 for real values, 1 for 0/1, else the number of categories."""
        return 0 if self.real else 1 if self.kind == "boolean" else len(self.categories)


@recorded
@dataclass(frozen=True)
class DataSpec:
    """What a model must know about data before it sees them.

    Args:
        name: what the data are called.
        shape: shape of one example, images as (channels, height, width).
        kind: "image", "table", "points" or "sequence".
        support: where the stored values lie: "binary" {0, 1}, "unit" [0, 1], "count" 0, 1, 2, ..., "real", "mixed"
            columns, or "symbols": numbers of the vocabulary, and that of its size after a sequence's end.
        size: number of training examples.
        classes: the labels' names in order, empty without labels.
        binarize: how grey values become 0/1. "auto" leaves it to the likelihood.
        data_seed: seed of the splits and of every fixed binarisation.
        resolution: distance between neighbouring values of 8-bit data in model units (1/255), 0 if continuous.
        columns: the columns of a table in the data's order, those kept out of the model included.
        label: the column the labels came from, if the data have named columns.
        weight: name of the column the row weights came from.
        layout: axes of one image where it came from: "chw", "hwc", or "hw" without a channel axis.
        form: what the data came as; the form in which new ones are written.
        paired: True if the encoder was shown other values than those that are scored.
        modalities: what lies side by side in one example, in order; empty for data of one kind.
        vocabulary: the symbols of sequences in order of their numbers, empty for other data.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    support: Support
    size: int
    classes: tuple[str, ...] = ()
    binarize: Binarize = "auto"
    data_seed: int = 0
    resolution: float = 0.0
    columns: tuple[Column, ...] = ()
    label: Column | None = None
    weight: str | None = None
    layout: Layout = "chw"
    form: Form = "arrays"
    paired: bool = False
    modalities: "tuple[Modality, ...]" = ()
    vocabulary: tuple[str, ...] = ()

    @property
    def dims(self) -> int:
        """Number of values in one example."""
        return prod(self.shape)

    @property
    def num_classes(self) -> int:
        """Number of labels, 0 without labels."""
        return len(self.classes)

    @property
    def binarized(self) -> bool:
        """True where the values a likelihood scores are 0 and 1 made from grey ones."""
        return self.binarize not in ("auto", "none")

    @property
    def grey(self) -> bool:
        """True for images of one channel with values in [0, 1]."""
        return self.kind == "image" and self.shape[0] == 1 and self.support == "unit"

    @property
    def drawn(self) -> Tensor | None:
        """True for values that are 0/1 pixels made from grey ones, `[D]` of modalities; None for data of one kind."""
        if not self.modalities:
            return None
        return torch.cat([torch.full((m.spec.dims,), m.spec.binarized) for m in self.modalities])

    @property
    def scored_support(self) -> Support:
        """Support of the values a likelihood scores, after binarisation; grey values of 8-bit data are levels."""
        if self.modalities:
            return "mixed"
        if self.binarized:
            return "binary"
        return "levels" if self.support == "unit" and self.resolution else self.support

    @property
    def levels(self) -> int:
        """Number of evenly spaced levels that 8-bit (or other whole-number) values have, 0 if continuous."""
        return round(1 / self.resolution) + 1 if self.resolution else 0

    @property
    def modelled(self) -> tuple[Column, ...]:
        """The columns a model sees, one for each value of an example."""
        return tuple(c for c in self.columns if not c.constant)

    @property
    def masked(self) -> bool:
        """True if cells, or a modality of some rows, were missing."""
        return any(c.missing for c in self.columns) or any(m.missing or m.spec.masked for m in self.modalities)

    @property
    def log_scale(self) -> Tensor | None:
        """Log of each value's unit in the data's units, `[*shape]`: log p(data) = log p(model) - sum log_scale.

        None where a model sees the data's own units.
        """
        each = [(m.spec.dims, m.spec.log_scale) for m in self.modalities]
        if any(scale is not None for _, scale in each):
            return torch.cat([torch.zeros(n, dtype=torch.float64) if s is None else s for n, s in each])
        if not any(c.real and c.scale != 1 for c in self.modelled):
            return None
        return torch.tensor([math.log(c.scale) if c.real else 0.0 for c in self.modelled], dtype=torch.float64)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns whose cells are texts, whatever those of one file look like (a code "01" is no number)."""
        plain = ("string", "large_string", "string_view")
        texts = (*plain, *(f"dictionary<values={name}," for name in plain))
        every = (*self.columns, *([self.label] if self.label is not None else []))
        return tuple(c.name for c in every if c.kind == "category" and c.dtype.startswith(texts))

    def settle(self, wanted: Support) -> "DataSpec":
        """Return the spec with `binarize="auto"` settled for a likelihood on `wanted`: dynamic if it is binary.

        Of several modalities the grey images become dynamic.
        """
        if self.binarize != "auto":
            return self
        if self.modalities:
            return self.protocol("dynamic")
        dynamic = wanted == "binary" and self.support == "unit"
        return replace(self, binarize="dynamic" if dynamic else "none")

    def protocol(self, binarize: Binarize) -> "DataSpec":
        """Return the spec of several modalities with the grey images among them made 0/1 in this way."""
        each = tuple(replace(m, spec=replace(m.spec, binarize=binarize)) if m.spec.grey else m for m in self.modalities)
        return replace(self, binarize=binarize, modalities=each)


@recorded
@dataclass(frozen=True)
class Modality:
    """One of several kinds of data that describe the same example: its values lie in x beside those of the others.

    Args:
        name: what it is called.
        spec: what its values are; `shape` is that before they were laid side by side.
        missing: True if some rows have none of it, rows held out included.
    """

    name: str
    spec: DataSpec
    missing: bool = False
