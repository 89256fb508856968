"""Folders that are written whole or not at all, and checked when read."""

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..core.errors import CorruptArtifact, OutOfResource, UsageError
from ..core.finite import finite

MANIFEST = "MANIFEST.json"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Write a folder atomically: fill a temporary one, sync it, add a manifest of SHA-256 sums, rename it.

    An existing folder of that name is replaced only when the new one is complete, and only if it was written by
    this function and holds nothing else.

    Raises:
        OutOfResource: if the disk is full; what was there before is untouched.
        UsageError: if something else stands there.
    """
    if path.exists() and not _is_ours(path):
        raise UsageError(f"{path} holds something else", expected="a new name", fix="choose another folder to save in")
    path.parent.mkdir(parents=True, exist_ok=True)
    tag = f"{os.getpid()}-{secrets.token_hex(4)}"
    temporary, old = path.with_name(f".tmp-{path.name}-{tag}"), path.with_name(f".old-{path.name}-{tag}")
    try:
        temporary.mkdir()
        fill(temporary)
        sums = {p.name: _sha256(p) for p in sorted(temporary.iterdir())}
        write_text(temporary / MANIFEST, json.dumps({"files": sums}, indent=1))
        for file in temporary.iterdir():
            _sync(file)
        _sync(temporary)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
        _sync(path.parent)
    except OSError as error:
        if error.errno in _FULL:
            raise OutOfResource(
                f"the disk is full: {path.name} was not saved", where=str(path.parent), fix="free space and try again"
            ) from error
        raise
    finally:
        if old.exists() and not path.exists():  # interrupted between the two renames
            with suppress(OSError):  # then it stays where `newest` and `put_back` find it
                old.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def _is_ours(path: Path) -> bool:
    """Tell whether a folder holds its manifest and the files it lists, and nothing else."""
    try:
        listed = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["files"]
        return set(_visible(path)) <= set(listed)
    except (OSError, ValueError, LookupError, TypeError):
        return path.is_dir() and not any(path.iterdir())


def _visible(path: Path) -> list[str]:
    """Return the names in a folder but for the manifest and what file managers hide there."""
    return sorted(p.name for p in path.iterdir() if p.name != MANIFEST and not p.name.startswith("."))


def newest(path: Path) -> Path:
    """Return `path`, or what a process killed between two renames left of it under its temporary name."""
    left = sorted(path.parent.glob(f".old-{path.name}-*"), key=lambda p: p.stat().st_mtime)
    return left[-1] if left and not path.exists() else path


def put_back(folder: Path) -> None:
    """Undo what killed writers left in a folder: remove what is half written, put back what was moved away."""
    for left in folder.glob(".tmp-*"):
        shutil.rmtree(left, ignore_errors=True)
    for old in sorted(folder.glob(".old-*"), key=lambda p: p.stat().st_mtime, reverse=True):
        path = folder / old.name.removeprefix(".old-").rsplit("-", 2)[0]
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(path)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, which reports a full disk in words of its own: make it the usual OSError."""
    try:
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, path)
    except SafetensorError as error:
        if "os error 28" in str(error) or "No space left" in str(error):
            raise OSError(errno.ENOSPC, str(error)) from error
        raise


def check_folder(path: Path) -> None:
    """Raise CorruptArtifact unless the folder's files are those of its manifest, each with its SHA-256 sum.

    Folders in it, such as those where commands put what a saved model makes, are nobody's business.
    """
    manifest = read_json(path / MANIFEST)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict):
        raise CorruptArtifact("the manifest lists no files", where=str(path / MANIFEST))
    unlisted = [name for name in _visible(path) if name not in files and not (path / name).is_dir()]
    if unlisted or not files:
        raise CorruptArtifact(f"the manifest does not list {', '.join(unlisted) or 'a file'}", where=str(path))
    for name, expected in files.items():
        file = path / Path(name).name
        if not file.is_file():
            raise CorruptArtifact(f"{name} is missing", where=str(path), fix="use an earlier checkpoint")
        if _sha256(file) != expected:
            raise CorruptArtifact(
                f"{name} is damaged: its SHA-256 sum is not the manifest's", where=str(file), fix="use an earlier copy"
            )


def write_text(path: Path, text: str) -> None:
    """Write a small file atomically: a reader sees the old text or the new, never a part."""
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path` to write, which takes its place at the end, or vanishes at an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_results(path: Path, value: Any) -> None:
    """Write results as JSON, atomically; numbers that are not finite become null, since JSON knows none."""
    write_json(path, finite(value))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        CorruptArtifact: if it is missing or no JSON; the message says which line.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except FileNotFoundError as error:
        raise CorruptArtifact(f"{path.name} is missing", where=str(path.parent)) from error
    except OSError as error:
        raise CorruptArtifact(f"{path.name} cannot be read: {error.strerror}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise CorruptArtifact(f"{path.name} is not JSON: {error}", where=str(path)) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that has a key twice: readers differ in which of the two they take."""
    names = [name for name, _ in pairs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"the key {min(twice)!r} is there twice")
    return dict(pairs)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_outdated(run: Path, name: str) -> bool:
    """Tell whether a run's model was written after `eval/NAME.json`, as by a resumed training, or there is none."""
    path, weights = run / "eval" / f"{name}.json", newest(run / "model") / "model.safetensors"
    return not path.is_file() or (weights.is_file() and weights.stat().st_mtime > path.stat().st_mtime)
