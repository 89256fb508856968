"""IDX files, the format of MNIST: a header with type and sizes, then the values."""

import gzip
import struct
import zlib
from io import BufferedIOBase
from math import prod
from pathlib import Path

import numpy as np

from ..core.errors import DataError

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


def _read(stream: BufferedIOBase, path: Path) -> np.ndarray:
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
    shape = struct.unpack(f">{axes}I", header)
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
        raise DataError(
            f"{path.name} holds {more}{min(len(body), expected):,} bytes of values",
            where=str(path),
            expected=f"{expected:,}, from its sizes {shape}",
            fix="download it again",
        )
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
