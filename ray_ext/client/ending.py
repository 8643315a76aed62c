"""Ending the runtime of a state home, in whatever state it is. Needs no Ray in this process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from ray_ext.client.leftovers import end_last_runtime, end_leftovers, is_running, keepers_of, processes_of
from ray_ext.errors import RuntimeConflict
from ray_ext.home import Home
from ray_ext.runtime_record import RuntimeLock, RuntimeRecord, read_last, read_record

__all__ = ["end_runtime"]

#: How long an orderly end may take before it is enforced, in seconds.
_ORDERLY_S = 60.0
#: How long a killed keeper may take to be gone, and a runtime to say what it is, in seconds.
_SOON_S = 30.0


def end_runtime(home: Home, on_phase: Callable[[str], None] = lambda _: None) -> bool:
    """End what ``ray-ext up`` started with this home, and only that; False where there was nothing.

    ``on_phase`` is told what is being waited for, which goes on without this process. Raises RuntimeConflict for an
    embedded runtime, and RuntimeUnreachable where actors are left in a cluster that does not answer.
    """
    was_up = _end_keeper(home, on_phase)
    if not home.run.is_dir():
        had_leftovers = bool(processes_of(home))
        end_leftovers(home)
        return had_leftovers
    lock = RuntimeLock(home)
    if not lock.acquire():
        # Somebody has started the next one, and ended what was left for it.
        return was_up
    try:
        has_leftovers = read_last(home) is not None or bool(processes_of(home))
        if has_leftovers:
            on_phase("what is left of it")
        end_last_runtime(home)
    finally:
        lock.release()
    return was_up or has_leftovers


def _end_keeper(home: Home, on_phase: Callable[[str], None]) -> bool:
    lock = RuntimeLock(home)
    told: set[int] = set()
    enforce = time.monotonic() + _ORDERLY_S
    give_up = time.monotonic() + _SOON_S
    while lock.is_held_elsewhere():
        found = _keepers(home, read_record(home))
        for pid in found - told:
            # In this order: who is told that it is ending, and leaves, must be able to rely on it.
            _signal(pid, signal.SIGTERM)
            on_phase("the extensions and Ray to end")
        told |= found
        if told and time.monotonic() > enforce:
            for pid in found:
                _signal(pid, signal.SIGKILL)
            on_phase("the keeper, which is being killed: it did not end by itself")
            enforce = time.monotonic() + _SOON_S
        if not told and time.monotonic() > give_up:
            raise RuntimeConflict(
                "a program that is no keeper uses this state home, and does not say what it is",
                where=str(home.root),
                fix=f"find and end it: fuser -v {home.run / 'lock'}",
                details={"home": str(home.root)},
            )
        time.sleep(0.05)
    _await_end(told)
    return bool(told)


def _await_end(pids: set[int]) -> None:
    """A keeper frees the lock just before it ends."""
    give_up = time.monotonic() + _SOON_S
    while left := {pid for pid in pids if is_running(pid)}:
        if time.monotonic() > give_up:
            for pid in left:
                _signal(pid, signal.SIGKILL)
        time.sleep(0.01)


def _keepers(home: Home, record: RuntimeRecord | None) -> set[int]:
    if record is None:
        # One that is just starting has told nobody yet.
        return set(keepers_of(home))
    if record.kind != "up":
        raise RuntimeConflict(
            f"the runtime of this state home is embedded in process {record.pid}",
            where=str(home.root),
            fix="end that process, or let it call runtime.close()",
            details={"home": str(home.root), "pid": record.pid},
        )
    return {record.pid}


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
