"""Ending what a runtime has left behind: processes, temporary folders, actors in a cluster that it had joined.

Needs no Ray in this process. What is ended is found by names that only this state home's runtime gives.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ray_ext.errors import RuntimeUnreachable
from ray_ext.home import Home
from ray_ext.runtime_record import RuntimeRecord, forget_last, read_last

__all__ = [
    "BOOT",
    "CLUSTER_TOKEN",
    "KEEPER",
    "end_last_runtime",
    "end_leftovers",
    "forget_runtime",
    "is_running",
    "keepers_of",
    "processes_of",
]

#: The variable that marks every process of a Ray that was started here; its value is the temporary folder.
BOOT = "RAY_EXT_BOOT"
#: The module that keeps a runtime started by ``ray-ext up``.
KEEPER = "ray_ext.client.keeper"
#: The file in the home with the token of a cluster that was joined.
CLUSTER_TOKEN = "cluster-token"
#: What stays in the home's folder of what runs: records have their own end, and tokens stay as others know them.
_KEPT = ("lock", "runtime.json", "last.json", "ray-token", "control-token")
#: How long the processes of a killed Ray may take to be gone, in seconds.
_KILL_S = 10.0
#: How long the actors in a joined cluster may take to be gone, with the start of the process that ends them.
_CLUSTER_S = 60.0


def end_leftovers(home: Home) -> None:
    """End every process of a Ray that this home's runtime started, and remove its temporary folder."""
    _end_processes(home.ray_temp)


def processes_of(home: Home) -> list[int]:
    """The processes of a Ray that this home's runtime started, other than this one."""
    return _marked(home.ray_temp)


def keepers_of(home: Home) -> list[int]:
    """The processes that start or keep a runtime of this home."""
    root = str(home.root).encode()
    return [pid for pid, command in _each_process("cmdline") if command[1:4] == [b"-m", KEEPER.encode(), root]]


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that has ended and waits for its parent is none."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def end_last_runtime(home: Home) -> None:
    """End what runtimes of this home that did not end in order have left behind. For the holder of the lock.

    Raises RuntimeUnreachable where actors are left in a cluster that does not let them be ended.
    """
    end_leftovers(home)
    record = read_last(home)
    if record is not None and _is_ours(home, record):
        if record.has_own_ray and record.ray_temp:
            _end_processes(Path(record.ray_temp))
        elif not record.has_own_ray:
            _end_actors(home, record)
    forget_runtime(home)


def forget_runtime(home: Home) -> None:
    """Remove from the state home what is true only while a runtime runs. For the holder of the lock."""
    for path in home.run.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in _KEPT:
            path.unlink(missing_ok=True)
    forget_last(home)


def _is_ours(home: Home, record: RuntimeRecord) -> bool:
    """False for a record in a copy of the home where it was written: that home ends its runtime itself."""
    written = Path(record.home or home.root)
    return os.path.realpath(written) == os.path.realpath(home.root) or not (written / "run" / "lock").exists()


def _end_processes(ray_temp: Path) -> None:
    _kill_while_any(lambda: _marked(ray_temp))
    shutil.rmtree(ray_temp, ignore_errors=True)


def _kill_while_any(find: Callable[[], list[int]]) -> None:
    give_up = time.monotonic() + _KILL_S
    while (found := find()) and time.monotonic() < give_up:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _end_actors(home: Home, record: RuntimeRecord) -> None:
    """In a process of its own: this one may be a command line, which imports no Ray."""
    host, _, port = record.address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5.0).close()
    except ConnectionRefusedError:
        # The cluster is gone, and the actors with it.
        return
    except (OSError, ValueError):
        # What it is, Ray will say.
        pass
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ray_ext.client.cluster", str(home.root)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_CLUSTER_S,
            check=False,
        )
        problem = "" if done.returncode == 0 else (done.stderr.strip() or f"exit status {done.returncode}")[-2000:]
    except subprocess.TimeoutExpired:
        problem = f"they were not gone within {_CLUSTER_S:.0f} s"
    if problem:
        raise RuntimeUnreachable(
            f"the runtime's actors in the Ray cluster at {record.address} could not be ended: {problem}",
            where=str(home.root),
            fix="try again when the cluster answers; if it is gone for good, remove run/last.json in the state home",
            details={"home": str(home.root), "address": record.address},
        )


def _marked(ray_temp: Path) -> list[int]:
    # Not by their command lines: Ray's workers retitle themselves, and others may name the folder for their reasons.
    mark = BOOT.encode() + b"=" + str(ray_temp).encode()
    return [pid for pid, environment in _each_process("environ") if mark in environment]


def _each_process(file: str) -> list[tuple[int, list[bytes]]]:
    """The words in this file of every process but this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            found.append((int(entry.name), (entry / file).read_bytes().split(b"\0")))
    return found
