"""The zygote's owner: starts it, and replaces it when it dies. One per node, in the node agent."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from ray_ext.sandbox.process import trusted_interpreter

__all__ = ["Nursery", "zygote_address"]

_ZYGOTE: Final = "ray_ext/sandbox/zygote.py"
_BACKLOG: Final = 128


def zygote_address(folder: Path, layer: Path) -> Path:
    """Where the zygote of this layer listens: guests of another layer must not come from it."""
    return folder / f"zygote-{layer.name[:12]}.sock"


class Nursery:
    """Owns the listening socket, so that a request that finds no zygote waits for the next one.

    ``folder`` must belong to this user alone: whoever can connect can have guests. ``pidfd`` becomes readable when the
    zygote has ended; then call :meth:`replace`. Guests that run do not notice.
    """

    def __init__(self, folder: Path, layer: Path, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.address = zygote_address(folder, layer)
        self.layer = layer
        self._environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "1", **(environment or {})}
        self._log = log
        self._listener = _listen(self.address)
        self._process = self._start()
        self.pidfd = os.pidfd_open(self._process.pid)

    @property
    def pid(self) -> int:
        """The zygote's process id."""
        return self._process.pid

    def replace(self) -> int:
        """Start a new zygote after the end of the last; returns the exit status of that."""
        self._process.kill()
        status = self._process.wait()
        os.close(self.pidfd)
        self._process = self._start()
        self.pidfd = os.pidfd_open(self._process.pid)
        return status

    def close(self) -> None:
        """End the zygote; its guests live on."""
        self._process.kill()
        self._process.wait()
        os.close(self.pidfd)
        self._listener.close()
        self.address.unlink(missing_ok=True)

    def _start(self) -> subprocess.Popen[bytes]:
        with ExitStack() as ours:
            us = os.pidfd_open(os.getpid())
            ours.callback(os.close, us)
            log = ours.enter_context(open(self._log, "ab", opener=_private))
            descriptors = (self._listener.fileno(), us)
            zygote = os.fspath(self.layer / _ZYGOTE)
            return subprocess.Popen(
                [trusted_interpreter(), "-I", "-S", "-B", zygote, *map(str, descriptors)],
                env=self._environment,
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd="/",
                umask=0o077,
                start_new_session=True,
            )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _listen(address: Path) -> socket.socket:
    """A listening socket at a path of any length; it takes the place of one that a dead owner left."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folder = os.open(address.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        aside = f"/proc/self/fd/{folder}/.{address.name}.{os.getpid()}"
        listener.bind(aside)
        os.chmod(aside, 0o600)
        os.replace(aside, address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(folder)
    listener.setblocking(False)
    return listener
