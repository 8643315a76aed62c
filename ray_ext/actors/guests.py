"""The two kinds of guests behind one interface: a confined process, and a thread of the host for trusted extensions."""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from ray_ext.actors.spec import InstanceSpec
from ray_ext.sandbox.spawn import Guest, GuestSpec, spawn_guest
from ray_ext.wire.pulse import PULSE_SIZE, Pulse

__all__ = ["ConfinedGuest", "GuestProcess", "TrustedGuest"]

#: Called with the stream's name and one line that the extension printed.
OnOutput = Callable[[str, str], None]

_LINE_LIMIT = 32_000
#: How long a trusted extension's thread gets after its channel was closed, in seconds.
_GIVE_UP_S = 1.0


class GuestProcess(ABC):
    """A guest that runs: how to talk to it, see it live, and end it."""

    pid: int | None
    #: The process between host and guest, where there is one.
    stub_pid: int | None = None
    level: str
    channel: socket.socket
    pulse: Pulse
    is_dead = False
    #: How it died, as text; empty while it lives.
    death = ""

    @abstractmethod
    def when_dead(self, callback: Callable[[str], None]) -> None:
        """Call back once, on this event loop, with how it died."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once; idempotent."""

    @abstractmethod
    def close(self) -> None:
        """Free what the host holds for it."""


class ConfinedGuest(GuestProcess):
    """A confined process."""

    def __init__(self, guest: Guest, on_output: OnOutput) -> None:
        self._guest = guest
        self._loop = asyncio.get_running_loop()
        self.pid: int | None = guest.pid
        self.stub_pid = guest.stub_pid
        self.level = guest.level
        self.channel = guest.channel
        self.pulse = Pulse(guest.pulse)
        self._callback: Callable[[str], None] | None = None
        self._streams = [_Stream("stdout", guest.stdout, on_output), _Stream("stderr", guest.stderr, on_output)]
        self._loop.add_reader(guest.exit_descriptor, self._on_exit)

    @classmethod
    def start(cls, spec: InstanceSpec, on_output: OnOutput) -> ConfinedGuest:
        """Spawn it; blocks for some ms, or tens of ms without a zygote. Raises IsolationUnavailable or LoadFailed."""
        guest = spawn_guest(
            GuestSpec(
                extension=spec.metadata.id,
                layer=Path(spec.layer),
                code_paths=tuple(Path(path) for path in spec.code_paths),
                data_dir=Path(spec.data_dir),
                memory_bytes=spec.memory_bytes,
            ),
            zygote=None if spec.zygote is None else Path(spec.zygote),
        )
        return cls(guest, on_output)

    def when_dead(self, callback: Callable[[str], None]) -> None:
        """Call back with the exit status in words."""
        self._callback = callback

    def _on_exit(self) -> None:
        status = self._guest.poll()
        if status is None:
            return
        self._loop.remove_reader(self._guest.exit_descriptor)
        for stream in self._streams:
            stream.drain()
        self.is_dead = True
        self.death = _status_in_words(status)
        if self._callback is not None:
            self._callback(self.death)

    def kill(self) -> None:
        """SIGKILL."""
        self._guest.kill()

    def close(self) -> None:
        """Close the descriptors."""
        self._loop.remove_reader(self._guest.exit_descriptor)
        for stream in self._streams:
            stream.close()
        self._guest.close()


class TrustedGuest(GuestProcess):
    """The SDK's session on an event loop and thread of its own, inside the host."""

    def __init__(self, channel: socket.socket, page: mmap.mmap) -> None:
        self._loop = asyncio.get_running_loop()
        self.pid: int | None = os.getpid()
        self.level = "trusted"
        self.channel = channel
        self.pulse = Pulse(page)
        self._callback: Callable[[str], None] | None = None

    @classmethod
    def start(cls, spec: InstanceSpec, on_output: OnOutput) -> TrustedGuest:
        """Start the thread. What the extension prints goes to the host's own streams."""
        os.makedirs(spec.data_dir, mode=0o700, exist_ok=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        guest = cls(ours, mmap.mmap(-1, PULSE_SIZE))
        thread = threading.Thread(target=guest._run, args=(theirs,), name=f"trusted {spec.metadata.id}", daemon=True)
        thread.start()
        return guest

    def _run(self, channel: socket.socket) -> None:
        from ray import cloudpickle

        from ray_ext.sdk.guest import serve

        cause = "its session ended"
        try:
            asyncio.run(serve(channel, self.pulse, pickler=cloudpickle.dumps))
        except BaseException as error:  # noqa: BLE001 - the thread's end is the guest's death, whatever ended it
            cause = f"its session failed: {type(error).__name__}: {error}"
        finally:
            channel.close()
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._die, cause)

    def _die(self, cause: str) -> None:
        if not self.is_dead:
            self.is_dead, self.death = True, cause
            if self._callback is not None:
                self._callback(cause)

    def when_dead(self, callback: Callable[[str], None]) -> None:
        """Call back when the thread has ended or was given up."""
        self._callback = callback

    def kill(self) -> None:
        """A thread cannot be killed: unless it ends by itself it is given up, and ends with its host."""
        self._loop.call_later(_GIVE_UP_S, self._die, "it did not end and was given up")

    def close(self) -> None:
        """Nothing to free: the page may still be written by the thread."""


class _Stream:
    """Lines of a pipe, as they come. Of a line that is too long, only the beginning is handed on."""

    def __init__(self, name: str, descriptor: int, on_output: OnOutput) -> None:
        self._name = name
        self._descriptor = descriptor
        self._on_output = on_output
        self._rest = b""
        self._is_too_long = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._read)
        self._is_open = True

    def _read(self) -> bool:
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return False
        if not data:
            self._flush()
            self.close()
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._emit(line)
            self._is_too_long = False
        if len(self._rest) > _LINE_LIMIT:
            self._flush()
            self._is_too_long = True
        return True

    def _flush(self) -> None:
        if self._rest:
            rest, self._rest = self._rest, b""
            self._emit(rest)

    def _emit(self, line: bytes) -> None:
        if line and not self._is_too_long:
            self._on_output(self._name, line[:_LINE_LIMIT].decode("utf-8", "backslashreplace"))

    def drain(self) -> None:
        """Read what is left after the writer's death."""
        while self._is_open and self._read():
            pass
        self._flush()

    def close(self) -> None:
        """Stop reading; the descriptor is closed by the guest's owner."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._descriptor)


def _status_in_words(status: int) -> str:
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        hint = " (a system call that no guest may make)" if name == "SIGSYS" else ""
        return f"killed by {name}{hint}"
    return f"exit status {status}"
