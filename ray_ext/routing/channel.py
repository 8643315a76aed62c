"""The host's half of a channel: replies that wait, answers that are not acknowledged yet, ids that were seen.

A channel makes sending idempotent. The handle's process may send a call again after it lost contact: the host runs it
once, and keeps the reply until an exchange acknowledges the answer that carried it, or :data:`RETENTION_S` passed.
"""

from __future__ import annotations

from collections import deque
from itertools import count

from ray_ext.wire.exchange import Answer, ReplyItem

__all__ = ["ALONE_BYTES", "RETENTION_S", "Channel"]

#: How long a host keeps replies that nobody acknowledged, in seconds since their channel's last exchange (design §7).
RETENTION_S = 60.0
#: A body above this travels alone, in bytes (design §7).
ALONE_BYTES = 64 * 1024
#: The replies of one answer together stay below this, in bytes: Ray puts larger results into its object store.
_ANSWER_BYTES = 96 * 1024
#: No host uses a number twice: what acknowledges an answer of a forgotten channel says nothing about its successor.
_answer_numbers = count(1)


class Channel:
    """The state of one channel; times are seconds of any monotonic clock, given by the caller."""

    def __init__(self, now: float) -> None:
        self._ready: deque[ReplyItem] = deque()
        self._unacknowledged: dict[int, list[ReplyItem]] = {}
        self._known: set[int] = set()
        self._floor = 0
        self.last_used = now
        #: Sequences of the calls that wait for their reply, by id.
        self.pending: dict[int, int] = {}

    @property
    def has_replies(self) -> bool:
        """Whether an answer would carry something."""
        return bool(self._ready)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is pending, ready or unacknowledged."""
        return not (self.pending or self._ready or self._unacknowledged)

    def is_expired(self, now: float) -> bool:
        """Whether the host may forget the channel: nobody used it for :data:`RETENTION_S`, and nothing is pending."""
        return now - self.last_used >= RETENTION_S and not self.pending

    def admits(self, number: int, *, is_recovering: bool) -> bool:
        """Whether the exchange ``number`` counts.

        A recovering exchange repeats every call without an outcome, so any older exchange that arrives after it (Ray
        may deliver what it reported as failed) must not count: its calls could have been acknowledged meanwhile.
        """
        if is_recovering:
            self._floor = max(self._floor, number)
        return number >= self._floor

    def is_new(self, call_id: int) -> bool:
        """Whether this id has not been sent on this channel; from now on it has."""
        if call_id in self._known:
            return False
        self._known.add(call_id)
        return True

    def post(self, reply: ReplyItem) -> None:
        """A call has its outcome."""
        self.pending.pop(reply.id, None)
        self._ready.append(reply)

    def take(self) -> Answer:
        """The next answer: every ready reply, but a large body alone."""
        ready = self._ready
        if not ready:
            return Answer(0, [])
        replies: list[ReplyItem] = []
        size = 0
        while ready:
            next_size = len(ready[0].body)
            if replies and (next_size > ALONE_BYTES or size + next_size > _ANSWER_BYTES):
                break
            replies.append(ready.popleft())
            size += next_size
            if next_size > ALONE_BYTES:
                break
        number = next(_answer_numbers)
        self._unacknowledged[number] = replies
        return Answer(number, replies)

    def acknowledge(self, number: int) -> None:
        """The handle's process has this answer."""
        for reply in self._unacknowledged.pop(number, ()):
            self._known.discard(reply.id)

    def recover(self) -> None:
        """Make every unacknowledged reply ready again."""
        for number in sorted(self._unacknowledged):
            self._ready.extend(self._unacknowledged.pop(number))
