"""One awaitable call: the future that a handle's method returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray_ext.errors import ArgumentNotSerialisable, DeadlineExceeded
from ray_ext.wire import values

if TYPE_CHECKING:
    from ray_ext.calling.channel import ClientChannel

__all__ = ["CallFuture"]

#: What a host gets beyond the deadline to answer, before its caller gives up by itself, in seconds.
_GRACE_S = 2.0


class CallFuture(asyncio.Future[Any]):
    """A call on its way. Cancelling it cancels the running method."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        method: str,
        arguments: tuple[tuple[object, ...], dict[str, object]],
        timeout_s: float | None,
        decode: Callable[[bytes], Any] | None,
    ) -> None:
        super().__init__(loop=loop)
        self.name = name
        self.method = method
        self.id = 0
        self.channel: ClientChannel | None = None
        self.attempts = 0
        self.encoding = values.MSGPACK
        self.body = b""
        self._arguments: tuple[tuple[object, ...], dict[str, object]] | None = None
        self._decode = decode
        self._timeout_s = timeout_s
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        try:
            self.encoding, self.body = values.encode_arguments(*arguments)
        except ArgumentNotSerialisable as error:
            # Whether pickling is an option is known with the route.
            self._arguments, self._refusal = arguments, error
        if timeout_s is not None:
            self._deadline = loop.time() + timeout_s
            self._timer = loop.call_later(max(timeout_s, 0.0), self._on_deadline)

    @property
    def remaining_s(self) -> float | None:
        """The time that is left, in seconds; None without a deadline."""
        return None if self._deadline is None else self._deadline - self.get_loop().time()

    def make_sendable(self, *, is_trusted: bool) -> bool:
        """Whether the call can be sent on this route; if not, it has failed."""
        if self._arguments is None:
            return True
        try:
            if not is_trusted:
                raise self._refusal
            from ray import cloudpickle

            self.encoding, self.body = values.encode_arguments(*self._arguments, pickler=cloudpickle.dumps)
        except ArgumentNotSerialisable as error:
            self.fail(error)
            return False
        self._arguments = None
        return True

    def succeed(self, encoding: int, body: bytes) -> None:
        """The call's result has arrived."""
        if self.done():
            return
        self._settle()
        try:
            if self._decode is not None and encoding == values.MSGPACK:
                result = self._decode(body)
            else:
                result = values.decode_value(body, encoding)
        except Exception as error:  # noqa: BLE001 - a result that does not fit result_type belongs to the awaiting caller
            self.set_exception(error)
        else:
            self.set_result(result)

    def fail(self, error: Exception) -> None:
        """The call's error has arrived."""
        if not self.done():
            self._settle()
            self.set_exception(error)

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the call, also where it runs."""
        is_cancelled = super().cancel(msg)
        if is_cancelled:
            self._settle()
            if self.channel is not None:
                self.channel.cancel(self)
        return is_cancelled

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_deadline(self) -> None:
        if self.done():
            return
        if self.channel is not None and self._timer is not None and self.remaining_s is not None:
            channel, is_first = self.channel, self.remaining_s > -_GRACE_S / 2
            if is_first:
                self._timer = self.get_loop().call_later(_GRACE_S, self._on_deadline)
                return
            channel.cancel(self)
        self.fail(
            DeadlineExceeded(
                f"{self.name}.{self.method} was not done within {self._timeout_s:g} s",
                where=self.name,
                fix="give it more time with .options(timeout_s=…), or see with `ray-ext status` why it does not run",
                details={"timeout_s": self._timeout_s, "started": self.channel is not None},
            )
        )
