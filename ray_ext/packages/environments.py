"""The environments on this machine: a folder of Python packages for each lock, built once, verified at each use."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ray_ext.errors import EnvironmentFailed
from ray_ext.packages.environment_build import FREE_SPACE, Progress, Report, Unbuildable, Uv, compile_sources, ignore
from ray_ext.packages.environment_check import Damaged, checked_files, installed_packages, is_intact, seal, tidy
from ray_ext.packages.environment_sources import Sources
from ray_ext.packages.requirement_sets import Lock, normalised
from ray_ext.packages.unpacking import remove, sync

__all__ = ["Collected", "EnvironmentCache", "EnvironmentFacts", "Lock", "Progress", "Report", "Sources", "ignore"]

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHOWN = 8
"""Packages named in the text of an error; its details name them all."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class EnvironmentFacts:
    """An environment that is there: its lock's digest, its folder, its packages (``name==version``) and its size.

    ``packages`` is empty where the environment is too damaged to say.
    """

    digest: str
    path: Path
    packages: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed: an environment, what a dead build left, or uv's downloads; where it was, and its size."""

    path: Path
    size_bytes: int


class EnvironmentCache:
    """A folder of environments: ``<root>/<2 letters>/<digest of the lock>/``, read-only, each ready for ``sys.path``.

    Any number of threads and processes may use the same folder, and each may be killed at any moment. An environment
    appears whole, by one rename; at every use it is compared with its index file by file, never by time. uv's
    downloads are kept in ``<root>/downloads/`` until :meth:`collect`.
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(root).absolute()
        self._downloads = self._root / "downloads"

    def lock(self, requirements: Sequence[str], sources: Sources, *, report: Report = ignore) -> Lock:
        """Resolve requirements (PEP 508) to wheels for this Python.

        Raises EnvironmentFailed for what is no plain requirement, what has no solution, packages without a wheel, and
        sources that cannot be reached.
        """
        wanted = normalised(requirements)
        with _failures(wanted, "cannot be resolved"), _locked(self._downloads, fcntl.LOCK_SH) as held:
            return Uv(self._downloads, sources, [held]).lock(wanted, report)

    def build(self, lock: Lock, sources: Sources, *, report: Report = ignore) -> Path:
        """The folder of a lock's environment, just verified; built where it is missing, damaged or altered.

        Two builds of one lock never run at once: the second waits, and finds what the first has built. Raises
        EnvironmentFailed when a build fails, and leaves nothing of it.
        """
        folder = self._folder(lock)
        with _failures(lock.packages, "cannot be installed"):
            if not lock.is_for_this_python:
                cause = f"they are locked for {lock.python} on {lock.platform}, not for this Python"
                raise Unbuildable(cause, "resolve the requirements again with this Python")
            if not is_intact(folder, lock):
                with _locked(folder, fcntl.LOCK_EX) as held:
                    if not is_intact(folder, lock):
                        self._build(folder, lock, sources, held, report)
        report(Progress("done", str(folder)))
        return folder

    def find(self, lock: Lock) -> Path | None:
        """The folder of a lock's environment, just verified; None where it is missing, damaged or altered."""
        folder = self._folder(lock)
        return folder if is_intact(folder, lock) else None

    def collect(self, keep: Collection[str], *, with_downloads: bool = True) -> list[Collected]:
        """Remove the environments whose digest is not in ``keep``, what dead builds left, and uv's downloads.

        Without ``with_downloads`` these stay, and make the next build faster.
        What is being built stays, and the downloads while uv runs. Raises OSError where the folder cannot be written.
        """
        gone = []
        downloads = self._root.glob("downloads.lock") if with_downloads else ()
        for file in [*sorted(self._root.glob("??/*.lock")), *downloads]:
            folder = file.with_suffix("")
            with suppress(BlockingIOError), _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                gone += [_removed(left, left) for left in _left(folder)]
                if folder.name not in keep and os.path.lexists(folder):
                    # Aside first: a reader sees a whole environment or none.
                    gone.append(_removed(folder.rename(_beside(folder)), folder))
        return gone

    def list(self) -> list[EnvironmentFacts]:
        """The environments that are there, in the order of their digests; none of them is verified."""
        found = sorted(path for path in self._root.glob("??/*") if _DIGEST.fullmatch(path.name))
        return [EnvironmentFacts(path.name, path, installed_packages(path), _size_bytes(path)) for path in found]

    def _folder(self, lock: Lock) -> Path:
        return self._root / lock.digest[:2] / lock.digest

    def _build(self, folder: Path, lock: Lock, sources: Sources, held: int, report: Report) -> None:
        _sweep(folder)  # only the lock's holder makes entries beside it: what is there, a dead process left
        new = _beside(folder)
        try:
            with _locked(self._downloads, fcntl.LOCK_SH) as held_too:
                uv = Uv(self._downloads, sources, [held, held_too])
                try:
                    _install(uv, lock, new, held, report)
                except Damaged:
                    # Perhaps in the downloads: once more, without those.
                    remove(new)
                    uv.forget(lock)
                    _install(uv, lock, new, held, report)
            if os.path.lexists(folder):
                folder.rename(_beside(folder))
            new.rename(folder)
            sync(folder.parent)
        finally:
            _sweep(folder)


def _install(uv: Uv, lock: Lock, new: Path, held: int, report: Report) -> None:
    new.mkdir()
    uv.install(lock, new, report)
    tidy(new)
    compile_sources(new, [held], report)
    report(Progress("verify", f"packages: {len(lock.packages)}"))
    seal(new, lock, checked_files(new))


@contextmanager
def _failures(requirements: Sequence[str], what: str) -> Iterator[None]:
    """Raise EnvironmentFailed for what goes wrong."""
    try:
        yield
    except Unbuildable as error:
        cause, fix = error.cause, error.fix
    except OSError as error:
        cause = f"{error.strerror or error} ({error.filename})" if error.filename else str(error)
        fix = FREE_SPACE if error.errno in _NO_SPACE else "make that place one that can be written, then try again"
    else:
        return
    more = [f"and {len(requirements) - _SHOWN} more"] if len(requirements) > _SHOWN else []
    raise EnvironmentFailed(
        f"the packages {', '.join([*requirements[:_SHOWN], *more])} {what}: {cause}",
        fix=fix,
        details={"requirements": list(requirements), "cause": cause},
    )


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[int]:
    """The descriptor of a folder's lock, held as ``how`` says; whoever only reads an environment needs none."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield descriptor
    finally:
        os.close(descriptor)


def _beside(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.{secrets.token_hex(8)}"


def _left(folder: Path) -> list[Path]:
    return sorted(folder.parent.glob(f".{folder.name}.*"))


def _sweep(folder: Path) -> None:
    for left in _left(folder):
        remove(left)


def _removed(path: Path, known_as: Path) -> Collected:
    collected = Collected(known_as, _size_bytes(path))
    remove(path)
    return collected


def _size_bytes(folder: Path) -> int:
    return sum(os.lstat(os.path.join(parent, name)).st_size for parent, _, files in os.walk(folder) for name in files)
