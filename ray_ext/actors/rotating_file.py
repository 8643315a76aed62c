"""A file that several processes append lines to, and that rotates: ``log.jsonl``, older ``log.jsonl.1`` to ``.3``."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

__all__ = ["RotatingFile"]

_FILE_BYTES = 8 * 1024 * 1024
_OLD_FILES = 3
#: Where another process is stopped in the middle of a rotation, nobody can rotate: so far the file grows.
_STUCK_BYTES = 2 * _FILE_BYTES


class RotatingFile:
    """Readable by its owner alone, whatever the umask.

    Every line is one write to a file opened for appending, so that writers do not disturb each other. A writer whose
    file was rotated by another one goes on in the new one. Nobody ever waits for another writer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        #: The last line that was written here is not whole: the disk was full.
        self._is_torn = False

    def __del__(self) -> None:
        self.close()

    def append(self, line: bytes) -> None:
        """Write a line, which ends with a newline; raises OSError, as for a full disk."""
        try:
            descriptor = self._opened(len(line))
            written = os.write(descriptor, b"\n" + line if self._is_torn else line)
            written -= self._is_torn
            self._is_torn = 0 < written < len(line) or (written <= 0 and self._is_torn)
        except OSError:
            self.close()
            raise
        if written < len(line):
            raise OSError("the line could not be written as a whole")

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _opened(self, more_bytes: int) -> int:
        descriptor, size = self._current()
        while size > 0 and size + more_bytes > _FILE_BYTES and self._rotate(descriptor):
            descriptor, size = self._current()  # others may have rotated, and filled it
        if size + more_bytes > _STUCK_BYTES:
            raise OSError("the file is full, and another process keeps it from being rotated")
        return descriptor

    def _current(self) -> tuple[int, int]:
        """The file that has the path now, opened, and its size."""
        if self._descriptor is not None:
            ours = os.fstat(self._descriptor)
            if _has_path(self._path, ours):
                return self._descriptor, ours.st_size
            self.close()
        self._descriptor = self._open()
        return self._descriptor, os.fstat(self._descriptor).st_size

    def _open(self) -> int:
        _make_private(self._path.parent)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        found = os.fstat(descriptor)
        if stat.S_IMODE(found.st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)
        # Whoever wrote last may have been killed in the middle of it.
        self._is_torn = found.st_size > 0 and os.pread(descriptor, 1, found.st_size - 1) != b"\n"
        return descriptor

    def _rotate(self, descriptor: int) -> bool:
        """Whether the path may lead to another file now. One process at a time rotates, that has locked the file."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            if _has_path(self._path, os.fstat(descriptor)):  # it may have been rotated a moment ago
                for number in range(_OLD_FILES, 0, -1):
                    older = self._numbered(number - 1)
                    if older.exists():
                        older.replace(self._numbered(number))
        finally:
            self.close()  # and so the lock is given back
        return True

    def _numbered(self, number: int) -> Path:
        return self._path if number == 0 else self._path.with_name(f"{self._path.name}.{number}")


def _has_path(path: Path, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), file)
    except FileNotFoundError:  # another one is rotating
        return False


def _make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
