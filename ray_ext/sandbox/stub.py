"""The stub: the small process between a zygote and one guest, which binds the guest's life to its host's.

A guest that is forked from the zygote is not its host's child: the host could not wait for it, and the kernel would not
end it with the host. So a stub stands between: it is the guest's parent, ends the guest when the host's pidfd says that
the host has ended or when the host hangs up, and tells the host the guest's wait status. It outlives the zygote. When
it is killed itself, the kernel ends the guest (``PR_SET_PDEATHSIG``), and the host sees the connection close.

The conversation, over a connection that keeps message boundaries:

1. host: the guest's environment as JSON, with five descriptors: the host's pidfd, then the
   guest's channel, pulse page, stdout and stderr;
2. stub: its own and the guest's process id, with the guest's pidfd;
3. stub: the guest's exit status, or minus the signal that ended it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import NoReturn

from ray_ext.sandbox.bootstrap import Main, run

__all__ = ["BORN", "ENDED", "REQUEST_BYTES", "REQUEST_DESCRIPTORS", "live"]

REQUEST_BYTES = 1 << 16
REQUEST_DESCRIPTORS = 5
#: Process ids of the stub and the guest.
BORN = struct.Struct("=ii")
#: The guest's exit status, or minus the signal.
ENDED = struct.Struct("=i")

_REQUEST_S = 5.0


def live(connection: socket.socket, main: Main, not_ours: Iterable[int]) -> NoReturn:
    """The life of a stub, and, in its child, of a guest. ``not_ours`` are the zygote's descriptors."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in not_ours:
            os.close(descriptor)
        status = _serve(connection, main)
    except BaseException:  # noqa: BLE001 - whatever it is goes to the zygote's log; nobody is left to handle it
        sys.excepthook(*sys.exc_info())
    finally:
        # Never back into the zygote's loop, whatever happens.
        os._exit(status)


def _serve(connection: socket.socket, main: Main) -> int:
    connection.settimeout(_REQUEST_S)
    content, descriptors, _, _ = socket.recv_fds(connection, REQUEST_BYTES, REQUEST_DESCRIPTORS)
    if len(descriptors) != REQUEST_DESCRIPTORS:
        return 1
    connection.settimeout(None)
    host, *guests_ends = descriptors
    guest = os.fork()
    if guest == 0:
        connection.close()
        os.close(host)
        _become_guest(content, guests_ends, main)
    # From here on as little as can be: every object that is touched copies a page.
    name = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    os.write(name, b"stub")
    os.close(name)
    os.setsid()
    for descriptor in guests_ends:
        os.close(descriptor)
    pidfd = os.pidfd_open(guest)
    socket.send_fds(connection, [BORN.pack(os.getpid(), guest)], [pidfd])
    _await_end(connection, host, pidfd)
    status = os.waitstatus_to_exitcode(os.waitpid(guest, 0)[1])
    with suppress(OSError):  # the host is gone: nobody asks
        connection.send(ENDED.pack(status))
    return 0


def _await_end(connection: socket.socket, host: int, guest: int) -> None:
    waiting = select.poll()
    for descriptor in (connection.fileno(), host, guest):
        waiting.register(descriptor, select.POLLIN)
    ready = {descriptor for descriptor, _ in waiting.poll()}
    if ready != {guest}:
        # The host says nothing after its request: it hung up, or ended.
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(guest, signal.SIGKILL)


def _become_guest(environment: bytes, descriptors: list[int], main: Main) -> NoReturn:
    status = 1
    try:
        os.setsid()
        channel, pulse, stdout, stderr = descriptors
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.close(stdout)
        os.close(stderr)
        wanted = json.loads(environment)
        for name in os.environ.keys() - wanted.keys():
            del os.environ[name]
        os.environ.update(wanted)
        status = run(socket.socket(fileno=channel), pulse, main)
    except BaseException:  # noqa: BLE001 - as the interpreter would: to stderr, which the host reads
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)
