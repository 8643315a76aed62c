"""The resource limits of a guest (``setrlimit(2)``), from its manifest's memory."""

from __future__ import annotations

from typing import Final

__all__ = ["INTERPRETER_DATA_BYTES", "THREAD_STACK_BYTES", "resource_limits"]

_MIB: Final = 1 << 20

INTERPRETER_DATA_BYTES: Final = 20 * _MIB
"""Private data of an idle guest before the extension's first import: VmData is 16 MiB (``benchmarks/guest_start.py``,
Python 3.11, heartbeat thread included), and 4 MiB are the main loop's own buffers."""

THREAD_STACK_BYTES: Final = 2 * _MIB
"""Thread stacks count as data in full. glibc's default of 8 MiB would leave a 64 MiB extension seven threads."""


def resource_limits(memory_bytes: int) -> dict[str, int]:
    """The limits by their names in the ``resource`` module.

    RLIMIT_DATA stops private memory only; shared mappings need cgroups or the watchdog. RLIMIT_NPROC is not among them:
    at level L1 it would count all processes of the host's user, and it never binds root.
    """
    return {
        "RLIMIT_CORE": 0,
        "RLIMIT_DATA": memory_bytes + INTERPRETER_DATA_BYTES,
        "RLIMIT_FSIZE": 128 * _MIB,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_NOFILE": 256,
        "RLIMIT_STACK": 8 * _MIB,
    }
