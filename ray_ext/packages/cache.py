"""The packages on this machine, by their sha256: kept as they came, unpacked for use, and verified at every use."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from ray_ext.errors import PackageInvalid
from ray_ext.manifests.archive import open_archive
from ray_ext.manifests.reading import ManifestSource
from ray_ext.manifests.wheel_reading import read_archive, read_wheel_file
from ray_ext.packages.record import recorded_hashes, verified_files
from ray_ext.packages.unpacking import is_intact, remove, sync, unpack, write_synced

__all__ = ["CheckedPackage", "PackageCache", "StoredPackage"]

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoredPackage:
    """A package in the cache: its identity, the wheel's path, and its manifest."""

    sha256: str
    path: Path
    source: ManifestSource


@dataclass(frozen=True, slots=True)
class CheckedPackage:
    """A package that was looked at: its bytes, their identity, and its manifest."""

    wheel: bytes
    sha256: str
    source: ManifestSource


class PackageCache:
    """A folder of packages: ``<root>/<2 letters>/<sha256>.whl``, unpacked beside it as ``<sha256>/``.

    Any number of threads and processes may use the same folder. The root of trust is the sha256 that the caller gives:
    the wheel is hashed at every use, and an unpacked folder compared with the wheel's RECORD file by file, never by
    time or size.
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(root)

    @staticmethod
    def check(wheel_bytes: bytes) -> CheckedPackage:
        """Look at a wheel without keeping it; raises PackageInvalid or ManifestInvalid unless it is whole and safe."""
        origin = "the wheel"
        with open_archive(io.BytesIO(wheel_bytes), origin) as archive:
            for _ in verified_files(archive, recorded_hashes(archive, origin), origin):
                pass
        with open_archive(io.BytesIO(wheel_bytes), origin) as archive:
            source = read_archive(archive, origin)
        return CheckedPackage(wheel_bytes, hashlib.sha256(wheel_bytes).hexdigest(), source)

    def add(self, wheel_bytes: bytes) -> StoredPackage:
        """Keep a wheel; the same bytes again change nothing.

        Raises PackageInvalid or ManifestInvalid, and keeps nothing, unless the wheel is a whole and safe package.
        """
        sha256 = self.check(wheel_bytes).sha256
        path = self._path(sha256)
        with self._lock(sha256):
            if not _has_hash(path, sha256):
                new = self._temporary(sha256)
                write_synced(new, wheel_bytes)
                remove(path)
                new.rename(path)
                sync(path.parent)
        with path.open("rb") as file:
            return StoredPackage(sha256, path, read_wheel_file(file, str(path)))

    def wheel(self, sha256: str) -> Path:
        """The path of a kept wheel, just verified; raises PackageInvalid when it is missing or damaged."""
        with self._verified(sha256):
            return self._path(sha256)

    def unpacked(self, sha256: str) -> Path:
        """The folder with a package's files, just verified; unpacked first where it is missing, damaged or altered.

        Its files and folders are read-only. Raises PackageInvalid when the wheel itself is missing or damaged.
        """
        folder = self._path(sha256).with_suffix("")
        bytecode_list = folder.with_suffix(".bytecode")
        with self._verified(sha256) as file, open_archive(file, str(self._path(sha256))) as archive:
            hashes = recorded_hashes(archive, str(self._path(sha256)))
            if is_intact(folder, hashes, bytecode_list):
                return folder
            with self._lock(sha256):
                if is_intact(folder, hashes, bytecode_list):
                    return folder  # another process was faster
                new, new_list = self._temporary(sha256), self._temporary(sha256)
                unpack(archive, hashes, new, new_list, str(self._path(sha256)))
                if os.path.lexists(folder):
                    # Aside first: a reader sees the old folder or the new one, never one that is half removed.
                    folder.rename(self._temporary(sha256))
                new_list.replace(bytecode_list)
                new.rename(folder)
                sync(folder.parent)
                self._sweep(sha256)
        return folder

    def collect(self, keep: Collection[str]) -> int:
        """Remove every package that is not in ``keep``, and what interrupted writers left; returns the bytes freed."""
        freed = 0
        for lock in sorted(self._root.glob("??/*.lock")):
            sha256 = lock.stem
            with self._lock(sha256):
                if sha256 not in keep:
                    path = self._path(sha256)
                    for part in (path, path.with_suffix(".bytecode"), path.with_suffix("")):
                        freed += _size_bytes(part)
                        remove(part)
        return freed

    def _path(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise PackageInvalid(
                "a package is named by 64 hexadecimal digits, its sha256",
                fix="pass StoredPackage.sha256",
                details={"problems": []},
            )
        return self._root / sha256[:2] / f"{sha256}.whl"

    @contextmanager
    def _verified(self, sha256: str) -> Iterator[IO[bytes]]:
        path = self._path(sha256)
        try:
            file = path.open("rb")
        except OSError as error:
            _refuse(path, "is not in the cache" if isinstance(error, FileNotFoundError) else "cannot be read")
        with file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                _refuse(path, "is damaged: its bytes do not have its sha256")
            file.seek(0)
            yield file

    @contextmanager
    def _lock(self, sha256: str) -> Iterator[None]:
        """Exclude every other process and thread from changing this package; whoever only reads needs no lock."""
        folder = self._path(sha256).parent
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / f"{sha256}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._sweep(sha256)
            yield
        finally:
            os.close(descriptor)

    def _temporary(self, sha256: str) -> Path:
        return self._path(sha256).parent / f".{sha256}.{secrets.token_hex(8)}"

    def _sweep(self, sha256: str) -> None:
        # Only the lock's holder makes temporary entries: what is there when the lock is taken, a dead process left.
        for left in self._path(sha256).parent.glob(f".{sha256}.*"):
            remove(left)


def _size_bytes(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _has_hash(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def _refuse(path: Path, what: str) -> NoReturn:
    raise PackageInvalid(
        f"the package {path.stem} {what}",
        where=str(path),
        fix="install it again from its folder or wheel",
        details={"problems": [what]},
    )
