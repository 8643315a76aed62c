"""Check what was installed into an environment, seal it with an index, and compare it with its index at every use.

uv's cache of downloads is not taken at its word, nor is a wheel: each file must be one that a package's RECORD names,
with the hash that stands there.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import os
import stat
from collections.abc import Iterable, Iterator
from importlib.machinery import all_suffixes
from pathlib import Path

from msgspec import DecodeError, Struct, json

from ray_ext.manifests.bounded_files import Unreadable, is_inside, open_folder, open_regular, read_regular
from ray_ext.manifests.grammar import RESERVED_MODULES
from ray_ext.manifests.problems import show
from ray_ext.packages.environment_build import Unbuildable
from ray_ext.packages.requirement_sets import Lock
from ray_ext.packages.unpacking import remove, write_synced

__all__ = ["Damaged", "Files", "checked_files", "installed_packages", "is_intact", "lock_of", "seal", "tidy"]

_INDEX = ".environment.json"
_INDEX_BYTES = 64 * 2**20
_RECORD_BYTES = 16 * 2**20
_BYTECODE = importlib.util.MAGIC_NUMBER.hex()
_MODULE_SUFFIXES = tuple(all_suffixes())
_UNHASHED = (".dist-info/RECORD", ".dist-info/RECORD.jws", ".dist-info/RECORD.p7s")
_SHOWN_PROBLEMS = 10

Files = dict[str, tuple[int, str]]
"""The size in bytes and the sha256 (hexadecimal) of files, by their path."""


class _Index(Struct, frozen=True):
    lock: Lock
    bytecode: str
    files: Files


class Damaged(Unbuildable):
    """What was installed is not what its packages say: the cache of downloads is damaged, or a RECORD is wrong."""


def tidy(folder: Path) -> None:
    """Remove from a fresh installation what no guest uses: scripts, ``.pth`` files, bytecode and empty folders.

    Guests have a path of folders, not of site directories: a ``.pth`` file would do nothing there.
    """
    for path in list(folder.iterdir()):
        if _is_dropped(path.name) or path.name == ".lock":  # uv's own
            remove(path)
    for parent, _, _ in os.walk(folder, topdown=False):
        if os.path.basename(parent) == "__pycache__":
            remove(Path(parent))
        elif Path(parent) != folder and not os.listdir(parent):
            os.rmdir(parent)


def checked_files(folder: Path) -> Files:
    """The files of an installation, tidied and then compiled.

    Raises Unbuildable for modules that would hide the standard library's or the runtime's, for links and special
    files; Damaged unless the files are those that the RECORDs name, and each is as one of them says.
    """
    paths = sorted(_paths(folder))
    hiding = sorted({show(path.split("/")[0]) for path in paths if _is_hiding(path)})
    if hiding:
        cause = f"the standard library or the runtime has its own {', '.join(hiding)}, which guests use"
        raise Unbuildable(cause, "leave out the package that brings it, or choose another version")
    with open_folder(folder) as directory:
        files = {path: _facts(directory, path) for path in paths}
        recorded = _recorded(directory, [path for path in paths if path.endswith(_UNHASHED[0])])
    problems = [f"{show(path)} is missing" for path in recorded if path not in files and not _is_dropped(path)]
    for path, (_, sha256) in files.items():
        if "__pycache__" in path.split("/"):
            continue  # compiled here: what packages brought is gone
        if not path.endswith(_UNHASHED) and sha256 not in recorded.get(path, ()):
            problems.append(f"{show(path)} is not what RECORD says")
    if problems:
        more = [f"and {len(problems) - _SHOWN_PROBLEMS} more"] if len(problems) > _SHOWN_PROBLEMS else []
        cause = "; ".join([*problems[:_SHOWN_PROBLEMS], *more])
        raise Damaged(cause, "choose another version of that package: this one's wheel contradicts itself")
    return files


def seal(folder: Path, lock: Lock, files: Files) -> None:
    """Make everything read-only, write the index last, and bring it all to disk."""
    for path in files:
        os.chmod(folder / path, 0o444)
    write_synced(folder / _INDEX, json.encode(_Index(lock, _BYTECODE, files)))
    os.chmod(folder / _INDEX, 0o444)
    for parent, _, _ in os.walk(folder, topdown=False):
        os.chmod(parent, 0o555)
    os.sync()  # once for all: 0.1 s, where a sync of each of 7,700 files took 13 s beside other work


def is_intact(folder: Path, lock: Lock) -> bool:
    """Whether a folder holds the environment of a lock, unchanged, with bytecode for this Python, and nothing else."""
    try:
        with open_folder(folder) as directory:
            index = _index(directory)
            if (index.lock, index.bytecode) != (lock, _BYTECODE) or set(_paths(folder)) != {_INDEX, *index.files}:
                return False
            return all(_facts(directory, path) == facts for path, facts in index.files.items())
    except (Unreadable, Unbuildable, OSError, DecodeError):  # missing, unreadable, or no index: all not intact
        return False


def installed_packages(folder: Path) -> tuple[str, ...]:
    """``name==version`` of each package by an environment's index; none where that cannot be read."""
    try:
        with open_folder(folder) as directory:
            return _index(directory).lock.packages
    except (Unreadable, DecodeError):
        return ()


