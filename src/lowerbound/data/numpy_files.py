"""NumPy's .npy and .npz files: every size a header claims is held against the file before memory is asked for."""

import io
import os
import struct
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.lib import format as npy

from ..core.errors import DataError, UsageError

_MAGIC = b"\x93NUMPY"
_LOCAL = 30  # bytes before the name of a member of a zip file, the lengths of what follows last
_HEAD = 12 + (1 << 16)  # magic, version and length, then the longest header NumPy accepts and more
_MAX_BYTES = 1 << 60
_MAX_AXES = 32
_MAX_UNPACKED = 16 << 30
_PIECE = 1 << 24
_LISTED = 20

# what zipfile raises over damaged archives, beside its own error
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, ArithmeticError, EOFError, RuntimeError, ValueError)

# what each role may be called, lower case, best first
_NAMES = {
    "x": ("x_train", "train_x", "train_images", "x", "data", "images", "arr_0", "samples", "features"),
    "y": ("y_train", "train_y", "train_labels", "y", "labels", "label", "target", "targets"),
    "weight": ("weight", "weights", "sample_weight"),
    "test_x": ("x_test", "test_x", "test_images"),
    "test_y": ("y_test", "test_y", "test_labels"),
}


@dataclass(frozen=True)
class Arrays:
    """What a NumPy file holds: examples x `[N, ...]`, labels y `[N]`, weights `[N]`, a given test split (x, y).

    Args:
        x: examples, at least 2 axes.
        y: numbers or names, or None.
        weight: numbers, or None.
        test: examples and labels (or None) of the test split, or None.
        notes: sentences for the user, such as which arrays were not used.
    """

    x: np.ndarray
    y: np.ndarray | None = None
    weight: np.ndarray | None = None
    test: tuple[np.ndarray, np.ndarray | None] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    dtype: np.dtype
    length: int  # of the header, in bytes

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def read_npy(path: Path) -> np.ndarray:
    """Map the numbers `[...]` of a .npy file into memory, copy on write; values of foreign byte order are copied.

    Raises:
        DataError: if the file cannot be read, is no .npy file, is longer or shorter than its header says, or holds
            anything but real numbers.
    """
    array = map_npy(path, "c")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def map_npy(path: Path, mode: Literal["r", "c"] = "r") -> np.ndarray:
    """Map the numbers `[...]` of a .npy file into memory, in the file's own byte order.

    Args:
        path: the file.
        mode: "r" to read only, or "c" to copy what is written; Linux refuses to promise the memory for that of a file
            that is larger than it.

    Raises:
        DataError: as `read_npy` does.
    """
    name, where = path.name, str(path)
    try:
        with path.open("rb") as stream:
            size, head = os.fstat(stream.fileno()).st_size, stream.read(_HEAD)
        header = _header(head, name, where)
        _check_type(header.dtype, name, where)
        _check_length(header, size - header.length, name, where)
        if not header.nbytes:  # nothing to map
            return np.zeros(header.shape, header.dtype.newbyteorder("="))
        return np.memmap(path, header.dtype, mode, header.length, header.shape, header.order)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}", where=where) from error


def _header(head: bytes, what: str, where: str) -> _Header:
    """Read the header at the start of `head`; sizes that no array can have are refused."""
    if not head:
        raise DataError(f"{what} is empty", where=where, expected="a .npy file", fix="save or download it again")
    if not head.startswith(_MAGIC):
        raise DataError(
            f"{what} is not a .npy file: it starts with {head[:8]!r}", where=where, expected=f"{_MAGIC!r} first"
        )
    stream = io.BytesIO(head)  # a length that lies ends here, not in an allocation
    try:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"its version is {version[0]}.{version[1]}")
        # 3.0 differs from 2.0 in the encoding of field names alone, and fields are refused
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python 2's headers and of odd escapes, both harmless
            shape, fortran, dtype = read(stream)
    except Exception as error:  # literal_eval and np.dtype raise nearly anything over a damaged text
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise DataError(
            f"the header of {what} cannot be read: {reason}",
            where=where,
            expected="what numpy.save writes",
            fix="save or download it again",
        ) from error
    shape = tuple(int(size) for size in shape)
    nbytes = prod(max(size, 1) for size in shape) * dtype.itemsize  # beside an axis of 0, too
    if len(shape) > _MAX_AXES or any(size < 0 for size in shape) or nbytes > _MAX_BYTES:
        # Python does not print whole numbers of thousands of digits
        fits = len(shape) <= _MAX_AXES and all(abs(size) < 1 << 64 for size in shape)
        text = f"the shape {shape}" if fits else f"an impossible shape of {len(shape)} axes"
        raise DataError(f"the header of {what} claims {text}", where=where, fix="save it again")
    return _Header(shape, "F" if fortran else "C", dtype, stream.tell())


