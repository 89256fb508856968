"""Arrays and tensors to data: what is taken, how its support is found, how it is split."""

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from ..core.distribution import Support
from ..core.errors import DataError, UsageError
from ..core.spec import Binarize, DataSpec, Kind, Layout
from .checks import check_range
from .columns import Missing, columns_of_array, table_spec
from .dataset import Data, Dataset
from .splits import Fractions, Memory, Rows, make_data, plan_splits, weights_of


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
        array = as_array(x, what)
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


def _support(x: Tensor, kind: Kind, *, whole: bool = False) -> Support:
    """Return where values lie; those of an integer type (`whole`) are counts where they are no pixels and not below 0.

    A table of floats is real, whatever its values look like.
    """
    low, high = float(x.min()), float(x.max())
    if low >= 0 and high <= 1 and bool(((x == 0) | (x == 1)).all()):
        return "binary"
    if whole and kind == "table" and low >= 0:
        return "count"
    return "unit" if kind == "image" and low >= 0 and high <= 1 else "real"


def from_arrays(
    x: Any,
    y: Any = None,
    *,
    weight: Any = None,
    seen: Any = None,
    name: str = "arrays",
    test: tuple[Any, Any] | None = None,
    kind: Kind | None = None,
    layout: Layout | None = None,
    scale: int | None = None,
    standardize: bool = False,
    missing: Missing = "error",
    binarize: Binarize = "auto",
    seed: int = 0,
    valid_fraction: float | None = None,
    test_fraction: float | None = None,
    memory: Memory = "auto",
) -> Data:
    """Make a `Data` of arrays or tensors, split by seed.

    Args:
        x: examples `[N, ...]`: `[N, D]` tables, `[N, H, W]`, `[N, C, H, W]` or `[N, H, W, C]` images, uint8 images in
            0..255 or float ones.
        y: labels `[N]`, or None.
        weight: row weights `[N]`, or None.
        seen: what the encoder sees in place of x (hazy images of clean x), like x, or None; not with `test`.
        name: what to call the data.
        test: (x, y) of a given test split; None splits one off.
        kind: "image", "table" or "points"; by default by the number of axes.
        layout: axes of one image: "hw", "chw" or "hwc"; by default by the place of an axis of 1 or 3.
        scale: stored whole number that means 1; unless given, 255 for uint8 images (1 for those of zeros and ones).
        standardize: give each column of a table mean 0 and variance 1 on the training rows; the model keeps the units.
        missing: "error" refuses NaN; "keep" takes NaN in a table for a missing cell.
        binarize: how grey values become 0/1.
        seed: seed of the splits and of every fixed binarisation.
        valid_fraction: share of the training rows held out for validation (default 0.1).
        test_fraction: share of all rows split off if `test` is None (default 0.1).
        memory: "map" leaves the rows of a `numpy.memmap` in its file, and reads them batch by batch; "hold" copies
            them; "auto" copies what takes less than a quarter of the memory. Of rows left there no more than 10,000 are
            held out by default.

    Raises:
        DataError: if there are fewer than 2 examples, values are not finite or labels do not fit.
        UsageError: if options do not fit each other, or rows are to stay in a file and are in none.
    """
    check_choices(kind=kind, binarize=binarize, missing=missing, layout=layout, memory=memory)
    if memory != "hold":
        from .mapped_memmaps import Given, from_memmap, stays

        given = Given(x, y, weight, seen, test, name, kind, layout)
        if stays(given, memory):
            asked = {"scale": scale, "binarize": binarize, "standardize": standardize, "missing": missing}
            return from_memmap(given, fractions=Fractions(seed, valid_fraction, test_fraction), **asked)
    valid_fraction, test_fraction = (0.1 if share is None else share for share in (valid_fraction, test_fraction))
    if standardize or missing == "keep":
        if test is not None or seen is not None or kind not in (None, "table"):
            raise UsageError(
                "only tables are standardised or keep missing cells, and all their rows are given together",
                fix="give x [N, D] without `test`, `seen` or another `kind`",
            )
        fractions = (valid_fraction, test_fraction)
        return _of_columns(x, y, weight, name, seed, fractions, standardize=standardize, missing=missing)
    rows = _tensor(x, name)
    if rows.ndim < 2 or rows.shape[0] < 2 or 0 in rows.shape:
        raise DataError(f"{name} has shape {tuple(rows.shape)}", expected="at least 2 examples of at least 1 value")
    kind = _kind_of(rows, kind, name)
    layout = layout or layout_of(tuple(rows.shape[1:])) if kind == "image" else "chw"
    labels, classes = labels_of(y, rows.shape[0], name)
    if scale is None:
        scale = _scale_of(rows) if rows.dtype == torch.uint8 and kind == "image" else 1
    like = rows[:0]  # type and shape as given, for what else is given to be compared with
    weights = weights_of(weight, rows.shape[0], name)
    shown, seen_scale = (None, 1) if seen is None else _seen_rows(seen, rows, kind, layout, scale, name)
    rows = _stored(rows, kind, layout, scale, name)
    held = None
    if test is not None:
        if seen is not None:
            raise UsageError("seen rows cannot be given beside a separate test split", fix="give all rows together")
        held_x = _test_rows(test[0], like, kind, layout, scale, name)
        held = Rows(held_x, _test_labels(test[1], held_x.shape[0], classes, name))
    plan = plan_splits(len(rows), held, seed, valid_fraction, test_fraction)
    whole = _is_whole(x) and (test is None or _is_whole(test[0]))
    both = [rows.flatten()] if held is None else [rows.flatten(), held.x[:].flatten()]
    support: Support = "unit" if scale != 1 else _support(torch.cat(both), kind, whole=whole)
    check_range(rows, kind, support, name)
    if support == "real" and binarize not in ("auto", "none"):
        raise UsageError(f"{name} has real values, which cannot be binarised", fix="drop --binarize")
    spec = DataSpec(
        name=name,
        shape=tuple(rows.shape[1:]),
        kind=kind,
        support=support,
        size=len(plan.train),
        classes=classes,
        binarize=binarize if support == "unit" else "none",
        data_seed=seed,
        resolution=1 / scale if scale != 1 else 0.0,
        layout=layout,
    )
    given = Rows(rows, labels, weights, shown)
    return make_data(given, held, plan, spec, scale=scale, seen_scale=seen_scale)


