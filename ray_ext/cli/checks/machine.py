"""The machine: ports, disks, memory, the clock."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from ray_ext.cli.checking import Finding, Patient, check, command_line, fail, ok, skip, warn
from ray_ext.cli.output import size_text, time_text

__all__ = ["clock", "disk_home", "disk_shared_memory", "disk_temporary", "memory", "open_files", "ports"]

#: Ray's default; where it is taken Ray looks for the next free one.
_DASHBOARD_PORT = 8265
_MIB = 1 << 20
#: Below this nothing is installed any more; uv and SQLite need room for a second copy.
_DISK_FAIL_BYTES = 64 * _MIB
_DISK_WARN_BYTES = 1024 * _MIB
_INODES_FAIL = 100
_INODES_WARN = 10_000
#: A runtime without extensions takes 0.9 GB: the PSS of Ray 2.60, the system actors and a spare host.
_MEMORY_FAIL_BYTES = 256 * _MIB
_MEMORY_WARN_BYTES = 1024 * _MIB
#: Ray's own documentation asks for 65,536; a small runtime gets by with this.
_OPEN_FILES = 4096
#: Of <sys/timex.h>: the kernel's clock is not synchronised.
_STA_UNSYNC = 0x0040
#: Further in the future than any clock's correction, in seconds.
_AHEAD_S = 120.0


@check("ports", "Ports")
def ports(patient: Patient) -> Finding:
    """Those that the runtime listens on answer; those that it will listen on are free."""
    record = patient.record
    if record is None:
        with socket.socket() as probe:
            # As servers do: a connection that has just ended does not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", _DASHBOARD_PORT))
            except OSError as error:
                return warn(
                    f"127.0.0.1:{_DASHBOARD_PORT} is taken ({error.strerror}): the dashboard will have another port",
                    f"ss -ltnp 'sport = :{_DASHBOARD_PORT}'",
                )
        return ok(f"127.0.0.1:{_DASHBOARD_PORT} is free for the dashboard")
    wanted = {"the dashboard": record.dashboard.removeprefix("http://"), "the control API": record.listen}
    asked = {name: address for name, address in wanted.items() if address}
    silent = [f"{name} at {address}" for name, address in asked.items() if not _answers(address)]
    if silent:
        return fail(f"no answer from {' and '.join(silent)}", "ray-ext down && ray-ext up")
    return ok("; ".join(f"{name} answers at {address}" for name, address in asked.items()) or "none is used")


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
    except (OSError, ValueError):
        return False
    return True


@check("disk-home", "Disk of the state home")
def disk_home(patient: Patient) -> Finding:
    """Where packages, environments, logs and the store are."""
    return _disk(patient.home.root)


@check("disk-temporary", "Disk of temporary files")
def disk_temporary(_: Patient) -> Finding:
    """Where Ray has its logs and sockets."""
    return _disk(Path(tempfile.gettempdir()))


@check("disk-shared-memory", "Shared memory")
def disk_shared_memory(_: Patient) -> Finding:
    """Where Ray keeps objects; where it is too small Ray takes the temporary folder, which is slow."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return warn(
            "there is no /dev/shm: Ray keeps objects on disk", "mount -t tmpfs -o size=2g,mode=1777 tmpfs /dev/shm"
        )
    # As little as containers have by default is enough to run.
    return _disk(folder, least_bytes=0, more="mount -o remount,size=2g /dev/shm  # in a container: --shm-size=2g")


def _disk(folder: Path, more: str = "", least_bytes: int = _DISK_FAIL_BYTES) -> Finding:
    """Room, inodes, and whether what is written there reaches the disk. ``more`` is how there can be more room."""
    place = folder
    while not place.exists():
        place = place.parent
    fix = more or f"{command_line('du', '-xah', place)} | sort -rh | head -20  # then remove what nobody needs"
    facts = os.statvfs(place)
    free_bytes = facts.f_bavail * facts.f_frsize
    seen = f"{place}: {size_text(free_bytes)} free of {size_text(facts.f_blocks * facts.f_frsize)}"
    # File systems without a table of inodes (btrfs) count none.
    has_inodes = facts.f_files > 0
    if has_inodes:
        seen += f", {facts.f_favail} inodes free"
    problem = _write_problem(place)
    if problem is not None:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            return fail(f"{seen}; writing fails: {problem.strerror}", fix)
        return fail(f"{seen}; writing fails: {problem.strerror}", _make_writable(place, problem))
    if free_bytes < least_bytes or (has_inodes and facts.f_favail < _INODES_FAIL):
        return fail(seen, fix)
    if free_bytes < _DISK_WARN_BYTES or (has_inodes and facts.f_favail < _INODES_WARN):
        return warn(seen, fix)
    return ok(f"{seen}; written and synced")


