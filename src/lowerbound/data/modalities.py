"""Several modalities as one tensor: their flattened values side by side, a missing one masked."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError, ShapeError, UsageError
from ..core.spec import Binarize, Column, DataSpec, Modality
from .arrays import as_array, check_choices, from_arrays, labels_of
from .dataset import Data, Dataset
from .splits import Rows, make_data, plan_splits, weights_of
from .stored import Stored


def joined(
    parts: Mapping[str, Any],
    *,
    observed: Mapping[str, Any] | None = None,
    y: Any = None,
    weight: Any = None,
    name: str = "joined",
    binarize: Binarize = "auto",
    seed: int = 0,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.1,
) -> Data:
    """Make data of several modalities of the same examples, split by seed.

    Examples become one tensor `[N, D]`, the modalities' flattened values side by side in the order given; `DataSpec`
    says where each is, and `lowerbound.core.modalities.split` takes them apart. A modality that an example does not
    have is masked: models integrate it out.

    Args:
        parts: by name, arrays or tensors of N rows, as `from_arrays` takes them: images, tables, or vectors `[N]`.
            Texts and whole numbers `[N]` are categories, floats `[N]` one real value each, which are not standardised:
            training wants a spread of about 1. A row of NaN alone is missing.
        observed: by name, which rows have a modality, `[N]` bool; those left out are there in all rows.
        y: labels `[N]` that are no modality, or None.
        weight: row weights `[N]`, or None.
        name: what to call the data.
        binarize: how grey values become 0/1.
        seed: seed of the splits and of every fixed binarisation.
        valid_fraction: share of the training rows held out for validation.
        test_fraction: share of all rows held out for the test.

    Raises:
        DataError: if modalities have different numbers of rows, or values that cannot be used.
        UsageError: if there is no modality, or `observed` names another one.

    >>> data = joined({"image": np.zeros((20, 4, 4), np.uint8), "label": [i % 3 for i in range(20)]})
    >>> data.spec.shape, [m.name for m in data.spec.modalities]
    ((19,), ['image', 'label'])
    """
    observed = {} if observed is None else observed
    unknown = [known for known in observed if known not in parts]
    if not parts or unknown:
        raise UsageError(
            f"there is no modality {unknown[0]!r}" if parts else "there are no modalities",
            expected=", ".join(parts) or "at least one",
        )
    made, there = {}, {}
    for part, values in parts.items():
        made[part], there[part] = _part(part, values, observed.get(part), seed)
    counts = {part: len(rows) for part, rows in made.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} of {part}" for part, count in counts.items())
        raise DataError(f"the modalities of {name} have different numbers of rows: {listed}", expected="as many of all")
    rows = len(next(iter(made.values())))
    labels, classes = labels_of(y, rows, name)
    x, scale, mask = _side_by_side(made, there)
    missing = {part: not bool(seen.all()) for part, seen in there.items()}
    spec = _spec(name, {part: each.spec for part, each in made.items()}, classes, missing, seed)
    if binarize != "auto":
        check_choices(binarize=binarize)
        if binarize != "none" and not any(m.spec.grey for m in spec.modalities):
            raise UsageError(f"nothing of {name} is grey images, which could be binarised", fix="drop binarize")
        spec = spec.protocol(binarize)
    lost = [f"{part} in {int((~seen).sum()):,}" for part, seen in there.items() if missing[part]]
    notes = (f"of {rows:,} rows some lack a modality, which is masked: {', '.join(lost)}",) if lost else ()
    plan = plan_splits(rows, None, seed, valid_fraction, test_fraction)
    given = Rows(x, labels, weights_of(weight, rows, name), mask=mask)
    return make_data(given, None, plan, spec, scale=scale, notes=notes)


def with_label(data: Data) -> Data:
    """Return labelled data with the label as a second modality "label", a one-hot vector of the classes.

    The first is called "image", or "row" of other data. Splits, weights and labels y stay.

    Raises:
        UsageError: if there are no labels, or rows are on disk, or come in pairs.

    >>> from lowerbound import load_data
    >>> with_label(load_data("digits")).spec.shape
    (74,)
    """
    first = data.train
    if first.y is None or data.spec.num_classes < 2:
        raise UsageError(
            f"{data.spec.name} has no labels of two classes or more to model", fix="drop --with-label, or say --label"
        )
    if isinstance(first.x, Stored) or first.seen is not None:
        how = "comes in pairs" if first.seen is not None else "stays on disk"
        raise UsageError(f"the labels of data that {how} cannot be a modality", fix="--memory hold, without --seen")
    name = "image" if data.spec.kind == "image" else "row"
    parts = {split: _labelled(rows, name) for split, rows in vars(data).items() if isinstance(rows, Dataset)}
    said = f"the label is a modality of x beside the {name}: one of {data.spec.num_classes} classes"
    return replace(data, **parts, notes=(*data.notes, said))


def is_labelled(spec: DataSpec) -> bool:
    """Tell whether data are such as `with_label` makes: one kind of data, and their label."""
    return [m.name for m in spec.modalities][1:] == ["label"]


def label_of(spec: DataSpec) -> Column | None:
    """Return the column that the label of `with_label` data came from, if it was one and they are such data."""
    return spec.modalities[1].spec.label if is_labelled(spec) else None


def without_label(rows: Dataset) -> Dataset:
    """Return rows of `with_label` data with the label hidden in all of them: log p is then that of the rest."""
    cells = rows.spec.modalities[0].spec.dims
    known = rows.mask_values()
    mask = torch.ones_like(rows.x[:], dtype=torch.bool) if known is None else known.clone()
    mask[:, cells:] = False
    return replace(rows, x=torch.where(mask, rows.x[:], torch.zeros((), dtype=rows.x.dtype)), mask=mask)


def labelled(rows: Dataset, spec: DataSpec) -> Dataset:
    """Return rows of the first modality of `with_label` data as such data; without labels they are missing.

    Raises:
        DataError: if the model's data are no such data.
        ShapeError: if the rows have another shape than the first modality.
    """
    if not is_labelled(spec):
        raise DataError(
            f"{rows.spec.name} holds one kind of data, the model was built for the modalities of {spec.name}",
            fix="give them together: lowerbound.joined",
        )
    first = spec.modalities[0]
    if tuple(rows.spec.shape) != tuple(first.spec.shape):
        raise ShapeError(
            f"{rows.spec.name} has examples of shape {tuple(rows.spec.shape)}",
            expected=f"{tuple(first.spec.shape)}, as the {first.name} of {spec.name}, which the model was built for",
        )
    made = _labelled(rows, spec.modalities[0].name, spec.modalities[1].spec.classes)
    each = zip(made.spec.modalities, spec.modalities, strict=True)
    kept = tuple(replace(mine, missing=theirs.missing) for mine, theirs in each)
    return replace(made, spec=replace(made.spec, modalities=kept))


def _labelled(rows: Dataset, name: str, classes: tuple[str, ...] | None = None) -> Dataset:
    classes = rows.spec.classes if classes is None else classes
    y = torch.zeros(len(rows), dtype=torch.long) if rows.y is None else rows.y
    label = _categories(y, classes, "label", rows.spec.data_seed)
    label = replace(label, spec=replace(label.spec, label=rows.spec.label))
    parts = {name: rows, "label": label}
    there = {name: torch.ones(len(rows), dtype=torch.bool), "label": torch.full((len(rows),), rows.y is not None)}
    x, scale, mask = _side_by_side(parts, there)
    own = replace(rows.spec, classes=(), label=None, weight=None)
    spec = _spec(f"{rows.spec.name}-label", {name: own, "label": label.spec}, classes, {}, rows.spec.data_seed)
    spec = replace(spec, size=rows.spec.size)
    return replace(rows, x=x, scale=scale, mask=mask, spec=spec, grey=None, resample=False)


def _spec(
    name: str, parts: Mapping[str, DataSpec], classes: tuple[str, ...], missing: Mapping[str, bool], seed: int
) -> DataSpec:
    modalities = tuple(Modality(part, spec, missing.get(part, False)) for part, spec in parts.items())
    grey = [spec.binarize for spec in parts.values() if spec.grey]
    dims = sum(spec.dims for spec in parts.values())
    spec = DataSpec(name, (dims,), "points", "mixed", 0, classes, "none", seed, modalities=modalities)
    return replace(spec, binarize=grey[0]) if grey else spec


def _part(name: str, values: Any, observed: Any, seed: int) -> tuple[Dataset, Tensor]:
    """Return one modality's rows, and which of them are there, `[N]` bool."""
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    if array.ndim == 0 or len(array) < 2:
        raise DataError(f"{name} has shape {array.shape}", expected="at least 2 examples")
    seen = _observed(name, observed, len(array))
    if array.ndim == 1 and array.dtype.kind != "f":
        numbers, classes = labels_of(array[seen], int(seen.sum()), name)
        if numbers is None or len(classes) < 2:
            raise DataError(f"{name} is the same in all rows", expected="2 categories or more")
        y = torch.zeros(len(array), dtype=torch.long)
        y[torch.from_numpy(seen)] = numbers
        return _categories(y, classes, name, seed), torch.from_numpy(seen)
    array = as_array(array, name)
    array = array[:, None] if array.ndim == 1 else array
    if array.dtype.kind == "f":
        array, seen = _without_nan(name, array, seen)
    whole = from_arrays(array, name=name, seed=seed, valid_fraction=0.0, test_fraction=0.0, memory="hold")
    return whole.train, torch.from_numpy(seen)