def _kind_of(rows: Tensor, kind: Kind | None, name: str) -> Kind:
    """Return the kind of rows, by the number of their axes unless it is given; more than an image has are refused."""
    kind = kind or ("image" if rows.ndim >= 3 else "table")
    if kind == "image" and rows.ndim > 4:
        raise DataError(
            f"{name} has shape {tuple(rows.shape)}",
            expected="images [N, H, W] or [N, C, H, W], or a table [N, D]",
            fix="put all axes but the first into one: x.reshape(len(x), -1)",
        )
    return kind


def _scale_of(x: Tensor) -> int:
    """Return the stored value of uint8 images that means 1: 255, or 1 if they hold zeros and ones alone."""
    return 255 if int(x.max()) > 1 else 1


def given_rows(x: Any, like: DataSpec, name: str = "tensor", *, scale: int | None = None) -> Dataset:
    """Return a tensor or array of examples of the kind `like` describes, without labels, as a split called "test".

    Whole numbers are stored values, as the training rows were, unless `scale` says which of them means 1; floats are in
    model units.

    Raises:
        DataError: if values are not finite or in other units than the training rows, or there are none.
    """
    rows = _tensor(x, f"the {name}")
    if rows.ndim < 2 or 0 in rows.shape:
        raise DataError(f"the {name} has shape {tuple(rows.shape)}", expected="1 example or more, of 1 value or more")
    if scale is None:
        scale = _scale_like(rows, like, whole=_is_whole(x))
    rows = _stored(rows, like.kind, like.layout if tuple(rows.shape[1:]) != like.shape else "chw", scale, f"the {name}")
    support: Support = like.support if like.columns else "unit" if scale != 1 else _support(rows, like.kind)
    if like.support == "count":
        support = "count" if bool(((rows >= 0) & (rows == rows.round())).all()) else "real"
    if like.kind == "image" and like.support != "real" and support == "real":
        raise DataError(
            f"the {name} has values from {float(rows.min()):g} to {float(rows.max()):g}",
            expected=f"0 to 1, as in {like.name}, which the model was built for",
            fix="divide by the value that means white",
        )
    protocol: Binarize = "auto" if support == "unit" else "none"
    shape = tuple(rows.shape[1:])
    spec = replace(like, name=name, shape=shape, support=support, size=len(rows), classes=(), binarize=protocol)
    return Dataset(rows, None, spec, "test", scale)


def _scale_like(rows: Tensor, like: DataSpec, *, whole: bool) -> int:
    if like.kind == "image" and whole and like.resolution:
        return round(1 / like.resolution)
    return _scale_of(rows) if like.kind == "image" and rows.dtype == torch.uint8 else 1


def _is_whole(x: Any) -> bool:
    """Tell whether values are stored as whole numbers."""
    if isinstance(x, Tensor):
        return not x.is_floating_point() and not x.is_complex()
    return getattr(getattr(x, "dtype", None), "kind", "f") in "biu"


