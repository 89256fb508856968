"""`load_data`: a name, an IDX file or a folder of IDX files becomes splits and a spec."""

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..core.spec import Binarize, Kind
from .arrays import from_arrays
from .builtin import BUILTIN
from .dataset import Data
from .idx import read_idx


def load_data(
    source: str | Path,
    *,
    binarize: Binarize = "auto",
    seed: int = 0,
    valid_fraction: float | None = None,
    test_fraction: float | None = None,
) -> Data:
    """Load data by name or path.

    Args:
        source: mnist, digits, ring, moons, 8gaussians; or an IDX file, or a folder of them (MNIST's file names:
            train-images..., train-labels..., t10k-images..., t10k-labels..., gzipped or not).
        binarize: how grey pixels become 0/1. "auto": as the likelihood needs; "dynamic": drawn anew in training,
            test fixed once by seed; "static-seed": all fixed by seed; "threshold": one half and above; "none".
        seed: seed of the splits and of every fixed binarisation, apart from the training seed.
        valid_fraction: share of the training rows held out for validation.
        test_fraction: share of all rows held out for the test, where the data bring no test split.

    Raises:
        DataError: if there is nothing of that name, or the file is damaged.
        UsageError: if an option has an impossible value.
    """
    options: dict[str, Any] = {"binarize": binarize, "seed": seed}
    if valid_fraction is not None:
        options["valid_fraction"] = valid_fraction
    if test_fraction is not None:
        options["test_fraction"] = test_fraction
    path = Path(source)
    if str(source) in BUILTIN:
        return replace(BUILTIN[str(source)](**options), origin={"source": str(source), **options})
    if path.exists():
        data = _idx_folder(path, options) if path.is_dir() else _idx_file(path, options)
        return replace(data, origin={"source": str(path.resolve()), **options})
    near = get_close_matches(str(source), BUILTIN, 1)
    raise DataError(
        f"there are no data called {str(source)!r}",
        expected=f"one of {', '.join(BUILTIN)}, or the path of an IDX file or of a folder of IDX files",
        fix=f"did you mean {near[0]}?" if near else "check the spelling of the path",
    )


def _kind(array: np.ndarray) -> Kind:
    return "image" if array.ndim >= 3 else "table"


def _idx_file(path: Path, options: dict[str, Any]) -> Data:
    array = read_idx(path)
    if array.ndim < 2:
        raise DataError(f"{path.name} holds labels or single numbers, not examples", where=str(path))
    if array.shape[0] == 0:
        raise DataError(f"0 examples in {path}", expected="at least 2")
    return from_arrays(array, name=path.name.split(".")[0], kind=_kind(array), **options)


def _find(folder: Path, split: tuple[str, ...], kind: str) -> Path | None:
    found = [p for p in sorted(folder.iterdir()) if p.is_file() and kind in p.name.lower() and "idx" in p.name.lower()]
    found = [p for p in found if p.name.lower().startswith(split)]
    if len({p.name.removesuffix(".gz") for p in found}) > 1:
        names = ", ".join(p.name for p in found)
        raise DataError(f"{folder} holds several files of {split[0]} {kind}: {names}", expected="one")
    return found[0] if found else None


def _idx_folder(folder: Path, options: dict[str, Any]) -> Data:
    images = _find(folder, ("train",), "images")
    if images is None:
        files = [p for p in sorted(folder.iterdir()) if p.is_file() and "idx" in p.name.lower()]
        if len(files) == 1:
            return _idx_file(files[0], options)
        raise DataError(
            f"0 examples in {folder}",
            expected="a file train-images-idx3-ubyte(.gz), or a single IDX file",
        )
    labels = _find(folder, ("train",), "labels")
    test_images = _find(folder, ("t10k", "test"), "images")
    test_labels = _find(folder, ("t10k", "test"), "labels")
    x = read_idx(images)
    test = (read_idx(test_images), read_idx(test_labels) if test_labels else None) if test_images else None
    y = read_idx(labels) if labels else None
    return from_arrays(x, y, name=folder.name, kind=_kind(x), test=test, **options)