def _check_type(dtype: np.dtype, what: str, where: str, kinds: str = "biuf") -> None:
    if dtype.hasobject:
        what = f"{what} holds Python objects, which are never unpickled"
        raise DataError(what, where=where, fix="save plain numbers")
    if dtype.kind in kinds and dtype.itemsize:
        return
    holds = {"c": "complex values", "V": "records or raw bytes", "S": "text", "U": "text", "m": "times", "M": "dates"}
    raise DataError(
        f"{what} holds {holds.get(dtype.kind, 'values')} ({str(dtype)[:80]})",
        where=where,
        expected="real numbers" if "U" not in kinds else "real numbers, or labels as text",
        fix="save plain numbers",
    )


def _check_length(header: _Header, found: int, what: str, where: str) -> None:
    if found != header.nbytes:
        raise DataError(
            f"{what} holds {found:,} bytes of values",
            where=where,
            expected=f"{header.nbytes:,}, from its shape {header.shape} of {header.dtype}",
            fix="save or download it again",
        )


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read every array `[...]` of a .npz file by its name: numbers, or text.

    Raises:
        DataError: if the file cannot be read or is no zip file, or if a member of it is no array, encrypted, damaged,
            or not as long as its header says.
    """
    with _archive(path) as archive:
        return _members(archive, path)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a .npz file, and make a DataError of what zipfile raises on it, here and in the body."""
    where = str(path)
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
            if not zipfile.is_zipfile(stream):
                what = f"{path.name} is not a zip file: it starts with {start!r}" if start else f"{path.name} is empty"
                raise DataError(what, where=where, expected="a .npz file", fix="save or download it again")
            with zipfile.ZipFile(stream) as archive:
                yield archive
    except _DAMAGED as error:
        raise DataError(f"{path.name} is damaged: {error}", where=where, fix="save or download it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}", where=where) from error