def _observed(name: str, observed: Any, rows: int) -> np.ndarray:
    if observed is None:
        return np.ones(rows, bool)
    seen = np.asarray(observed.cpu() if isinstance(observed, Tensor) else observed)
    if seen.shape != (rows,) or not np.isin(seen, (0, 1)).all():
        raise DataError(f"which rows have {name} is no list of {rows} true or false values", expected=f"({rows},)")
    if not seen.any():
        raise DataError(f"no row has {name}", expected="some that have it", fix="leave the modality out")
    return seen.astype(bool)


def _without_nan(name: str, array: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values without NaN, and which rows are there: those of NaN alone are missing."""
    lost = np.isnan(array.reshape(len(array), -1))
    seen = seen & ~lost.all(1)
    partly = seen & lost.any(1)
    if partly.any():
        raise DataError(
            f"{name} has NaN values in {int(partly.sum())} rows that have others, too",
            where=f"first in row {int(np.argmax(partly)) + 1}",
            expected="rows that are there or missing as a whole",
            fix="fill them",
        )
    if not seen.any():
        raise DataError(f"no row has {name}", expected="some that have it", fix="leave the modality out")
    array = array.copy()
    array[~seen] = array[int(np.argmax(seen))]  # inside the support; the mask hides it
    return array, seen


def _categories(y: Tensor, classes: tuple[str, ...], name: str, seed: int) -> Dataset:
    """Return numbers `[N]` as one-hot rows of bytes."""
    spec = DataSpec(name, (len(classes),), "points", "onehot", len(y), classes, "none", seed)
    return Dataset(torch.nn.functional.one_hot(y, len(classes)).to(torch.uint8), None, spec, "all")


def _side_by_side(parts: Mapping[str, Dataset], there: Mapping[str, Tensor]) -> tuple[Tensor, int, Tensor | None]:
    """Return the rows of all modalities `[N, D]`, their common scale, and the mask, None where all is there."""
    each, masks = list(parts.values()), []
    for name, rows in parts.items():
        mask = rows.mask_values()
        known = torch.ones(len(rows), rows.spec.dims, dtype=torch.bool) if mask is None else mask.flatten(1)
        masks.append(known & there[name][:, None])
    mask = torch.cat(masks, 1)
    scales = {rows.scale for rows in each if rows.scale != 1}
    alike = all(rows.x.dtype == torch.uint8 and (rows.spec.grey or rows.spec.support == "onehot") for rows in each)
    if alike and len(scales) == 1:  # bytes stay bytes: 0 and 1 become 0 and the scale of the others
        scale = scales.pop()
        x = torch.cat([rows.x[:].flatten(1) * (1 if rows.scale != 1 else scale) for rows in each], 1)
    else:
        scale, x = 1, torch.cat([rows.values().flatten(1) for rows in each], 1)
    return torch.where(mask, x, torch.zeros((), dtype=x.dtype)), scale, None if bool(mask.all()) else mask
