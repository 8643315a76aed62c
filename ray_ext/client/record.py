"""A running runtime in its state home: a file that says where it is, and a lock that says that it lives."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from ray_ext.home import Home

__all__ = ["RuntimeLock", "RuntimeRecord", "read_record", "write_record"]


@dataclass(frozen=True, kw_only=True)
class RuntimeRecord:
    """Where a runtime is. ``kind`` is ``up`` or ``embedded``; ``pid`` is the process that keeps it."""

    kind: str
    pid: int
    address: str
    namespace: str
    auth_mode: str
    token_path: str
    dashboard: str
    started_at: float


def read_record(home: Home) -> RuntimeRecord | None:
    """The record, if a runtime of this home lives."""
    if not RuntimeLock(home).is_held_elsewhere():
        return None
    try:
        return RuntimeRecord(**json.loads(_path(home).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write_record(home: Home, record: RuntimeRecord) -> None:
    """Publish it, for its holder of the lock."""
    temporary = _path(home).with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(record), indent=2))
    temporary.chmod(0o600)
    os.replace(temporary, _path(home))


def _path(home: Home) -> Path:
    return home.run / "runtime.json"


class RuntimeLock:
    """One runtime per state home: an advisory lock that the kernel frees with its holder, however it ends."""

    def __init__(self, home: Home) -> None:
        self._path = home.run / "lock"
        self._record = _path(home)
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take it; False when another process has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        self._record.unlink(missing_ok=True)
        return True

    def is_held_elsewhere(self) -> bool:
        """Whether some process has it."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def release(self) -> None:
        """Give it back; the record goes with it."""
        if self._descriptor is not None:
            self._record.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None
