"""IDX files, the format of MNIST: a header with type and sizes, then the values."""

import gzip
import struct
import zlib
from dataclasses import dataclass
from io import BufferedIOBase
from math import prod
from pathlib import Path

import numpy as np

from ..core.errors import DataError, UsageError


@dataclass(frozen=True)
class IdxFiles:
    """Which IDX files hold examples, labels, and those of a test split.

    Args:
        images: examples.
        labels: of them, or None.
        test_images: of a test split, or None.
        test_labels: of them, or None.
        alone: True for a single file, which may hold anything.
    """

    images: Path
    labels: Path | None = None
    test_images: Path | None = None
    test_labels: Path | None = None
    alone: bool = False


def idx_files(folder: Path) -> IdxFiles:
    """Return the IDX files of a folder by MNIST's names, or the only one.

    Raises:
        DataError: if there is none, or what they hold is not clear.
    """
    images = _one(folder, ("train",), "images")
    if images is None:
        files = [p for p in sorted(folder.iterdir()) if p.is_file() and "idx" in p.name.lower()]
        if len(files) == 1:
            return IdxFiles(files[0], alone=True)
        raise DataError(
            f"0 examples in {folder}",
            expected="a file train-images-idx3-ubyte(.gz), or a single IDX file",
        )
    names = (("train",), "labels"), (("t10k", "test"), "images"), (("t10k", "test"), "labels")
    labels, test_images, test_labels = (_one(folder, split, kind) for split, kind in names)
    return IdxFiles(images, labels, test_images, test_labels)


def _one(folder: Path, split: tuple[str, ...], kind: str) -> Path | None:
    found = [p for p in sorted(folder.iterdir()) if p.is_file() and kind in p.name.lower() and "idx" in p.name.lower()]
    found = [p for p in found if p.name.lower().startswith(split)]
    if len({p.name.removesuffix(".gz") for p in found}) > 1:
        names = ", ".join(p.name for p in found)
        raise DataError(f"{folder} holds several files of {split[0]} {kind}: {names}", expected="one")
    return found[0] if found else None


_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_BYTES = 8 << 30


def read_idx(path: str | Path) -> np.ndarray:
    """Read an IDX file, gzipped or not, checking its header against its length before allocating.

    Raises:
        DataError: if the file cannot be read, is no IDX file, or is longer or shorter than its header says.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        if path.suffix == ".gz" and not packed:
            raise DataError(f"{path.name} is not a gzip file", where=str(path), fix="download it again")
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            return _read(stream, path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path.name} is damaged: {error}", where=str(path), fix="download it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}", where=str(path)) from error


def map_idx(path: Path) -> np.ndarray:
    """Map an IDX file, in its own byte order, checking its header against its length.

    Raises:
        DataError: if the file cannot be read, is no IDX file, or is longer or shorter than its header says.
        UsageError: if it is gzipped.
    """
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
            stream.seek(0)
            if packed:
                raise UsageError(f"{path.name} is compressed and cannot stay on disk", fix=f"gunzip {path.name}")
            dtype, shape = _header(stream, path)
            start, size = stream.tell(), path.stat().st_size
        found, expected = size - start, prod(shape) * dtype.itemsize
        if found != expected:
            raise _of_length(path, f"{found:,}", expected, shape)
        return np.memmap(path, dtype, "r", start, shape) if expected else np.zeros(shape, dtype)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", where=str(path)) from error


def _header(stream: BufferedIOBase, path: Path) -> tuple[np.dtype, tuple[int, ...]]:
    """Return type and sizes of what follows."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or not 1 <= magic[3] <= 8:
        raise DataError(
            f"{path.name} is not an IDX file: it starts with {magic!r}",
            where=str(path),
            expected="two zero bytes, a type and a number of axes",
        )
    dtype, axes = np.dtype(_DTYPES[magic[2]]), magic[3]
    header = stream.read(4 * axes)
    if len(header) < 4 * axes:
        raise DataError(f"{path.name} ends inside its header", where=str(path), fix="download it again")
    return dtype, struct.unpack(f">{axes}I", header)


def _of_length(path: Path, found: str, expected: int, shape: tuple[int, ...]) -> DataError:
    return DataError(
        f"{path.name} holds {found} bytes of values",
        where=str(path),
        expected=f"{expected:,}, from its sizes {shape}",
        fix="download it again",
    )


def _read(stream: BufferedIOBase, path: Path) -> np.ndarray:
    dtype, shape = _header(stream, path)
    expected = prod(shape) * dtype.itemsize
    if prod(max(size, 1) for size in shape) * dtype.itemsize > _MAX_BYTES:  # beside an axis of 0, too
        raise DataError(
            f"the header of {path.name} asks for {expected:,} bytes", where=str(path), expected="8 GiB or less"
        )
    body = bytearray()
    while len(body) <= expected:  # in pieces: a header that lies must not cost its size in memory
        piece = stream.read(min(1 << 24, expected + 1 - len(body)))
        if not piece:
            break
        body += piece
    if len(body) != expected:
        more = "more than " if len(body) > expected else ""
        raise _of_length(path, f"{more}{min(len(body), expected):,}", expected, shape)
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
