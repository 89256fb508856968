"""Arrays and tensors to data: what is taken, how its support is found, how it is split."""

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from ..core.distribution import Support
from ..core.errors import DataError, UsageError
from ..core.noise import Stream, generator
from ..core.spec import Binarize, DataSpec, Kind
from .dataset import Data, Dataset, SplitName

BINARIZE: tuple[Binarize, ...] = get_args(Binarize)


def _tensor(x: Any, what: str) -> Tensor:
    """Return x as a tensor of its own, uint8 or float32.

    Raises:
        DataError: if it is no array of real numbers, or a value is not finite as float32.
    """
    if isinstance(x, Tensor):
        if x.is_complex():
            raise DataError(f"{what} has complex values", expected="real numbers")
        tensor = x.detach().clone()
    else:
        try:
            array = np.asarray(x)
        except ValueError as error:
            raise DataError(f"{what} is no array: {error}", expected="real numbers, rows of equal length") from error
        if array.dtype.kind not in "biuf":
            raise DataError(f"{what} has values of type {array.dtype} (complex or text)", expected="real numbers")
        with np.errstate(over="ignore"):
            tensor = torch.from_numpy(array.astype(np.uint8 if array.dtype == np.uint8 else np.float32, order="C"))
    if tensor.dtype == torch.uint8:
        return tensor
    tensor = tensor.float()
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise DataError(
            f"{what} has {bad} values that are not finite as float32", fix="remove or fill them, or scale the data down"
        )
    return tensor


def _support(x: Tensor, kind: Kind) -> Support:
    low, high = float(x.min()), float(x.max())
    if low >= 0 and high <= 1 and bool(((x == 0) | (x == 1)).all()):
        return "binary"
    return "unit" if kind == "image" and low >= 0 and high <= 1 else "real"


def from_arrays(
    x: Any,
    y: Any = None,
    *,
    name: str = "arrays",
    test: tuple[Any, Any] | None = None,
    kind: Kind | None = None,
    scale: int | None = None,
    binarize: Binarize = "auto",
    seed: int = 0,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.1,
) -> Data:
    """Make a `Data` of arrays or tensors, split by seed.

    Args:
        x: examples `[N, ...]`: `[N, D]` tables, `[N, H, W]` or `[N, C, H, W]` images, uint8 images in 0..255 or
            float ones.
        y: labels `[N]`, or None.
        name: what to call the data.
        test: (x, y) of a given test split; None splits one off.
        kind: "image", "table" or "points"; by default by the number of axes.
        scale: stored whole number that means 1; unless given, 255 for uint8 images (1 for those of zeros and ones).
        binarize: how grey values become 0/1.
        seed: seed of the splits and of every fixed binarisation.
        valid_fraction: share of the training rows held out for validation.
        test_fraction: share of all rows split off if `test` is None.

    Raises:
        DataError: if there are fewer than 2 examples, values are not finite or labels do not fit.
    """
    if kind is not None and kind not in get_args(Kind):
        raise UsageError(f"there is no kind of data {kind!r}", expected=", ".join(get_args(Kind)))
    if binarize not in BINARIZE:
        raise UsageError(f"there is no binarisation {binarize!r}", expected=", ".join(BINARIZE))
    rows = _tensor(x, name)
    if rows.ndim < 2 or rows.shape[0] < 2 or 0 in rows.shape:
        raise DataError(f"{name} has shape {tuple(rows.shape)}", expected="at least 2 examples of at least 1 value")
    kind = kind or ("image" if rows.ndim >= 3 else "table")
    labels, classes = _labels(y, rows.shape[0], name)
    if scale is None:
        scale = _scale_of(rows) if rows.dtype == torch.uint8 and kind == "image" else 1
    like = rows[:0]  # type and shape as given, for a given test split to be compared with
    rows = _stored(rows, kind, scale, name)
    order = torch.randperm(rows.shape[0], generator=generator(Stream.SPLITS, seed))
    if test is None:
        cut = _share(rows.shape[0], test_fraction, "test fraction")
        first, order = order[:cut].sort().values, order[cut:]
        held, held_labels = rows[first], None if labels is None else labels[first]
    else:
        held = _test_rows(test[0], like, kind, scale, name)
        held_labels = _test_labels(test[1], held.shape[0], classes, name)
    cut = _share(len(order), valid_fraction, "validation fraction")
    support: Support = "unit" if scale != 1 else _support(torch.cat([rows.flatten(), held.flatten()]), kind)
    if support == "real" and binarize not in ("auto", "none"):
        raise UsageError(f"{name} has real values, which cannot be binarised", fix="drop --binarize")
    spec = DataSpec(
        name=name,
        shape=tuple(rows.shape[1:]),
        kind=kind,
        support=support,
        size=len(order) - cut,
        classes=classes,
        binarize=binarize if support == "unit" else "none",
        data_seed=seed,
        resolution=1 / scale if scale != 1 else 0.0,
    )

    def part(index: Tensor, split: SplitName) -> Dataset:
        index = index.sort().values  # rows stay in the order they came in
        return Dataset(rows[index], None if labels is None else labels[index], spec, split, scale)

    return Data(part(order[cut:], "train"), part(order[:cut], "valid"), Dataset(held, held_labels, spec, "test", scale))