def _checked(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return all members by name, once they are seen to be arrays that can be read."""
    members, where = archive.infolist(), str(path)
    counts = Counter(member.filename for member in members)
    for member in members:
        what = f"the member {member.filename!r} of {path.name}"
        if not member.filename.endswith(".npy"):
            raise DataError(f"{what} is not a .npy file", where=where, expected="what numpy.savez writes")
        if member.flag_bits & 1:
            raise DataError(f"{what} is encrypted", where=where, fix="save it without a password")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{what} is packed in an unknown way", where=where, expected="what numpy.savez writes")
        if counts[member.filename] > 1:
            raise DataError(f"{path.name} holds {member.filename!r} more than once", where=where)
    return {member.filename.removesuffix(".npy"): member for member in members}


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, np.ndarray]:
    """Read all members, once their names and sizes are seen to be possible."""
    members, where = _checked(archive, path), str(path)
    total = sum(member.file_size for member in members.values())
    if total > _MAX_UNPACKED:
        raise DataError(
            f"{path.name} unpacks to {total:,} bytes", where=where, expected="16 GiB or less", fix="save x as .npy"
        )
    return {name: _member(archive, member, path) for name, member in members.items()}


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> np.ndarray:
    """Read one array; memory grows with the bytes that arrive, whatever the sizes claimed."""
    what, where = f"the member {member.filename!r} of {path.name}", str(path)
    try:
        with archive.open(member) as stream:
            head = bytes(_read(stream.read, _HEAD))
            header = _header(head, what, where)
            _check_type(header.dtype, what, where, "biufSU")
            _check_length(header, member.file_size - header.length, what, where)
            body = bytearray(head[header.length :])
            body += _read(stream.read, header.nbytes + 1 - len(body))  # one more: zipfile checks the CRC at the end
    except (*_DAMAGED, OSError) as error:
        raise DataError(f"{what} is damaged: {error}", where=where, fix="save or download it again") from error
    _check_length(header, len(body), what, where)
    if header.dtype.kind == "U" and body:
        codes = np.frombuffer(body, np.dtype("u4").newbyteorder(header.dtype.byteorder))
        if int(codes.max()) > 0x10FFFF:
            raise DataError(f"{what} holds text with impossible characters", where=where, fix="save it again")
    array = np.frombuffer(body, header.dtype) if body else np.zeros(0, header.dtype)
    array = array.reshape(header.shape, order=header.order)
    return array.astype(header.dtype.newbyteorder("="), copy=False)


def _read(read: Callable[[int], bytes], most: int) -> bytearray:
    """Return the next `most` bytes, or what there is."""
    body = bytearray()
    while len(body) < most and (piece := read(min(_PIECE, most - len(body)))):
        body += piece
    return body


def map_arrays(path: Path) -> Arrays:
    """Map the examples of a .npy or .npz file by the names of `read_arrays`, and read labels and weights.

    Checksums of a .npz file are compared for what is read, not for what is mapped.

    Raises:
        DataError: as `read_arrays` does.
        UsageError: if examples are compressed.
    """
    if path.suffix.lower() != ".npz":
        return Arrays(_examples(map_npy(path), "the array", path))
    with _archive(path) as archive:
        members = _checked(archive, path)
        heads = {name: _head_of(archive, member, path) for name, member in members.items()}
        roles, held = _roles(heads, path), dict[str, np.ndarray]()
        for role, name in roles.items():
            read = _mapped if role in ("x", "test_x") else _member
            held[name] = read(archive, members[name], path)
    return _arrays(held, roles, heads, path)


def _head_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> _Header:
    what, where = f"the member {member.filename!r} of {path.name}", str(path)
    with archive.open(member) as stream:
        header = _header(bytes(_read(stream.read, _HEAD)), what, where)
    _check_type(header.dtype, what, where, "biufSU")
    _check_length(header, member.file_size - header.length, what, where)
    return header


def _mapped(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> np.ndarray:
    """Map one array that is not compressed."""
    header = _head_of(archive, member, path)
    if member.compress_type != zipfile.ZIP_STORED:
        raise UsageError(
            f"{member.filename!r} of {path.name} is compressed and cannot stay on disk",
            fix="save it with numpy.savez, not savez_compressed; or as .npy",
        )
    with path.open("rb") as stream:
        stream.seek(member.header_offset)
        local = stream.read(_LOCAL)
        names, more = struct.unpack("<HH", local[-4:])
    start = member.header_offset + _LOCAL + names + more + header.length
    if not header.nbytes:
        return np.zeros(header.shape, header.dtype.newbyteorder("="))
    return np.memmap(path, header.dtype, "r", start, header.shape, header.order)


def read_arrays(path: Path) -> Arrays:
    """Read the examples `[N, ...]` of a .npy file, or of a .npz file with labels, weights and test split by name.

    Names, in any case: x, data, images, arr_0, samples or features; y, labels, label, target or targets; weight,
    weights or sample_weight; x_train, y_train, x_test, y_test or train_images, train_labels, test_images,
    test_labels. If none is x, the only array with 2 axes or more is.

    Raises:
        DataError: if the file cannot be read, no array is clearly x, there are 0 examples, or labels or weights are
            not one for each example.
    """
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz"):
        raise DataError(f"{path.name} is no NumPy file", where=str(path), expected="a name ending in .npy or .npz")
    if suffix == ".npy":
        return Arrays(_examples(read_npy(path), "the array", path))
    held = read_npz(path)
    return _arrays(held, _roles(held, path), held, path)


def _arrays(
    held: Mapping[str, np.ndarray], roles: Mapping[str, str], all_of: "Mapping[str, np.ndarray | _Header]", path: Path
) -> Arrays:
    """Return the arrays by their roles; `all_of` tells the shape of each member, used or not."""
    given = {role: held[name] for role, name in roles.items()}
    x = _examples(given["x"], repr(roles["x"]), path)
    y, weight = (_per_row(given.get(role), roles.get(role, ""), len(x), path) for role in ("y", "weight"))
    if weight is not None and weight.dtype.kind in "SU":
        raise DataError(f"the weights {roles['weight']!r} of {path.name} are text", where=str(path), expected="numbers")
    test, used = None, {roles[role] for role in ("x", "y", "weight") if role in roles}
    if "test_x" in roles:
        test_x = _examples(given["test_x"], repr(roles["test_x"]), path)
        test = test_x, _per_row(given.get("test_y"), roles.get("test_y", ""), len(test_x), path)
        used |= {roles[role] for role in ("test_x", "test_y") if role in roles}
    left = [name for name in all_of if name not in used]
    notes = (f"{path.name}: {roles['x']!r} is x; not used: {_listing(left, all_of)}",) if left else ()
    return Arrays(x, y, weight, test, notes)


def _roles(held: "Mapping[str, np.ndarray | _Header]", path: Path) -> dict[str, str]:
    """Return the array's name for each role there is, "x" among them."""
    lower = {name.lower(): name for name in held}
    if len(lower) < len(held):
        raise DataError(f"names of {path.name} differ by case alone: {_listing(held, held)}", where=str(path))
    found = {role: [lower[name] for name in names if name in lower][:1] for role, names in _NAMES.items()}
    roles = {role: names[0] for role, names in found.items() if names}
    if "x" not in roles:
        taken = roles.values()
        could = [name for name, a in held.items() if a.ndim >= 2 and a.dtype.kind not in "SU" and name not in taken]
        if len(could) != 1:
            raise DataError(
                f"which array of {path.name} holds the examples is not clear: {_listing(held, held)}",
                where=str(path),
                expected="one called x, data or images (labels: y or labels), or x_train, y_train, x_test, y_test",
                fix="save it with numpy.savez(path, x=..., y=...)",
            )
        roles["x"] = could[0]
    return roles


def _listing(names: Iterable[str], held: "Mapping[str, np.ndarray | _Header]") -> str:
    each = [f"{name!r} {held[name].shape}" for name in names]
    more = f" and {len(each) - _LISTED} more" if len(each) > _LISTED else ""
    return (", ".join(each[:_LISTED]) or "it holds no arrays") + more


def _examples(x: np.ndarray, what: str, path: Path) -> np.ndarray:
    if x.dtype.kind in "SU":
        raise DataError(f"{what} of {path.name} is text", where=str(path), expected="examples as numbers")
    if x.ndim and not len(x):
        raise DataError(f"0 examples in {path}", where=what, expected="at least 2")
    if not 2 <= x.ndim <= 4 or not x.size:
        raise DataError(
            f"{what} of {path.name} has shape {x.shape}",
            where=str(path),
            expected="(N, D) for tables, (N, H, W) or (N, C, H, W) for images",
        )
    return x


def _per_row(y: np.ndarray | None, name: str, rows: int, path: Path) -> np.ndarray | None:
    """Return labels or weights `[N]`, from `[N]` or a column `[N, 1]`."""
    if y is None:
        return None
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.shape != (rows,):
        found = f"{len(y):,} values" if y.ndim == 1 else f"shape {y.shape}"
        raise DataError(
            f"{name!r} of {path.name} has {found}, for {rows:,} examples", where=str(path), expected=f"{rows:,} values"
        )
    return np.char.decode(y, "utf-8", "backslashreplace") if y.dtype.kind == "S" else y
