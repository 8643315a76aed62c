"""The files of a project folder that go into its package: read once, within bounds, through no link and no pipe."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NoReturn

from ray_ext.errors import PackageInvalid
from ray_ext.manifests.archive import DEPTH, FILE_BYTES, FILES, TOTAL_BYTES
from ray_ext.manifests.bounded_files import Unreadable, read_regular
from ray_ext.manifests.problems import Problem, raise_problems, show

__all__ = ["package_files"]


def package_files(directory: int, start: str, origin: str) -> dict[str, bytes]:
    """The content of all files below ``start``, by their path from ``directory``.

    Left out are hidden files, ``__pycache__`` and ``*.pyc``. Raises PackageInvalid, naming the file, for links, special
    files, and what exceeds a limit.
    """
    found: dict[str, bytes] = {}
    left = TOTAL_BYTES
    for path in _paths(directory, start, origin):
        if len(found) == FILES:
            _refuse(origin, path, f"more than {FILES} files", f"at most {FILES}", "leave files out")
        try:
            found[path] = read_regular(directory, path, min(FILE_BYTES, left))
        except Unreadable as error:
            allowed = f"a regular file of at most {FILE_BYTES} bytes, {TOTAL_BYTES} in all"
            _refuse(origin, path, error.found, allowed, error.fix)
        left -= len(found[path])
    return found


def _paths(directory: int, folder: str, origin: str, depth: int = 0) -> Iterator[str]:
    if depth > DEPTH:
        _refuse(origin, folder, "folders nested too deeply", f"at most {DEPTH} levels", "use fewer levels")
    for name in sorted(_entries(directory, folder, origin)):
        path = f"{folder}/{name}" if folder else name
        if name.startswith(".") or name == "__pycache__" or name.endswith(".pyc"):
            continue
        try:
            mode = os.stat(path, dir_fd=directory, follow_symlinks=False).st_mode
        except OSError:
            _refuse(origin, path, "a file that vanished", "files that stay while they are packed", "try again")
        if stat.S_ISDIR(mode):
            yield from _paths(directory, path, origin, depth + 1)
        else:
            yield path  # reading it refuses everything but a regular file


def _entries(directory: int, folder: str, origin: str) -> list[str]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        here = os.open(folder or ".", flags, dir_fd=directory)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "an error"
        _refuse(origin, folder, f"{reason} when it is opened", "a folder", "make it a readable folder, not a link")
    try:
        names = []
        with os.scandir(here) as entries:
            for entry in entries:
                names.append(entry.name)
                if len(names) > 10 * FILES:
                    _refuse(origin, folder, "too many files in one folder", f"at most {FILES}", "leave files out")
        return names
    finally:
        os.close(here)


def _refuse(origin: str, path: str, found: str, allowed: str, fix: str) -> NoReturn:
    raise_problems(PackageInvalid, f"the folder {show(origin)}", [Problem(show(path)[1:-1], "", found, allowed, fix)])
