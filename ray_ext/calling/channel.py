"""The handle's half of a channel: calls go out in few Ray calls, replies come back as they are ready.

At most two exchanges are under way: one that the host keeps until something is ready, and one that brings new calls.
What is called while both are under way goes with the next one, so calls coalesce as much as the machine is busy.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol

import ray

from ray_ext.calling.call import CallFuture
from ray_ext.calling.routebook import Target
from ray_ext.errors import OutcomeUnknown, PayloadTooLarge, RayExtError
from ray_ext.routing.channel import ALONE_BYTES
from ray_ext.wire.exchange import GONE, OK, CallItem, Exchange, decode_answer, encode_exchange_part
from ray_ext.wire.messages import decode_error

__all__ = ["ClientChannel", "Requeue"]

_EXCHANGES = 2
#: After this time without contact the outcome of what was sent is unknown, in seconds: below the host's retention.
_CONTACT_S = 45.0
_BATCH_BYTES = 512 * 1024
_RECOVERY_PAUSE_S = 0.2
#: Nobody knows what arrived. An exchange is cancelled along with the task that happened to send it (``ray.cancel`` is
#: recursive), but carries the calls of others, too.
_LOSSES = (ray.exceptions.ActorUnavailableError, ray.exceptions.TaskCancelledError)
_RETRIABLE = frozenset({"outcome-unknown", "extension-crashed", "extension-hung", "protocol-violation"})


class Requeue(Protocol):
    """Takes calls back that did not run here, to send them on the next route."""

    def __call__(self, generation: int, calls: list[CallFuture]) -> None:
        """``generation`` is the one that did not take them."""


class ClientChannel:
    """A channel to one host; belongs to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: Target, requeue: Requeue) -> None:
        self.route = target.route
        self.is_gone = False
        self._loop = loop
        self._actor = target.actor
        self._requeue = requeue
        self._key = os.urandom(16)
        self._outbox: list[CallFuture] = []
        self._pending: dict[int, CallFuture] = {}
        self._received: list[int] = []
        self._cancels: list[int] = []
        self._outstanding = 0
        self._number = 0
        self._next_id = 0
        self._is_flush_due = False
        #: When the latest exchange was sent of those that the host is known to have got.
        self._contact_at = loop.time()
        self._loss: BaseException | None = None

    def add(self, call: CallFuture) -> None:
        """Send a call with the next exchange."""
        if not call.make_sendable(is_trusted=self.route.is_trusted):
            return
        if len(call.body) > self.route.payload_limit:
            call.fail(self._too_large(call))
            return
        call.channel = self
        self._outbox.append(call)
        if not self._pending and not self._outstanding:
            # Nothing is under way that this call could share an exchange with.
            self._flush()
            return
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def cancel(self, call: CallFuture) -> None:
        """The caller does not want the call any more."""
        call.channel = None
        if self._pending.pop(call.id, None) is not None:
            self._cancels.append(call.id)
            self._flush_soon()

    # ---- exchanges

    def _flush_soon(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if self._loss is not None:
            return
        while self._outstanding < _EXCHANGES and (
            self._outbox or self._cancels or (self._pending and not self._outstanding)
        ):
            self._send(self._next_calls(), is_recovering=False)

    def _next_calls(self) -> list[CallFuture]:
        """From the outbox: as many as one exchange takes; a large body alone."""
        calls: list[CallFuture] = []
        size = 0
        for position, call in enumerate(self._outbox):
            size += len(call.body)
            if calls and (len(call.body) > ALONE_BYTES or size > _BATCH_BYTES):
                del self._outbox[:position]
                return calls
            if not call.done():
                calls.append(call)
                if len(call.body) > ALONE_BYTES:
                    del self._outbox[: position + 1]
                    return calls
        self._outbox.clear()
        return calls

    def _send(self, calls: list[CallFuture], *, is_recovering: bool) -> None:
        pending, items, sent_at = self._pending, [], self._loop.time()
        if not pending:
            # Nothing that the host has forgotten meanwhile could be asked for.
            self._contact_at = sent_at
        for call in calls:
            if not is_recovering:
                self._next_id += 1
                call.id = self._next_id
                pending[call.id] = call
            items.append(CallItem(call.id, call.method, call.remaining_s, call.encoding, call.body))
        self._number += 1
        exchange = Exchange(self._key, self._number, items, self._received, self._cancels, is_recovering)
        payload = encode_exchange_part(exchange)
        self._received, self._cancels = [], []
        self._outstanding += 1
        answer: Future[Any] = self._actor.exchange.remote(payload).future()
        answer.add_done_callback(partial(self._hand_over, exchange, sent_at))

    def _hand_over(self, exchange: Exchange, sent_at: float, answer: Future[Any]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._on_answer, exchange, sent_at, answer)
        except RuntimeError:
            # The loop was closed: its callers are gone with it.
            answer.exception()

    def _on_answer(self, exchange: Exchange, sent_at: float, future: Future[Any]) -> None:
        self._outstanding -= 1
        error = future.exception()
        if error is not None:
            self._received += exchange.received
            self._cancels += exchange.cancels
            self._on_failure(error)
            return
        self._contact_at = max(self._contact_at, sent_at)
        answer = decode_answer(future.result())
        if answer.number:
            self._received.append(answer.number)
        refused: list[CallFuture] = []
        for reply in answer.replies:
            call = self._pending.pop(reply.id, None)
            if call is None:
                continue
            if reply.status == OK:
                call.succeed(reply.encoding, reply.body)
            elif reply.status == GONE:
                refused.append(call)
            else:
                self._on_error(call, decode_error(reply.body).to_error(), refused)
        if refused:
            self._give_back(refused)
        if self._loss is not None:
            self._recover_soon()
        else:
            self._flush_soon()

    def _on_error(self, call: CallFuture, error: RayExtError, refused: list[CallFuture]) -> None:
        if error.code in _RETRIABLE and self._may_retry(call):
            refused.append(call)
        else:
            call.fail(error)

    def _may_retry(self, call: CallFuture) -> bool:
        return self.route.methods.get(call.method, False) and call.attempts < 5

    def _give_back(self, calls: list[CallFuture]) -> None:
        """This host takes no calls any more: these, and what was not sent yet, go to the next one.

        What it took before is still asked for here.
        """
        self.is_gone = True
        calls += self._outbox
        self._outbox = []
        for call in calls:
            call.channel = None
            call.attempts += 1
        self._requeue(self.route.generation, calls)

    # ---- lost contact

    def _on_failure(self, error: BaseException) -> None:
        if isinstance(error, _LOSSES):
            self._loss = error
            self._recover_soon()
        else:
            self._give_up(error)

    def _recover_soon(self) -> None:
        if not self._outstanding:
            self._loop.call_later(_RECOVERY_PAUSE_S, self._recover)

    def _recover(self) -> None:
        """Repeat everything that has no outcome, while the host knows what it has run: it runs nothing twice."""
        loss = self._loss
        if loss is None or self._outstanding:
            return
        if self._loop.time() - self._contact_at >= _CONTACT_S:
            self._give_up(loss)
            return
        self._loss = None
        self._send(list(self._pending.values()), is_recovering=True)

    def _give_up(self, loss: BaseException) -> None:
        cause = str(loss).strip().partition("\n")[0][:300]
        pending, self._pending = self._pending, {}
        refused: list[CallFuture] = []
        for call in pending.values():
            self._on_error(call, self._unknown(call, cause), refused)
        self._give_back(refused)

    def _unknown(self, call: CallFuture, cause: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{self.route.extension}.{call.method} had been sent when its host was lost; it may have run",
            where=f"{self.route.host}: {cause}",
            fix="check its effect before sending it again; mark the method idempotent to have that done",
            details={"cause": cause, "call_id": f"{self._key.hex()}:{call.id}"},
        )

    def _too_large(self, call: CallFuture) -> PayloadTooLarge:
        limit = self.route.payload_limit
        return PayloadTooLarge(
            f"the arguments of {self.route.extension}.{call.method} have {len(call.body)} bytes; the limit is {limit}",
            where=self.route.extension,
            fix="send less at a time, or raise resources.memory: the limit is a quarter of it, at most 64 MiB",
            details={"size_bytes": len(call.body), "limit_bytes": limit, "which": "arguments"},
        )
