"""The zygote: ``python -I -S -B zygote.py LISTENER OWNER``, from its layer. Guests are forked from it.

It has imported what every guest imports, so that a guest starts in milliseconds and shares these pages with all others.
It reads nothing from anybody: for each connection it forks a stub (:mod:`ray_ext.sandbox.stub`), which serves that
connection. Arguments: the file descriptors of a listening socket and of its owner's pidfd; it ends with its owner.

One thread only, for a fork copies no other; and no secrets, for every guest inherits a copy of its memory.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import threading

#: What guests often import, beside asyncio: shared here, it costs each of them next to nothing.
_SHARED = (
    "base64",
    "dataclasses",
    "datetime",
    "hashlib",
    "hmac",
    "json",
    "pathlib",
    "re",
    "ssl",
    "urllib.parse",
    "uuid",
)

_STACK_BYTES = 2 << 20
_HANDSHAKES = 64


def _trust_layer() -> None:
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def _make_streams() -> None:
    """Streams for the guests, over whatever descriptors 1 and 2 will be: those that Python made for a log can seek."""
    log = os.dup(2)
    read_end, write_end = os.pipe()
    for descriptor in (1, 2):
        os.dup2(write_end, descriptor)
    sys.stdout = os.fdopen(1, "w", 1, "utf-8", "backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, "utf-8", "backslashreplace", closefd=False)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    for descriptor in (log, read_end, write_end):
        os.close(descriptor)


def _rehearse_handshake() -> None:
    """As :mod:`ray_ext.sdk.rehearsal` does for the rest of a guest's life."""
    from ray_ext.sandbox import handshake

    host, guest = socket.socketpair()
    with host, guest:
        for _ in range(_HANDSHAKES):
            handshake.send_policy(host, handshake.Policy("", 0, False, {"": 0}, 0, "", [("", 0)], ""))
            handshake.receive_policy(guest)
            handshake.send_ready(guest, handshake.Report([""]))
            handshake.receive_answer(host)


def serve(listener: socket.socket, owner: int) -> int:
    """Fork a stub for each connection until the owner ends; returns the exit status."""
    import importlib

    from ray_ext.sandbox import kernel, lockdown, stub  # noqa: F401 - lockdown is for the guests
    from ray_ext.sdk.guest import main
    from ray_ext.sdk.rehearsal import rehearse

    # The stack of the rehearsal's thread stays, for the first thread of each guest.
    threading.stack_size(_STACK_BYTES)
    for name in _SHARED:
        importlib.import_module(name)
    _make_streams()
    _rehearse_handshake()
    rehearse()
    if len(os.listdir("/proc/self/task")) != 1:
        raise RuntimeError("an import started a thread: what is forked from here would lack it")
    kernel.set_task_name("zygote")
    # Stubs are nobody's business once they run: the kernel reaps them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.collect()
    # A collection in a guest would write into every object's header, and so copy the pages.
    gc.freeze()
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    waiting.register(owner, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in waiting.poll()}
        if owner in ready:
            return 0
        try:
            connection, _ = listener.accept()
        except OSError:  # the host has gone again, or another zygote of this listener was faster
            continue
        if kernel.fork_bare() == 0:
            stub.live(connection, main, (listener.fileno(), owner))
        connection.close()


if __name__ == "__main__":
    _trust_layer()
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])))