def _scale_of(x: Tensor) -> int:
    """Return the stored value of uint8 images that means 1: 255, or 1 if they hold zeros and ones alone."""
    return 255 if int(x.max()) > 1 else 1


def given_rows(x: Tensor, like: DataSpec) -> Dataset:
    """Return a tensor of examples of the kind `like` describes, without labels, as a split called "test".

    Raises:
        DataError: if values are not finite, or there are none.
    """
    rows = _tensor(x, "the tensor")
    if rows.ndim < 2 or 0 in rows.shape:
        raise DataError(f"the tensor has shape {tuple(rows.shape)}", expected="1 example or more, of 1 value or more")
    scale = 1
    if rows.dtype == torch.uint8 and like.kind == "image":
        scale = _scale_of(rows) if not like.resolution else round(1 / like.resolution)
    rows = _stored(rows, like.kind, scale, "the tensor")
    support: Support = "unit" if scale != 1 else _support(rows, like.kind)
    protocol: Binarize = "auto" if support == "unit" else "none"
    shape = tuple(rows.shape[1:])
    spec = replace(like, name="tensor", shape=shape, support=support, size=len(rows), classes=(), binarize=protocol)
    return Dataset(rows, None, spec, "test", scale)


def _stored(x: Tensor, kind: Kind, scale: int, name: str) -> Tensor:
    """Return x as it is kept: images with a channel axis; floats, or whole numbers 0..scale."""
    if kind == "image" and x.ndim == 3:
        x = x[:, None]
    if scale == 1:
        return x.float()
    if x.numel() and (float(x.min()) < 0 or float(x.max()) > scale):
        raise DataError(
            f"{name} has values from {float(x.min()):g} to {float(x.max()):g}",
            expected=f"0 to {scale}",
            fix="give the right `scale`, the stored value that means 1",
        )
    return x


def _test_rows(x: Any, like: Tensor, kind: Kind, scale: int, name: str) -> Tensor:
    """Return a given test split as it is kept, if its type and shape are like the training rows'."""
    held = _tensor(x, f"{name} (test)")
    if scale != 1 and held.dtype != like.dtype:
        raise DataError(f"{name} (test) has other units than the training rows", expected="the same type of values")
    if held.shape[1:] != like.shape[1:]:
        raise DataError(
            f"{name} (test) has examples of shape {tuple(held.shape[1:])}",
            expected=f"{tuple(like.shape[1:])}, as in training",
        )
    return _stored(held, kind, scale, f"{name} (test)")


def _share(rows: int, fraction: float, what: str) -> int:
    if not 0 <= fraction < 1:
        raise UsageError(f"the {what} cannot be {fraction}", expected="0 or more and below 1")
    return int(rows * fraction)


def _labels(y: Any, rows: int, name: str) -> tuple[Tensor | None, tuple[str, ...]]:
    if y is None:
        return None, ()
    try:
        given = np.asarray(y)
        names, numbers = np.unique(given, return_inverse=True)
    except (TypeError, ValueError) as error:
        raise DataError(f"the labels of {name} are no list of names or numbers: {error}") from error
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise DataError(f"the labels of {name} hold values that are not finite")
    if given.shape != (rows,):
        raise DataError(f"{name} has {rows} examples but labels of shape {given.shape}", expected=f"({rows},)")
    return torch.from_numpy(numbers.astype(np.int64)), tuple(str(n) for n in names)


def _test_labels(y: Any, rows: int, classes: tuple[str, ...], name: str) -> Tensor | None:
    if y is None or not classes:
        return None
    given = np.asarray(y).astype(str)
    if given.shape != (rows,):
        raise DataError(f"{name} has {rows} test examples but labels of shape {given.shape}", expected=f"({rows},)")
    unknown = sorted(set(given) - set(classes))
    if unknown:
        raise DataError(f"the test labels of {name} hold {unknown[0]!r}, which no training row has")
    number = {name: i for i, name in enumerate(classes)}
    return torch.tensor([number[name] for name in given.tolist()])
