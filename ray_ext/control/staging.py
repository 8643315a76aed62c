"""Packages that clients have uploaded, until an operation takes them: files by sha256, removed after an hour."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from msgspec import Struct

from ray_ext.errors import PackageInvalid, PackageNotFound, PayloadTooLarge, StoreFailed

__all__ = ["PACKAGE_LIMIT", "StagedPackage", "Staging"]

#: The most bytes of a package.
PACKAGE_LIMIT = 256 << 20
#: How long a package is kept after it was sent last, in seconds.
KEPT_S = 3600.0

P = ParamSpec("P")
R = TypeVar("R")

_SHA256 = re.compile(r"[0-9a-f]{64}")
#: How much is written at a time, in bytes: each write is a visit to a thread.
_WRITE = 1 << 20


class StagedPackage(Struct, frozen=True, kw_only=True):
    """An uploaded package."""

    sha256: str
    size_bytes: int


class Staging:
    """A folder of uploads, readable by its owner alone. ``clock`` gives Unix seconds."""

    def __init__(self, folder: Path, *, limit: int = PACKAGE_LIMIT, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._limit = limit
        self._clock = clock

    async def receive(self, sha256: str, chunks: AsyncIterator[bytes]) -> tuple[StagedPackage, bool]:
        """Keep what is sent, and whether it is new.

        Raises PayloadTooLarge, and PackageInvalid where the bytes are not those that the sha256 names: nothing is kept
        then. Raises StoreFailed where the disk does not take it.
        """
        partial = self._folder / f".{secrets.token_hex(8)}.part"
        await self._on_disk(self._open, partial)
        try:
            size = await self._write(partial, sha256, chunks)
            is_new = await self._on_disk(self._publish, partial, sha256)
        finally:
            partial.unlink(missing_ok=True)
        return StagedPackage(sha256=sha256, size_bytes=size), is_new

    async def read(self, sha256: str) -> bytes:
        """The bytes of a package that was uploaded; raises PackageNotFound."""
        content = await asyncio.to_thread(self._read, sha256)
        if content is None:
            raise PackageNotFound(
                f"the package {sha256[:12]}… was not uploaded, or too long ago",
                fix=f"upload it: PUT /v1/packages/{sha256}",
                details={"sha256": sha256},
            )
        return content

    def sweep(self) -> None:
        """Remove what is too old, and what uploads that were broken off have left."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            if self._is_expired(path):
                path.unlink(missing_ok=True)

    async def _on_disk(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it in a thread; raises StoreFailed where the disk does not take it."""
        try:
            return await asyncio.to_thread(work, *args, **kwargs)
        except OSError as error:
            raise StoreFailed(
                f"the package could not be kept: {error.strerror or error}",
                where=str(self._folder),
                fix="see to space and rights of the state home",
            ) from error

    async def _write(self, partial: Path, sha256: str, chunks: AsyncIterator[bytes]) -> int:
        digest, size, pending = hashlib.sha256(), 0, bytearray()

        def flush(content: bytes) -> None:
            digest.update(content)
            with partial.open("ab") as file:
                file.write(content)

        async for chunk in chunks:
            size += len(chunk)
            if size > self._limit:
                raise PayloadTooLarge(
                    f"the package has {size} bytes or more; the limit is {self._limit}",
                    fix="leave out what the extension does not need at run time",
                    details={"size_bytes": size, "limit_bytes": self._limit, "which": "body"},
                )
            pending += chunk
            if len(pending) >= _WRITE:
                await self._on_disk(flush, bytes(pending))
                pending.clear()
        await self._on_disk(flush, bytes(pending))
        if digest.hexdigest() != sha256:
            problem = f"the sha256 of the {size} bytes that arrived is {digest.hexdigest()}, not {sha256}"
            raise PackageInvalid(
                "the package was damaged on its way, or is another one",
                where=problem,
                fix="send it again",
                details={"problems": [problem]},
            )
        return size

    def _open(self, partial: Path) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.sweep()
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def _publish(self, partial: Path, sha256: str) -> bool:
        path = self._path(sha256)
        is_new = not path.exists()
        now = self._clock()
        os.utime(partial, (now, now))
        partial.replace(path)
        return is_new

    def _read(self, sha256: str) -> bytes | None:
        path = self._path(sha256)
        if self._is_expired(path):
            path.unlink(missing_ok=True)
            return None
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        if hashlib.sha256(content).hexdigest() != sha256:
            path.unlink(missing_ok=True)
            return None
        return content

    def _is_expired(self, path: Path) -> bool:
        try:
            return self._clock() - path.stat().st_mtime > KEPT_S
        except FileNotFoundError:
            return False

    def _path(self, sha256: str) -> Path:
        assert _SHA256.fullmatch(sha256), "a sha256 becomes a file's name"
        return self._folder / f"{sha256}.whl"
