"""Unpack a package into a folder, and check a folder against the package: bit by bit, with nothing beside it.

Bytecode is the one thing in the folder that is not in the wheel. It is compiled ahead (a guest cannot write it), by a
child process with limits, because a source may make the compiler take any time and memory. ``CHECKED_HASH`` lets no
changed source hide behind old bytecode. The compiler's output is not reproducible, so the bytecode's own hashes are
kept in a list *beside* the folder, and checked like the wheel's.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from ray_ext.manifests.archive import FILE_BYTES, Archive
from ray_ext.manifests.bounded_files import Unreadable, open_folder, read_regular
from ray_ext.packages.record import verified_files
from ray_ext.packages.wheel_writer import record_hash

__all__ = ["is_intact", "remove", "sync", "unpack", "write_synced"]

_COMPILE = """
import compileall, py_compile, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
mode = py_compile.PycInvalidationMode.CHECKED_HASH
compileall.compile_dir(sys.argv[1], quiet=2, stripdir=sys.argv[1], invalidation_mode=mode)
"""
_COMPILE_S = 60
_PYTHON = f"{sys.implementation.cache_tag}-{importlib.util.MAGIC_NUMBER.hex()}"


def unpack(archive: Archive, hashes: Mapping[str, str], folder: Path, bytecode_list: Path, origin: str) -> None:
    """Write the files of a wheel and their bytecode into a new folder, read-only and synced to disk.

    The hashes of the bytecode go to ``bytecode_list``. Raises PackageInvalid where the wheel is damaged.
    """
    folder.mkdir()
    for path, data in verified_files(archive, hashes, origin):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        write_synced(target, data)
    _compile(folder)
    compiled: dict[str, str] = {}
    with open_folder(folder) as directory:
        for path in list(_files(folder)):
            if path not in hashes:
                compiled[path] = record_hash(read_regular(directory, path, FILE_BYTES * 4))
    write_synced(bytecode_list, json.dumps({"python": _PYTHON, "files": compiled}).encode())
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in files:
            os.chmod(os.path.join(parent, name), 0o444)
        for name in folders:
            sync(Path(parent, name))
            os.chmod(os.path.join(parent, name), 0o555)
    sync(folder)
    os.chmod(folder, 0o555)


def is_intact(folder: Path, hashes: Mapping[str, str], bytecode_list: Path) -> bool:
    """Whether a folder holds the wheel's files and their bytecode for this Python, unchanged, and nothing else."""
    try:
        expected = {**_bytecode_hashes(bytecode_list), **hashes}
        with open_folder(folder) as directory:
            found = set(_files(folder))
            return found == set(expected) and all(
                record_hash(read_regular(directory, path, FILE_BYTES * 4)) == digest
                for path, digest in expected.items()
            )
    except (
        Unreadable,
        OSError,
        ValueError,
    ):  # missing, unreadable, changing, or a list that is no JSON: all not intact
        return False


def remove(path: Path) -> None:
    """Remove a file or a folder with read-only folders in it; what is not there is no error."""
    if path.is_dir() and not path.is_symlink():
        for parent, folders, _ in os.walk(path):
            for name in (".", *folders):
                if not os.path.islink(os.path.join(parent, name)):
                    os.chmod(os.path.join(parent, name), 0o700)
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file that is on disk when this returns."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """Bring a folder's entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _compile(folder: Path) -> None:
    command = [sys.executable, "-I", "-S", "-B", "-c", _COMPILE, str(folder)]
    quiet = subprocess.DEVNULL
    try:
        subprocess.run(command, check=False, timeout=_COMPILE_S, stdin=quiet, stdout=quiet, stderr=quiet, env={})
    except subprocess.TimeoutExpired:
        return  # without bytecode the extension still runs; its first import is slower


def _bytecode_hashes(bytecode_list: Path) -> dict[str, str]:
    listed = json.loads(bytecode_list.read_bytes())
    if not isinstance(listed, dict) or listed.get("python") != _PYTHON or not isinstance(listed.get("files"), dict):
        raise ValueError("bytecode of another Python")
    return {str(path): str(digest) for path, digest in listed["files"].items()}


def _files(folder: Path) -> Iterator[str]:
    """The paths of everything in a folder that is no folder, and of folders without files; links are not followed."""
    for parent, folders, files in os.walk(folder, onerror=_raise):
        relative = os.path.relpath(parent, folder)
        prefix = "" if relative == "." else f"{relative}/"
        if not folders and not files:
            yield prefix
        yield from (f"{prefix}{name}" for name in files)
        yield from (f"{prefix}{name}" for name in folders if stat.S_ISLNK(os.lstat(os.path.join(parent, name)).st_mode))


def _raise(error: OSError) -> None:
    raise error