def lock_of(folder: Path) -> Lock | None:
    """The lock of an environment by its index; None where that cannot be read."""
    try:
        with open_folder(folder) as directory:
            return _index(directory).lock
    except (Unreadable, DecodeError, OSError):
        return None


def _index(directory: int) -> _Index:
    return json.decode(read_regular(directory, _INDEX, _INDEX_BYTES), type=_Index)


def _is_dropped(path: str) -> bool:
    parts = path.split("/")
    return parts[0] == "bin" or (len(parts) == 1 and path.lower().endswith(".pth")) or "__pycache__" in parts


def _is_hiding(path: str) -> bool:
    top, slash, _ = path.partition("/")
    module = top.split(".")[0] if not slash and top.endswith(_MODULE_SUFFIXES) else top
    return module in RESERVED_MODULES or top == _INDEX


def _facts(directory: int, path: str) -> tuple[int, str]:
    try:
        with os.fdopen(open_regular(directory, path), "rb") as file:
            return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()
    except Unreadable as error:
        raise Unbuildable(f"{show(path)} is unusable: {error.found}", "choose another version of its package") from None


def _recorded(directory: int, records: Iterable[str]) -> dict[str, set[str]]:
    """The hashes (hexadecimal) that RECORDs give each file; files that packages share have several."""
    recorded: dict[str, set[str]] = {}
    for record in records:
        try:
            lines = read_regular(directory, record, _RECORD_BYTES).decode().splitlines()
            for path, digest, *_ in filter(None, csv.reader(lines)):
                if not is_inside(path):
                    raise Damaged(f"{show(record)} names {show(path)}", "choose another version of its package")
                hashes = recorded.setdefault(path, set())
                if digest.startswith("sha256="):
                    hashes.add(base64.urlsafe_b64decode(f"{digest[7:]}=").hex())
        except (Unreadable, csv.Error, ValueError):
            raise Damaged(f"{show(record)} is no RECORD", "choose another version of its package") from None
    return recorded


def _paths(folder: Path) -> Iterator[str]:
    """The paths of everything that is no folder, and of empty folders (with a slash); links are not followed."""
    for parent, folders, files in os.walk(folder, onerror=_raise):
        relative = os.path.relpath(parent, folder)
        prefix = "" if relative == "." else f"{relative}/"
        if not folders and not files and prefix:
            yield prefix
        yield from (f"{prefix}{name}" for name in files)
        yield from (f"{prefix}{name}" for name in folders if stat.S_ISLNK(os.lstat(os.path.join(parent, name)).st_mode))


def _raise(error: OSError) -> None:
    raise error
