"""What is probably wrong with data: refused where no number could be trusted, else said as a warning."""

from hashlib import blake2b
from typing import NoReturn

import torch
from torch import Tensor

from ..core.distribution import Support
from ..core.errors import DataError
from ..core.spec import Kind
from .dataset import Data, Dataset, bytes_of
from .stored import Stored

LARGEST = 1e15  # squares of larger values leave float32
LARGE = 1e4
_MOST_HASHED = 1 << 30  # bytes


def check_range(x: Tensor, kind: Kind, support: Support, name: str) -> None:
    """Raise DataError for values no likelihood here can score: pixels of -1 and 1, and what overflows when squared."""
    if support != "real":
        return
    if kind == "image" and bool((x.abs() == 1).all()):
        refuse_signs(name)
    refuse_large(float(x.abs().max()), name)


def refuse_signs(name: str) -> NoReturn:
    """Raise DataError for pixels of -1 and 1."""
    raise DataError(f"{name} holds pixels of -1 and 1", expected="0 and 1", fix="map them: (x + 1) / 2 gives 0 and 1")


def refuse_large(largest: float, name: str) -> None:
    """Raise DataError if values as large as `largest` overflow when squared."""
    if largest > LARGEST:
        raise DataError(
            f"{name} has values up to {largest:.3g} in size",
            expected=f"at most {LARGEST:.0e}: squares of larger ones overflow",
            fix="scale them down, or standardise the columns (standardize=True, --standardize yes)",
        )


def warnings_of(data: Data) -> tuple[str, ...]:
    """Return what is probably wrong with data, one line each."""
    return tuple(line for check in (_spread, _range, _repeats) for line in check(data))


def _spread(data: Data) -> list[str]:
    x = data.train.x[:].flatten(1)
    same = int((x == x[:1]).all(0).sum())
    if same == x.shape[1]:
        return ["all training rows are identical: zero variance, there is nothing to learn but the row itself"]
    plain = not data.spec.columns and not data.spec.modalities
    if same and plain and data.spec.kind not in ("image", "sequence"):
        return [f"{same} of {x.shape[1]} columns are constant: a learned variance goes to its floor there"]
    return []


def _range(data: Data) -> list[str]:
    if data.spec.support != "real" or data.spec.columns:
        return []
    x = data.train.x[:]
    low, high = float(x.min()), float(x.max())
    if data.spec.kind == "image" and -1 <= low < 0 and high <= 1:
        return [f"pixels go from {low:g} to {high:g}: for grey values in 0..1 give (x + 1) / 2"]
    if data.spec.kind == "image" and low >= 0 and 1 < high <= 255:
        white = 255 if high > 16 else high
        return [f"pixels go from {low:g} to {high:g}: if {white:g} means white, say so (--max-value)"]
    if max(-low, high) > LARGE:
        return [f"values go from {low:.3g} to {high:.3g}: standardise the columns, or scale them down"]
    return []


def _repeats(data: Data) -> list[str]:
    if sum(bytes_of(rows.x) for rows in (data.train, data.test)) > _MOST_HASHED:
        return []
    if min(len(data.train), len(data.test)) == 0:
        return []
    known = set(_digests(data.train))
    leaked = sum(digest in known for digest in _digests(data.test))
    if not leaked:
        return []
    return [f"{leaked} of {len(data.test)} test rows are also training rows: test numbers will look too good"]


def fingerprint(data: Data) -> str:
    """Return a digest of all rows, masks, labels, weights and what is seen, by which changed data are noticed.

    Of rows on disk it is one of the names and sizes of their files, and of samples of what is in them.
    """
    digest = blake2b(digest_size=16)
    for rows in (data.train, data.valid, data.test):
        for tensor in (rows.x, rows.y, rows.seen, rows.mask, rows.weight):
            if isinstance(tensor, Stored):
                digest.update(tensor.digest())
            elif tensor is not None:
                digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def repeated(rows: Dataset) -> int:
    """Return how many rows repeat an earlier one."""
    return len(rows) - len(set(_digests(rows)))


def _digests(rows: Dataset) -> list[bytes]:
    x, mask = rows.x[:].flatten(1).contiguous(), rows.mask_values()
    cells = x if mask is None else torch.cat([x, mask.to(x.dtype)], 1)
    return [blake2b(row.tobytes(), digest_size=12).digest() for row in cells.cpu().numpy()]
