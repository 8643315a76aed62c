"""A running guest, as its host holds it."""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

__all__ = ["ConfinementReport", "Guest", "kill_by_pidfd"]


@dataclass(frozen=True, kw_only=True)
class ConfinementReport:
    """The facts of one guest's confinement, for ``show``."""

    level: str
    landlock_abi: int
    steps: tuple[str, ...]
    """What the guest did, in order."""
    verified: Mapping[str, str]
    """What the host read in ``/proc/PID/status`` afterwards."""
    readable: tuple[str, ...]
    writable: str
    limits: Mapping[str, int]
    start_s: float
    """From the decision to spawn until the guest was verified."""


class Guest:
    """A confined, verified process. Not thread-safe; the thread that spawned it must outlive it.

    ``channel`` (an AF_UNIX stream), ``stdout`` and ``stderr`` (read ends of pipes) do not block. ``pidfd`` becomes
    readable when the guest has ended: then :meth:`poll` reaps it.
    """

    def __init__(
        self,
        *,
        process: subprocess.Popen[bytes],
        pidfd: int,
        channel: socket.socket,
        pulse: mmap.mmap,
        stdout: int,
        stderr: int,
        report: ConfinementReport,
    ) -> None:
        self._process = process
        self._is_closed = False
        self.pid = process.pid
        self.pidfd = pidfd
        self.channel = channel
        self.pulse = pulse
        self.stdout = stdout
        self.stderr = stderr
        self.level = report.level
        self.report = report

    def kill(self) -> None:
        """End it at once (SIGKILL), whatever it is doing; nothing happens when it has ended already."""
        if not self._is_closed and self._process.returncode is None:
            kill_by_pidfd(self.pidfd)

    def poll(self) -> int | None:
        """Its exit status, or minus the signal that ended it; None while it runs. Never blocks."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int:
        """Block until it has ended and return its status as :meth:`poll` does; TimeoutError when it has not."""
        if self._process.returncode is None and not select.select([self.pidfd], [], [], timeout_s)[0]:
            raise TimeoutError(f"guest {self.pid} runs after {timeout_s} s")
        return self._process.wait()

    def close(self) -> None:
        """Kill and reap it if it still runs, and free everything the host holds for it; idempotent."""
        if self._is_closed:
            return
        self.kill()
        self._process.wait()
        self._is_closed = True
        self.channel.close()
        self.pulse.close()
        for descriptor in (self.pidfd, self.stdout, self.stderr):
            os.close(descriptor)


def kill_by_pidfd(pidfd: int) -> None:
    """SIGKILL, to this process only and never to one that got its number later."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
