"""A disk that is full at the n-th thing that is asked of it, in place of a real one that would be full somewhere."""

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from lowerbound.ship import files


def no_space(path: Any) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


class Disk:
    """Counts what a folder asks of its disk, and refuses it for want of space at the `fail_at`-th time.

    Counted are: to open a file for writing, to write to it (a part of which is written, as on a full disk), to write
    tensors, fsync, rename, mkdir and, but for a disk that stays full, to delete (which some file systems refuse, too).

    Args:
        folder: where calls are counted; elsewhere there is space.
        fail_at: which call fails; 0 for none.
        stays: fail at all later calls, too, but not at deleting.
        look: called before each rename, and at the first failure.
    """

    def __init__(self, folder: Path, fail_at: int = 0, *, stays: bool = False, look=lambda: None) -> None:
        self.folder, self.fail_at, self.stays, self.look = f"{folder.resolve()}{os.sep}", fail_at, stays, look
        self.count, self.failed = 0, ""

    def _fails(self, what: str, path: Any) -> bool:
        """Count a call and tell whether it is to fail."""
        if not isinstance(path, int) and not f"{Path(path).absolute()}{os.sep}".startswith(self.folder):
            return False
        if what == "delete" and self.stays:
            return False
        self.count += 1
        if what == "rename" and not self.failed:
            self.look()
        if not self.fail_at or self.count < self.fail_at or (self.count > self.fail_at and not self.stays):
            return False
        if not self.failed:
            self.failed = f"{what} {path}"
            self.look()
        return True

    def _refusing(self, what: str, call):
        def refusing(path, *args, **options):
            if self._fails(what, path):
                raise no_space(path)
            return call(path, *args, **options)

        return refusing

    def install(self, patch: pytest.MonkeyPatch) -> "Disk":
        """Stand between Python and the disk until `patch` is undone."""
        for name in ("fsync", "rename", "replace", "mkdir"):
            patch.setattr(os, name, self._refusing(name, getattr(os, name)))
        for name in ("unlink", "rmdir"):
            patch.setattr(os, name, self._deleting(getattr(os, name)))
        os_open, io_open, save_file = os.open, io.open, files.save_file

        def low(path, flags, *args, **options):
            if flags & os.O_CREAT and self._fails("create", path):
                raise no_space(path)
            return os_open(path, flags, *args, **options)

        def high(path, mode="r", *args, **options):
            if not set(mode) & set("wax+"):
                return io_open(path, mode, *args, **options)
            if self._fails("open", path):
                raise no_space(path)
            return Writing(self, io_open(path, mode, *args, **options), path)

        def tensors(contents, path, *args, **options):
            save_file(contents, path, *args, **options)
            if self._fails("tensors", path):
                os.truncate(path, Path(path).stat().st_size // 3)
                raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

        patch.setattr(os, "open", low)
        patch.setattr(io, "open", high)
        patch.setattr(files, "save_file", tensors)
        return self

    def _deleting(self, call):
        def deleting(path, *args, dir_fd=None, **options):
            there = dir_fd is not None or os.path.lexists(path)
            if there and self._fails("delete", dir_fd or path):
                raise no_space(path)
            return call(path, *args, dir_fd=dir_fd, **options)

        return deleting


class Writing:
    """An open file whose writes may fail in the middle."""

    def __init__(self, disk: Disk, file: Any, path: Any) -> None:
        self._disk, self._file, self._path = disk, file, path

    def __enter__(self) -> "Writing":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: Any) -> int:
        if self._disk._fails("write", self._path):
            self._file.write(text[: len(text) // 2])
            self._file.flush()
            raise no_space(self._path)
        return self._file.write(text)