def seen_scale_of(seen: Tensor, scale: int) -> int:
    """Return the stored value of whole numbers that means 1 in what is seen beside x, whose own is `scale`."""
    largest = int(seen.max())
    return 1 if largest <= 1 else scale if largest <= scale else 255


def _of_columns(
    x: Any,
    y: Any,
    weight: Any,
    name: str,
    seed: int,
    fractions: tuple[float, float],
    *,
    standardize: bool,
    missing: Missing,
) -> Data:
    """Return a numeric table whose columns are fitted on the training rows."""
    values = as_array(x, name)
    if values.ndim != 2:
        raise DataError(f"{name} has shape {values.shape}", expected="a table [N, D]")
    plan = plan_splits(len(values), None, seed, *fractions)
    made = columns_of_array(values, plan, name, standardize=standardize, missing=missing)
    labels, classes = labels_of(y, len(values), name)
    given = Rows(made.x, labels, weights_of(weight, len(values), name), mask=made.mask)
    return make_data(given, None, plan, table_spec(name, made, classes, seed), notes=made.notes)


def as_array(x: Any, what: str) -> np.ndarray:
    """Return x as an array of numbers.

    Raises:
        DataError: if it is none.
    """
    try:
        array = np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x)
    except ValueError as error:
        raise DataError(f"{what} is no array: {error}", expected="real numbers, rows of equal length") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what} has values of type {array.dtype} (complex or text)", expected="real numbers")
    return array


def check_choices(**given: str | None) -> None:
    """Raise UsageError if a named choice is none of its words."""
    known = {"kind": Kind, "binarize": Binarize, "missing": Missing, "layout": Layout, "memory": Memory}
    called = {"kind": "kind of data", "binarize": "binarisation", "missing": "rule for missing cells"}
    for name, value in given.items():
        if value is not None and value not in get_args(known[name]):
            raise UsageError(
                f"there is no {called.get(name, name)} {value!r}", expected=", ".join(get_args(known[name]))
            )


def layout_of(shape: tuple[int, ...]) -> Layout:
    """Tell where the channels of an image are: an axis of 1 or 3 that is last and not first is one of channels."""
    if len(shape) == 2:
        return "hw"
    return "hwc" if len(shape) == 3 and shape[-1] in (1, 3) and shape[0] not in (1, 3) else "chw"


def _stored(x: Tensor, kind: Kind, layout: Layout, scale: int, name: str) -> Tensor:
    """Return x as it is kept: images as (channels, height, width); floats, or whole numbers 0..scale."""
    if kind == "image" and x.ndim == 3:
        x = x[:, None]
    if kind == "image" and layout == "hwc" and x.ndim == 4:
        x = x.permute(0, 3, 1, 2).contiguous()
    if scale == 1:
        return x.float()
    if x.numel() and (float(x.min()) < 0 or float(x.max()) > scale):
        raise DataError(
            f"{name} has values from {float(x.min()):g} to {float(x.max()):g}",
            expected=f"0 to {scale}",
            fix="give the right scale (--max-value), the stored value that means 1",
        )
    return x


def _seen_rows(seen: Any, like: Tensor, kind: Kind, layout: Layout, scale: int, name: str) -> tuple[Tensor, int]:
    """Return what the encoder sees as it is kept, and its scale."""
    shown = _tensor(seen, f"{name} (seen)")
    if shown.shape != like.shape:
        raise DataError(
            f"what is seen of {name} has shape {tuple(shown.shape)}", expected=f"{tuple(like.shape)}, as {name} itself"
        )
    if shown.dtype == torch.uint8 and kind == "image":
        scale = seen_scale_of(shown, scale)
    elif shown.dtype != like.dtype:
        scale = 1
    return _stored(shown, kind, layout, scale, f"{name} (seen)"), scale


def _test_rows(x: Any, like: Tensor, kind: Kind, layout: Layout, scale: int, name: str) -> Tensor:
    """Return a given test split as it is kept, if its type and shape are like the training rows'."""
    held = _tensor(x, f"{name} (test)")
    if scale != 1 and held.dtype != like.dtype:
        raise DataError(f"{name} (test) has other units than the training rows", expected="the same type of values")
    if held.shape[1:] != like.shape[1:]:
        raise DataError(
            f"{name} (test) has examples of shape {tuple(held.shape[1:])}",
            expected=f"{tuple(like.shape[1:])}, as in training",
        )
    return _stored(held, kind, layout, scale, f"{name} (test)")


def labels_of(y: Any, rows: int, name: str) -> tuple[Tensor | None, tuple[str, ...]]:
    """Return labels as numbers `[N]` and the classes' names in order; None and () without labels.

    Raises:
        DataError: if they are not one finite number or name for each row.
    """
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
