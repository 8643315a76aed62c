"""What a host and its guest say to each other while the guest starts; runs on both sides.

1. host: the :class:`Policy`, as JSON after its length;
2. guest: ``R`` and a report, when it is locked down, or ``F`` and a failure; both JSON after its length;
3. host: ``G``, when it has verified the guest from outside. Whatever follows belongs to the guest's main loop.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, Final, NamedTuple

__all__ = [
    "Failure",
    "Policy",
    "Report",
    "await_go",
    "receive_answer",
    "receive_policy",
    "send_failure",
    "send_go",
    "send_policy",
    "send_ready",
]

_LENGTH: Final = struct.Struct("=I")
_LIMIT_BYTES: Final = 1 << 20
_READY: Final = b"R"
_FAILED: Final = b"F"
_GO: Final = b"G"


class Policy(NamedTuple):
    """All that a guest needs to lock itself down; the host decides, the guest applies."""

    extension: str
    parent_pid: int
    is_privileged: bool
    """Whether the host holds CAP_SETPCAP: then the guest empties its bounding set and locks its securebits, too."""
    limits: dict[str, int]
    """Resource limits by their names in the ``resource`` module."""
    thread_stack_bytes: int
    ruleset: str
    """``struct landlock_ruleset_attr``, in hex."""
    rules: list[tuple[str, int]]
    """Paths and the Landlock rights beneath them."""
    filter: str
    """The seccomp filter, in hex."""


class Report(NamedTuple):
    """What the guest says of itself when it is locked down."""

    steps: list[str]


class Failure(NamedTuple):
    """Why a guest did not get ready. ``is_isolation``: it could not lock itself down; else it could not load."""

    step: str
    cause: str
    is_isolation: bool


def send_policy(channel: socket.socket, policy: Policy) -> None:
    """Host: step 1."""
    _send(channel, b"", policy._asdict())


def receive_policy(channel: socket.socket) -> Policy:
    """Guest: step 1."""
    return Policy(**_receive(channel))


def send_ready(channel: socket.socket, report: Report) -> None:
    """Guest: step 2, locked down."""
    _send(channel, _READY, report._asdict())


def send_failure(channel: socket.socket, failure: Failure) -> None:
    """Guest: step 2, not locked down."""
    _send(channel, _FAILED, failure._asdict())


def receive_answer(channel: socket.socket) -> Report | Failure:
    """Host: step 2. Raises EOFError when the guest ended without an answer, ValueError when the answer is none."""
    kind = _exactly(channel, 1)
    if kind not in (_READY, _FAILED):
        raise ValueError(f"neither ready nor failed: {kind!r}")
    content = _receive(channel)
    try:
        return Report(**content) if kind == _READY else Failure(**content)
    except TypeError as error:
        raise ValueError(str(error)) from error


def send_go(channel: socket.socket) -> None:
    """Host: step 3."""
    channel.sendall(_GO)


def await_go(channel: socket.socket) -> None:
    """Guest: step 3."""
    if _exactly(channel, 1) != _GO:
        raise ValueError("the host did not say go")


def _send(channel: socket.socket, kind: bytes, content: object) -> None:
    body = json.dumps(content).encode()
    channel.sendall(kind + _LENGTH.pack(len(body)) + body)


def _receive(channel: socket.socket) -> Any:
    (length,) = _LENGTH.unpack(_exactly(channel, _LENGTH.size))
    if length > _LIMIT_BYTES:
        raise ValueError(f"a message of {length} bytes; the limit is {_LIMIT_BYTES}")
    content = json.loads(_exactly(channel, length))
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def _exactly(channel: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = channel.recv(size - len(parts))
        if not part:
            raise EOFError("the other end closed the channel")
        parts += part
    return bytes(parts)