def _make_writable(place: Path, problem: OSError) -> str:
    if problem.errno == errno.EROFS:
        return f"{command_line('findmnt', '-T', place)}  # it is mounted read-only: dmesg says why"
    return command_line("chown", os.geteuid(), place) + " && " + command_line("chmod", "u+rwx", place)


def _write_problem(folder: Path) -> OSError | None:
    """What a file that is written and synced there meets; it has no name, so that nothing can be left of it."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(os.urandom(64 * 1024))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


@check("memory", "Memory")
def memory(_: Patient) -> Finding:
    """Enough for Ray and a few extensions."""
    facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available_bytes = int(facts["MemAvailable"].split()[0]) * 1024
    seen = f"{size_text(available_bytes)} available"
    limited = _left_in_cgroup_bytes()
    if limited is not None and limited < available_bytes:
        available_bytes, seen = limited, f"{size_text(limited)} left of what this cgroup may use"
    fix = "ps -eo pid,rss,args --sort=-rss | head  # then end what nobody needs, or give the machine more"
    if available_bytes < _MEMORY_FAIL_BYTES:
        return fail(seen, fix)
    return warn(seen, fix) if available_bytes < _MEMORY_WARN_BYTES else ok(seen)


def _left_in_cgroup_bytes() -> int | None:
    """None where no limit of cgroup v2 applies to this process."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next(line[3:] for line in lines if line.startswith("0::"))
        folder = Path("/sys/fs/cgroup") / own.lstrip("/")
        inactive = next(
            int(line.split()[1])
            for line in (folder / "memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        )
        used = int((folder / "memory.current").read_text()) - inactive
        return int((folder / "memory.max").read_text()) - used
    return None


@check("open-files", "Open files")
def open_files(_: Patient) -> Finding:
    """How many a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _OPEN_FILES:
        return ok(f"{'any number' if soft == resource.RLIM_INFINITY else soft} may be open in one process")
    seen = f"only {soft} may be open in one process"
    if hard != resource.RLIM_INFINITY and hard < _OPEN_FILES:
        return warn(
            f"{seen}, and no more than {hard} can be asked for", f"prlimit --pid $$ --nofile={_OPEN_FILES}  # as root"
        )
    return warn(seen, f"ulimit -n {_OPEN_FILES}")


class _Timex(ctypes.Structure):
    """The beginning of ``struct timex`` of <sys/timex.h>; the rest is room for the kernel to write to."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    ]


@check("clock", "Clock")
def clock(patient: Patient) -> Finding:
    """Right, synchronised, and not behind what the store was written with."""
    now = time.time()
    fix = "timedatectl set-ntp true"
    ours = Path(__file__).stat().st_mtime
    written = [(path, path.stat().st_mtime) for path in patient.home.root.glob("store.db*") if path.is_file()]
    ahead = [f"{path.name} was written at {time_text(at)}" for path, at in written if at > now + _AHEAD_S]
    if ahead:
        return fail(f"it is {time_text(now)}, but {'; '.join(ahead)}: the clock was set back", fix)
    if ours > now + _AHEAD_S:
        return fail(f"it is {time_text(now)}, but this program was installed at {time_text(ours)}", fix)
    earlier, later = time.monotonic(), time.monotonic()
    if later < earlier:
        return fail(
            "the monotonic clock runs backwards", "restart the machine; if it goes on, choose another clocksource"
        )
    facts = _Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(facts))
    if state < 0:
        return skip(
            f"{time_text(now)}; the kernel does not say whether it is synchronised ({os.strerror(ctypes.get_errno())})"
        )
    if facts.status & _STA_UNSYNC:
        return warn(f"{time_text(now)}; the kernel says that it is not synchronised", fix)
    return ok(f"{time_text(now)}; synchronised to {facts.maxerror / 1e3:.0f} ms")
