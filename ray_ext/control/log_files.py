"""The files of one log, read while others write and rotate them: ``log.jsonl`` and the older ``log.jsonl.1``, ``.2``, …

Only the standard library; knows lines, not records. A line that is longer than :data:`LINE_BYTES` is given as None.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["LINE_BYTES", "LogFiles"]

#: No record is longer: :mod:`ray_ext.actors.logbook` cuts its texts, and each character has at most 12 bytes in JSON.
LINE_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 18
#: How long a file that was rotated is still looked at: a writer may have been about to write to it.
_LATE_S = 5.0


class _File:
    """An open file, with the place up to which it was read."""

    def __init__(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self.descriptor = descriptor
        self.key = (found.st_dev, found.st_ino)
        self.written_at = found.st_mtime
        self._at = 0
        self._rest = b""
        self._is_skipping = False
        #: When it is closed, once it was rotated; in seconds of the monotonic clock.
        self.until: float | None = None

    def lines(self) -> Iterator[bytes | None]:
        """The whole lines that were not read yet. One without an end is read when it has one."""
        if os.fstat(self.descriptor).st_size < self._at:  # emptied by somebody
            self._at, self._rest = 0, b""
        while chunk := os.pread(self.descriptor, _CHUNK_BYTES, self._at):
            self._at += len(chunk)
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            for line in whole:
                is_long, self._is_skipping = self._is_skipping or len(line) > LINE_BYTES, False
                yield None if is_long else line
            if len(self._rest) > LINE_BYTES:
                self._rest, self._is_skipping = b"", True

    def lines_backward(self) -> Iterator[bytes | None]:
        """The whole lines before :meth:`skip`, the last one first."""
        end = self._at - 1  # the last newline ends a line and begins none
        rest, is_long = b"", False
        while end > 0:
            start = max(0, end - _CHUNK_BYTES)
            first, *later = (os.pread(self.descriptor, end - start, start) + rest).split(b"\n")
            end, rest = start, first
            for line in reversed(later):
                yield None if is_long or len(line) > LINE_BYTES else line
                is_long = False
            if len(rest) > LINE_BYTES:
                rest, is_long = b"", True
        if rest or is_long:
            yield None if is_long else rest

    def skip(self) -> None:
        """Leave the whole lines that there are to :meth:`lines_backward`, what comes later to :meth:`lines`."""
        end, self._at, self._rest = os.fstat(self.descriptor).st_size, 0, b""
        while end > 0:
            start = max(0, end - _CHUNK_BYTES)
            newline = os.pread(self.descriptor, end - start, start).rfind(b"\n")
            if newline >= 0:
                self._at = start + newline + 1
                return
            end = start

    def close(self) -> None:
        os.close(self.descriptor)


class LogFiles:
    """The lines of one log: those there are, then those that come. The file need not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        #: The oldest first; the last one is being written to.
        self._files: list[_File] = []

    def open(self) -> None:
        """Take hold of the files that are there, so that a rotation from now on takes none of their lines away."""
        self._files = self._found()

    def written_since(self, unix_s: float | None) -> None:
        """Leave out the files of which the last line is older than that."""
        if unix_s is not None:
            self._files[:-1] = [each for each in self._files[:-1] if not _closed_if(each, each.written_at < unix_s)]

    def lines(self) -> Iterator[bytes | None]:
        """The lines that were not read yet, in order."""
        for file in self._files:
            yield from file.lines()

    def lines_backward(self) -> Iterator[bytes | None]:
        """The lines that there are now, the last one first; whether all are taken or not, :meth:`new_lines` gives what
        comes after them."""
        for file in self._files:
            file.skip()
        return (line for file in reversed(self._files) for line in file.lines_backward())

    def new_lines(self) -> Iterator[bytes | None]:
        """The lines that came since the last time, also in files that took the place of the last one."""
        self._follow()
        for file in self._files:
            yield from file.lines()
        now = time.monotonic()
        self._files = [
            each for each in self._files if not _closed_if(each, each.until is not None and each.until < now)
        ]

    def _follow(self) -> None:
        """Open the files that are newer than the last one that is open."""
        try:
            there = os.stat(self._path)
        except OSError:
            return  # not yet, or in the middle of a rotation
        if self._files and (there.st_dev, there.st_ino) == self._files[-1].key:
            return
        for file in self._files:
            file.until = file.until or time.monotonic() + _LATE_S
        known = {each.key for each in self._files}
        found = self._found()
        newer = next((index + 1 for index in reversed(range(len(found))) if found[index].key in known), 0)
        for file in found[:newer]:
            file.close()
        self._files += found[newer:]

    def _found(self) -> list[_File]:
        """The files, the oldest first. A rotation meanwhile leaves none out and gives none twice."""
        found: dict[tuple[int, int], _File] = {}
        number = missing = 0
        while missing < 2:  # a rotation leaves one out while it is at work
            file = _opened(self._numbered(number))
            if file is None:
                missing += 1
            elif not _closed_if(file, file.key in found):
                missing, found[file.key] = 0, file
            number += 1
        return list(reversed(found.values()))

    def _numbered(self, number: int) -> Path:
        return self._path if number == 0 else self._path.with_name(f"{self._path.name}.{number}")

    def close(self) -> None:
        """Close the files."""
        while self._files:
            self._files.pop().close()


def _opened(path: Path) -> _File | None:
    with suppress(OSError):
        return _File(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    return None


def _closed_if(file: _File, is_so: bool) -> bool:
    if is_so:
        file.close()
    return is_so
