"""The ledger of one instance's calls: every call that is accepted gets exactly one outcome.

A call's life: *accepted* (it has a sequence and is on its way to the guest), *settled* (its caller has its outcome),
*finished* (the guest is done with it). Settling before finishing is what a deadline or a cancellation does: the caller
gets its answer at once, while the guest still counts as busy with the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ray_ext.errors import (
    ExtensionCrashed,
    ExtensionHung,
    OutcomeUnknown,
    Overloaded,
    PayloadTooLarge,
    ProtocolViolation,
    RayExtError,
)
from ray_ext.wire.exchange import FAILED, OK
from ray_ext.wire.messages import ErrorParts, encode_message

__all__ = ["CallLedger", "Counts", "Deliver", "Entry", "Limits", "failure_body"]

#: Hands a call's outcome to its caller: status, encoding, body (see :mod:`ray_ext.wire.exchange`).
Deliver = Callable[[int, int, bytes], None]

_UNSTARTED: dict[str, type[ExtensionCrashed]] = {"hung": ExtensionHung, "protocol-violation": ProtocolViolation}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one instance takes at the same time."""

    pending_calls: int = 4096
    pending_bytes: int = 256 * 1024 * 1024
    payload_bytes: int = 64 * 1024 * 1024

    @classmethod
    def for_memory(cls, memory_bytes: int) -> Limits:
        """The limits of a guest with this much memory: a payload may take a quarter of it, at most 64 MiB."""
        payload = max(64 * 1024, min(64 * 1024 * 1024, memory_bytes // 4))
        return cls(payload_bytes=payload, pending_bytes=max(4 * payload, 64 * 1024 * 1024))


@dataclass(slots=True)
class Counts:
    """How the calls of an instance ended. ``accepted`` = completed + failed + unknown + those still pending."""

    accepted: int = 0
    completed: int = 0
    failed: int = 0
    refused: int = 0
    unknown: int = 0


class Entry:
    """One accepted call."""

    __slots__ = ("deliver", "is_settled", "method", "on_settled", "sequence", "size")

    def __init__(self, sequence: int, method: str, size: int, deliver: Deliver) -> None:
        self.sequence = sequence
        self.method = method
        self.size = size
        self.deliver = deliver
        self.is_settled = False
        #: Called once when the call is settled (a timer's ``cancel``).
        self.on_settled: Callable[[], None] | None = None


class CallLedger:
    """Accepts, settles and finishes calls. Not thread-safe: it belongs to one event loop."""

    def __init__(self, extension: str, limits: Limits) -> None:
        self._extension = extension
        self.limits = limits
        self.counts = Counts()
        self._entries: dict[int, Entry] = {}
        self._bytes = 0
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    @property
    def pending_bytes(self) -> int:
        """The bytes of the arguments of the calls that are not finished."""
        return self._bytes

    def accept(self, method: str, size: int, deliver: Deliver) -> Entry:
        """Take a call in; raises :class:`Overloaded` or :class:`PayloadTooLarge`, and then nothing was started."""
        limits = self.limits
        if size > limits.payload_bytes:
            self.counts.refused += 1
            raise PayloadTooLarge(
                f"the arguments of {method} have {size} bytes; the limit is {limits.payload_bytes}",
                where=self._extension,
                fix="send less at a time, or raise resources.memory: the limit is a quarter of it, at most 64 MiB",
                details={"size_bytes": size, "limit_bytes": limits.payload_bytes, "which": "arguments"},
            )
        if len(self._entries) >= limits.pending_calls or self._bytes + size > limits.pending_bytes:
            self.counts.refused += 1
            raise Overloaded(
                f"{self._extension} has {len(self._entries)} calls pending ({self._bytes} bytes)",
                where=self._extension,
                fix="send fewer calls at once, or wait retry_after_s and try again",
                details={
                    "retry_after_s": 0.1,
                    "pending": len(self._entries),
                    "limit": limits.pending_calls,
                },
            )
        self._sequence += 1
        entry = Entry(self._sequence, method, size, deliver)
        self._entries[self._sequence] = entry
        self._bytes += size
        self.counts.accepted += 1
        return entry

    def get(self, sequence: int) -> Entry | None:
        """The unfinished call with this sequence."""
        return self._entries.get(sequence)

    def settle(self, entry: Entry, status: int, encoding: int, body: bytes) -> bool:
        """Give the call its outcome; False when it has one already."""
        if entry.is_settled:
            return False
        entry.is_settled = True
        if status == OK:
            self.counts.completed += 1
        else:
            self.counts.failed += 1
        if entry.on_settled is not None:
            entry.on_settled()
        entry.deliver(status, encoding, body)
        return True

    def fail(self, entry: Entry, error: RayExtError) -> bool:
        """Settle with an error."""
        return self.settle(entry, FAILED, 0, failure_body(error))

    def finish(self, sequence: int) -> Entry | None:
        """The guest is done with a call: forget it; None when the guest speaks of a call that there is not."""
        entry = self._entries.pop(sequence, None)
        if entry is not None:
            self._bytes -= entry.size
        return entry

    def lose(self, started: int, cause: str, kind: str = "crashed") -> tuple[int, int]:
        """The guest is gone. ``started`` is the highest sequence that may have begun to run.

        Unsettled calls end as :class:`OutcomeUnknown` or, by the ``kind`` of the guest's end, as
        :class:`ExtensionCrashed`, ExtensionHung or ProtocolViolation; returns how many of both sorts.
        """
        unknown = unstarted = 0
        for entry in self:
            self.finish(entry.sequence)
            if entry.is_settled:
                continue
            if entry.sequence <= started:
                unknown += 1
                self.fail(
                    entry,
                    OutcomeUnknown(
                        f"{self._extension}.{entry.method} had started when its guest was lost ({cause}); it may have "
                        "run",
                        where=self._extension,
                        fix="check its effect before sending it again; mark the method idempotent to have that done",
                        details={"cause": cause, "exit": kind},
                    ),
                )
            else:
                unstarted += 1
                self.fail(
                    entry,
                    _UNSTARTED.get(kind, ExtensionCrashed)(
                        f"{self._extension} ended ({cause}) before it started {entry.method}",
                        where=self._extension,
                        fix="the call did not run: send it again",
                        details={"cause": cause, "exit": kind},
                    ),
                )
        self.counts.failed -= unknown
        self.counts.unknown += unknown
        return unknown, unstarted


def failure_body(error: RayExtError) -> bytes:
    """The body of a ``FAILED`` reply."""
    return encode_message(ErrorParts.of(error))
