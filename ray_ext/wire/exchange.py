"""What travels on a channel between a handle's process and a host, inside Ray calls.

Each Ray call of a channel carries an :class:`Exchange` to the host and an :class:`Answer` back. A call is known by its
``id``, which its handle's process never uses twice on a channel; sending the same id again is harmless: the host runs
a call once and keeps its reply until it is acknowledged.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder

__all__ = [
    "FAILED",
    "GONE",
    "OK",
    "Answer",
    "CallItem",
    "Exchange",
    "ReplyItem",
    "decode_answer",
    "decode_call",
    "decode_exchange",
    "encode_exchange_part",
]

#: ``ReplyItem.status``: the body is the result …
OK = 0
#: … or a :class:`ray_ext.wire.messages.ErrorParts` …
FAILED = 1
#: … or nothing: this host does not take the call (it never started here); ask for a newer route.
GONE = 2


class CallItem(Struct, frozen=True, array_like=True, gc=False):
    """A call. ``timeout_s`` is the time that is left for it, not a wall-clock time; None is no limit."""

    id: int
    method: str
    timeout_s: float | None
    encoding: int
    body: bytes


class ReplyItem(Struct, frozen=True, array_like=True, gc=False):
    """The one outcome of a call."""

    id: int
    status: int
    encoding: int
    body: bytes


class Exchange(Struct, frozen=True, array_like=True):
    """Towards the host: which channel, new calls, the numbers of the answers received, calls to cancel.

    ``number`` grows with each exchange of the channel. ``is_recovering`` asks for every unacknowledged reply again,
    after an answer may have been lost; such an exchange repeats every call that has no outcome yet.
    """

    channel: bytes
    number: int
    calls: list[CallItem]
    received: list[int]
    cancels: list[int]
    is_recovering: bool = False


class Answer(Struct, frozen=True, array_like=True):
    """From the host: whatever is ready. ``number`` grows with each answer that carries replies; 0 carries none."""

    number: int
    replies: list[ReplyItem]


encode_exchange_part = Encoder().encode
decode_call = Decoder(CallItem).decode
decode_exchange = Decoder(Exchange).decode
decode_answer = Decoder(Answer).decode
