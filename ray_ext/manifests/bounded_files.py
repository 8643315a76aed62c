"""Read files of a folder that nobody vouches for: never through a link, never a pipe or device, never without bound."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Unreadable", "is_inside", "open_folder", "open_regular", "read_regular"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a FIFO that nobody writes to would wait for ever.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Unreadable(Exception):  # internal: readers turn it into a problem of their own
    """A file cannot be read: ``found`` says what is there, ``fix`` what to do; ``is_missing`` when nothing is."""

    def __init__(self, found: str, fix: str, *, is_missing: bool = False) -> None:
        super().__init__(found)
        self.found = found
        self.fix = fix
        self.is_missing = is_missing


def is_inside(relative: str) -> bool:
    """Whether a relative path stays below its start by its text alone: no root, no ``..``, no empty part."""
    parts = relative.split("/")
    return "\0" not in relative and "\\" not in relative and all(part not in ("", ".", "..") for part in parts)


@contextmanager
def open_folder(folder: Path) -> Iterator[int]:
    """The descriptor of a folder; the folder itself may be reached through links, what is in it may not."""
    try:
        descriptor = os.open(folder, _DIRECTORY & ~os.O_NOFOLLOW)
    except (OSError, ValueError) as error:
        raise _unreadable(error, "give the folder that holds extension.toml") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_regular(directory: int, relative: str) -> int:
    """The descriptor of a regular file below ``directory``; no part of ``relative`` may be a link."""
    *parents, name = relative.split("/")
    here = os.dup(directory)
    try:
        for parent in parents:
            below = os.open(parent, _DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
        found = os.open(name, _FILE, dir_fd=here)
    except (OSError, ValueError) as error:
        raise _unreadable(error, "put a regular file there") from None
    finally:
        os.close(here)
    mode = os.fstat(found).st_mode
    if not stat.S_ISREG(mode):
        os.close(found)
        raise Unreadable(_kind(mode), "put a regular file there")
    return found


def read_regular(directory: int, relative: str, limit: int) -> bytes:
    """The bytes of a regular file below ``directory``, at most ``limit``; raises :class:`Unreadable`."""
    with os.fdopen(open_regular(directory, relative), "rb") as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise _unreadable(error, "make the file readable") from None
    if len(data) > limit:
        raise Unreadable(f"more than {limit} bytes", "make it smaller")
    return data


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFLNK: "a link",
    }
    return kinds.get(stat.S_IFMT(mode), "a special file")


def _unreadable(error: OSError | ValueError, fix: str) -> Unreadable:
    if isinstance(error, FileNotFoundError):
        return Unreadable("no such file", fix, is_missing=True)
    if isinstance(error, OSError):
        reason = os.strerror(error.errno).lower() if error.errno else "an error"
        if error.errno == errno.ELOOP:  # O_NOFOLLOW met a link
            reason = "a link"
        return Unreadable(f"{reason} when it is opened", fix)
    return Unreadable("a name that no file can have", fix)
