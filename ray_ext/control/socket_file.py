"""The control API's Unix socket: where it is, how it is bound, how it is reached.

An address in the file system has at most 107 bytes and a state home may lie deeper. Both sides therefore go through the
folder's descriptor, ``/proc/self/fd/<descriptor>/control.sock``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["SOCKET_NAME", "bind_socket", "connect_socket", "socket_path"]

SOCKET_NAME = "control.sock"
_BACKLOG = 512


def socket_path(run: Path) -> Path:
    """Where the socket is, for people; programs use :func:`connect_socket`."""
    return run / SOCKET_NAME


def bind_socket(run: Path) -> socket.socket:
    """A listening socket that its owner alone can connect to, in the folder ``run``, which exists.

    Takes the place of an earlier socket in one step, whether anybody still serves that or not: a client either reaches
    the earlier one or this one, and never finds none.
    """
    import secrets  # its import takes 5 ms, which clients shall not pay

    temporary = f".{SOCKET_NAME}.{os.getpid()}.{secrets.token_hex(4)}"
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with _folder(run) as (descriptor, address):
            listening.bind(f"{address}/{temporary}")
            try:
                # Nobody is let in before listen(), and by then the rights are right whatever the umask was.
                os.chmod(temporary, 0o600, dir_fd=descriptor)
                listening.listen(_BACKLOG)
                os.rename(temporary, SOCKET_NAME, src_dir_fd=descriptor, dst_dir_fd=descriptor)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=descriptor)
                raise
    except BaseException:
        listening.close()
        raise
    return listening


def connect_socket(run: Path, timeout_s: float) -> socket.socket:
    """A connected socket whose operations end after ``timeout_s`` seconds.

    Raises OSError: FileNotFoundError where no runtime has been, ConnectionRefusedError where none is any more.
    """
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connected.settimeout(timeout_s)
        with _folder(run) as (_, address):
            connected.connect(f"{address}/{SOCKET_NAME}")
    except BaseException:
        connected.close()
        raise
    return connected


@contextmanager
def _folder(run: Path) -> Iterator[tuple[int, str]]:
    descriptor = os.open(run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor, f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
