"""A running runtime in its state home: a file that says where it is, and a lock that says that it lives.

Beside them stays, until somebody has ended it, the record of a runtime that ended without doing so itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ray_ext.home import Home

__all__ = ["RuntimeLock", "RuntimeRecord", "forget_last", "read_last", "read_record", "write_last", "write_record"]


#: Those who ask whether the lock is held hold it for an instant themselves; it is waited for this long, in seconds.
_PROBE_S = 0.2


@dataclass(frozen=True, kw_only=True)
class RuntimeRecord:
    """Where a runtime is. ``kind`` is ``up`` or ``embedded``; ``pid`` is the process that keeps it.

    ``home`` and ``ray_temp`` are as they were at its start: a state home may be moved. ``has_own_ray``: Ray was started
    for it, and ends with it. ``listen`` is where its control API was asked to listen beside its socket.
    """

    kind: str
    pid: int
    address: str
    namespace: str
    auth_mode: str
    token_path: str
    dashboard: str
    started_at: float
    home: str = ""
    ray_temp: str = ""
    has_own_ray: bool = True
    listen: str = ""


def read_record(home: Home) -> RuntimeRecord | None:
    """The record, if a runtime of this home lives."""
    if not RuntimeLock(home).is_held_elsewhere():
        return None
    return _read(_path(home))


def write_record(home: Home, record: RuntimeRecord) -> None:
    """Publish it, for its holder of the lock."""
    _write(_path(home), record)
    forget_last(home)


def read_last(home: Home) -> RuntimeRecord | None:
    """For the holder of the lock: what a runtime that did not end in order has left behind; None if nothing."""
    return _read(_last_path(home))


def write_last(home: Home, record: RuntimeRecord) -> None:
    """For the holder of the lock, before it starts anything: what is to be ended if it dies before it is up."""
    _write(_last_path(home), record)


def forget_last(home: Home) -> None:
    """Nothing of it is left."""
    _last_path(home).unlink(missing_ok=True)


def _read(path: Path) -> RuntimeRecord | None:
    try:
        found = json.loads(path.read_text())
        # A field that a later version writes is none of ours.
        return RuntimeRecord(**{each.name: found[each.name] for each in fields(RuntimeRecord) if each.name in found})
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def _write(path: Path, record: RuntimeRecord) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(record), indent=2))
    temporary.chmod(0o600)
    os.replace(temporary, path)


def _path(home: Home) -> Path:
    return home.run / "runtime.json"


def _last_path(home: Home) -> Path:
    return home.run / "last.json"


class RuntimeLock:
    """One runtime per state home: an advisory lock that the kernel frees with its holder, however it ends."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._path = home.run / "lock"
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take it; False when another process has it. A record that a crash left is the last one from now on."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_up = time.monotonic() + _PROBE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    os.close(descriptor)
                    return False
            time.sleep(0.01)
        self._descriptor = descriptor
        with suppress(FileNotFoundError):
            os.replace(_path(self._home), _last_path(self._home))
        return True

    def is_held_elsewhere(self) -> bool:
        """Whether some process has it."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
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
            _path(self._home).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None
