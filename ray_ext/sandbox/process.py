"""A guest's process, as its host holds it: executed as its own child, or forked from a zygote behind a stub."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from ray_ext.sandbox.stub import BORN, ENDED, REQUEST_BYTES

__all__ = ["ExecutedProcess", "ForkedProcess", "Process", "ZygoteUnavailable", "kill_by_pidfd", "trusted_interpreter"]

_BOOTSTRAP: Final = "ray_ext/sandbox/bootstrap.py"
#: What a zygote takes to fork a stub, and that a guest, in seconds: some ms; after this its host does without it.
_BIRTH_S: Final = 3.0
#: How long the kernel may take to end a guest whose stub is gone, in seconds.
_DEATH_S: Final = 10.0


class ZygoteUnavailable(Exception):
    """No guest came from the zygote; it can be started by exec."""


class Process(ABC):
    """A child process, or what is like one.

    ``pidfd`` names it to the kernel. ``exit_descriptor`` becomes readable when :meth:`poll` has news. ``parent_pid`` is
    its parent as long as that lives.
    """

    pid: int
    parent_pid: int
    pidfd: int
    exit_descriptor: int
    returncode: int | None = None

    @abstractmethod
    def poll(self) -> int | None:
        """Its exit status, or minus the signal that ended it; None while it runs. Never blocks."""

    @abstractmethod
    def close(self) -> None:
        """Free what is held for it, after it has ended."""

    def wait(self, timeout_s: float | None = None) -> int:
        """Block until it has ended; its status as :meth:`poll` gives it. TimeoutError when it has not."""
        while (status := self.poll()) is None:
            if not select.select([self.exit_descriptor], [], [], timeout_s)[0]:
                raise TimeoutError(f"guest {self.pid} runs after {timeout_s} s")
        return status

    def kill(self) -> None:
        """SIGKILL; nothing when it has ended."""
        if self.returncode is None:
            kill_by_pidfd(self.pidfd)


class ExecutedProcess(Process):
    """Executed by this thread, with which it ends (``PR_SET_PDEATHSIG``)."""

    def __init__(
        self, layer: Path, extension: str, environment: Mapping[str, str], channel: int, pulse: int, out: int, err: int
    ) -> None:
        # -S: an extension's .pth files run even under -I.
        command = [trusted_interpreter(), "-I", "-S", "-B", os.fspath(layer / _BOOTSTRAP)]
        self._child = subprocess.Popen(
            [*command, str(channel), str(pulse), extension],
            env=dict(environment),
            pass_fds=(channel, pulse),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd="/",
            umask=0o077,
            start_new_session=True,
        )
        self.pid = self._child.pid
        self.parent_pid = os.getpid()
        self.pidfd = self.exit_descriptor = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        """Reaps it."""
        self.returncode = self._child.poll()
        return self.returncode

    def close(self) -> None:
        """Close the pidfd."""
        os.close(self.pidfd)


class ForkedProcess(Process):
    """Forked from the zygote that listens at ``address``; raises ZygoteUnavailable when none comes from there."""

    def __init__(
        self, address: Path, environment: Mapping[str, str], channel: int, pulse: int, out: int, err: int
    ) -> None:
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.parent_pid, self.pid, self.pidfd = self._ask(address, environment, channel, pulse, out, err)
        except (OSError, EOFError, ValueError) as error:
            self._connection.close()
            raise ZygoteUnavailable(f"{address}: {error}") from error
        self._connection.setblocking(False)
        self.exit_descriptor = self._connection.fileno()

    def _ask(self, address: Path, environment: Mapping[str, str], *guests_ends: int) -> tuple[int, int, int]:
        connection = self._connection
        connection.settimeout(_BIRTH_S)
        connect_below(connection, address)
        request = json.dumps(dict(environment)).encode()
        if len(request) > REQUEST_BYTES:
            raise ValueError(f"a request of {len(request)} bytes; the limit is {REQUEST_BYTES}")
        us = os.pidfd_open(os.getpid())
        try:
            socket.send_fds(connection, [request], [us, *guests_ends])
        finally:
            os.close(us)
        content, descriptors, _, _ = socket.recv_fds(connection, BORN.size, 1)
        if len(content) != BORN.size or len(descriptors) != 1:
            raise EOFError("the zygote hung up")
        stub, guest = BORN.unpack(content)
        os.set_inheritable(descriptors[0], False)
        return stub, guest, descriptors[0]

    def poll(self) -> int | None:
        """What the stub says; when it is gone, the guest goes with it."""
        if self.returncode is None:
            with suppress(BlockingIOError):
                news = self._connection.recv(ENDED.size)
                self.returncode = ENDED.unpack(news)[0] if news else self._end_orphan()
        return self.returncode

    def _end_orphan(self) -> int:
        kill_by_pidfd(self.pidfd)
        if not select.select([self.pidfd], [], [], _DEATH_S)[0]:
            raise TimeoutError(f"guest {self.pid} outlives SIGKILL for {_DEATH_S} s")
        return -signal.SIGKILL

    def close(self) -> None:
        """Hang up, which would end it, and close its pidfd."""
        self._connection.close()
        os.close(self.pidfd)


def trusted_interpreter() -> str:
    """The base interpreter: never the venv's own, whose pyvenv.cfg adds paths."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def connect_below(connection: socket.socket, address: Path) -> None:
    """Connect to a path of any length; ``sockaddr_un`` has room for 107 bytes."""
    folder = os.open(address.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{address.name}")
    finally:
        os.close(folder)


def kill_by_pidfd(pidfd: int) -> None:
    """SIGKILL, to this process only and never to one that got its number later."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
