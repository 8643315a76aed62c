"""A running guest, as its host holds it."""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from ray_ext.sandbox.process import Process

__all__ = ["ConfinementReport", "Guest"]


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
    is_forked: bool
    """From a zygote; else executed."""


class Guest:
    """A confined, verified process. Not thread-safe; the thread that spawned it must outlive it.

    ``channel`` (an AF_UNIX stream), ``stdout`` and ``stderr`` (read ends of pipes) do not block. ``exit_descriptor``
    becomes readable when the guest has ended: then :meth:`poll` says how.
    """

    def __init__(
        self,
        *,
        process: Process,
        channel: socket.socket,
        pulse: mmap.mmap,
        stdout: int,
        stderr: int,
        report: ConfinementReport,
    ) -> None:
        self._process = process
        self._is_closed = False
        self.pid = process.pid
        self.exit_descriptor = process.exit_descriptor
        self.channel = channel
        self.pulse = pulse
        self.stdout = stdout
        self.stderr = stderr
        self.level = report.level
        self.report = report

    @property
    def stub_pid(self) -> int | None:
        """The process between host and guest; None when there is none."""
        return self._process.parent_pid if self.report.is_forked else None

    def kill(self) -> None:
        """End it at once (SIGKILL), whatever it is doing; nothing happens when it has ended already."""
        if not self._is_closed:
            self._process.kill()

    def poll(self) -> int | None:
        """Its exit status, or minus the signal that ended it; None while it runs. Never blocks."""
        return self._process.returncode if self._is_closed else self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int:
        """Block until it has ended and return its status as :meth:`poll` does; TimeoutError when it has not."""
        return self._process.wait(timeout_s)

    def close(self) -> None:
        """Kill and reap it if it still runs, and free everything the host holds for it; idempotent."""
        if self._is_closed:
            return
        self._process.kill()
        self._process.wait()
        self._is_closed = True
        self._process.close()
        self.channel.close()
        self.pulse.close()
        for descriptor in (self.stdout, self.stderr):
            os.close(descriptor)
