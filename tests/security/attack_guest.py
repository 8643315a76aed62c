"""The main loop of a guest under attack: takes the place of ``ray_ext.sdk.guest`` in a test layer.

Runs each source that it receives, in one namespace, and answers what came of it: ``["ok", repr]``,
``["errno", name]`` or ``["raised", type]``.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import socket
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(number: int, *arguments: int | bytes) -> int:
    """A raw system call."""
    words = [ctypes.c_char_p(a) if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *words)
    if result == -1:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return result


def _exactly(channel: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = channel.recv(size - len(parts))
        if not part:
            raise SystemExit(0)
        parts += part
    return parts


def _outcome(source: str, namespace: dict[str, object]) -> tuple[str, str]:
    try:
        exec(source, namespace)
    except OSError as error:
        return ("errno", errno.errorcode.get(error.errno or 0, str(error)))
    except Exception as error:  # noqa: BLE001 - whatever the attack raised is its outcome
        return ("raised", type(error).__name__)
    return ("ok", repr(namespace.get("result")))


def main(channel: socket.socket, pulse: mmap.mmap) -> int:
    """Serve sources until the host goes away."""
    namespace: dict[str, object] = {"call": call, "channel": channel, "pulse": pulse}
    while True:
        (size,) = struct.unpack("=I", _exactly(channel, 4))
        request = json.loads(_exactly(channel, size))
        namespace |= request["names"]
        answer = json.dumps(_outcome(request["source"], namespace)).encode()
        channel.sendall(struct.pack("=I", len(answer)) + answer)
