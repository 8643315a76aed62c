"""The pulse page: 4096 bytes of memory that a guest and its host share.

The guest writes three counters, the host reads them; no message is needed, so a guest that dies at any instant leaves
an exact record behind, and a guest whose event loop is blocked still beats from a thread of its own.

====== ====== =======================================================================
offset type   meaning
====== ====== =======================================================================
0      u64    ``started``: the highest call sequence that may have begun to run
8      u64    ``beat``: CLOCK_MONOTONIC in ns, written by the heartbeat thread
16     u64    ``loop_beat``: the same, written by the guest's event loop
====== ====== =======================================================================

Little endian. A guest can write what it likes here: it harms only its own callers' error texts and its own life.
"""

from __future__ import annotations

import struct
from mmap import mmap

__all__ = ["PULSE_SIZE", "Pulse"]

PULSE_SIZE = 4096
_U64 = struct.Struct("<Q")


class Pulse:
    """A view of a pulse page, for its writer (guest) and its reader (host)."""

    __slots__ = ("_page",)

    def __init__(self, page: mmap) -> None:
        self._page = page

    @property
    def started(self) -> int:
        """The highest call sequence that may have begun to run; 0 before the first."""
        return int(_U64.unpack_from(self._page, 0)[0])

    @started.setter
    def started(self, sequence: int) -> None:
        _U64.pack_into(self._page, 0, sequence)

    @property
    def beat_ns(self) -> int:
        """When the heartbeat thread last ran (CLOCK_MONOTONIC, ns); 0 before the first time."""
        return int(_U64.unpack_from(self._page, 8)[0])

    @beat_ns.setter
    def beat_ns(self, now_ns: int) -> None:
        _U64.pack_into(self._page, 8, now_ns)

    @property
    def loop_beat_ns(self) -> int:
        """When the guest's event loop last answered its own timer (CLOCK_MONOTONIC, ns)."""
        return int(_U64.unpack_from(self._page, 16)[0])

    @loop_beat_ns.setter
    def loop_beat_ns(self, now_ns: int) -> None:
        _U64.pack_into(self._page, 16, now_ns)
