"""The host actor: owns one instance, named ``host/<id>/<generation>``.

A thin shell. The data methods (``exchange``, ``invoke``) run in the default concurrency group, whose event loop also
carries the guest; the control methods run in a group of their own and hand over to that loop, so that they never wait
behind calls.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import ray

from ray_ext.actors.instance import Instance
from ray_ext.actors.spec import Exit, InstanceSpec
from ray_ext.calling.names import CONTROL
from ray_ext.control.views import InstanceStatus
from ray_ext.errors import ExtensionCrashed, RayExtError
from ray_ext.routing.channel import RETENTION_S, Channel
from ray_ext.routing.ledger import failure_body
from ray_ext.sandbox.kernel import trim_heap
from ray_ext.wire import values
from ray_ext.wire.exchange import (
    FAILED,
    GONE,
    OK,
    CallItem,
    Exchange,
    ReplyItem,
    decode_call,
    decode_exchange,
    encode_exchange_part,
)
from ray_ext.wire.messages import ExportedMethod, decode_error

__all__ = ["MAX_CONCURRENCY", "Host", "Reply"]

#: Ray admits this many calls at once; above the ledger's own limit, so that overload is answered and not queued.
MAX_CONCURRENCY = 10_000
#: How long an exchange waits for a reply before it returns empty, in seconds.
_POLL_S = 20.0

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def _control(method: F) -> F:
    """Put an actor's method into the control concurrency group."""
    marked: F = ray.method(concurrency_group=CONTROL)(method)
    return marked


class Reply:
    """What ``.remote()`` returns: it decodes itself where it is unpickled, so that ``ray.get`` yields the value."""

    __slots__ = ("_body", "_encoding")

    def __init__(self, body: bytes, encoding: int) -> None:
        self._body = body
        self._encoding = encoding

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[bytes, int]]:
        return values.decode_value, (self._body, self._encoding)


class Host:
    """The actor class; :func:`ray.remote` is applied by the registry, which also declares its resources."""

    def __init__(self) -> None:
        self._instance: Instance | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channels: dict[bytes, _LiveChannel] = {}

    async def open(self, spec: InstanceSpec) -> list[ExportedMethod]:
        """Start the instance; returns what it exports. Called once, before any other but ``ping``."""
        self._loop = asyncio.get_running_loop()
        self._instance = instance = Instance(spec)
        await instance.start()
        self._loop.call_later(RETENTION_S, self._drop_idle_channels)
        gc.collect()
        gc.freeze()
        # What starting took is not needed again.
        trim_heap()
        return list(instance.methods.values())

    # ---- data

    async def exchange(self, payload: bytes) -> bytes:
        """One exchange of a channel: takes calls in, waits until something is ready, returns it."""
        exchange = decode_exchange(payload)
        live = self._channels.get(exchange.channel)
        if live is None:
            assert self._instance is not None
            live = self._channels[exchange.channel] = _LiveChannel(self._instance)
        return await live.exchange(exchange)

    async def invoke(self, payload: bytes) -> Reply | bytes:
        """One call by ``.remote()``: an encoded :class:`CallItem`, as one argument because each costs Ray time."""
        return await self._invoke(decode_call(payload))

    async def _invoke(self, call: CallItem) -> Reply | bytes:
        instance = self._instance
        assert instance is not None
        if instance.exit.done() or instance.is_stopping:
            raise _gone(instance)
        outcome: asyncio.Future[Reply | bytes] = asyncio.get_running_loop().create_future()
        entry = instance.submit(call.method, call.timeout_s, call.encoding, call.body, partial(_resolve, outcome))
        if len(instance.ledger) == 1:
            # Nothing else could share the write.
            instance.flush()
        try:
            return await outcome
        except asyncio.CancelledError:
            instance.cancel(entry)
            raise

    async def invoke_with_refs(self, payload: bytes, places: list[int | str], *resolved: Any) -> Reply | bytes:
        """The same where some arguments are ObjectRefs, which Ray has resolved into ``resolved``."""
        call = decode_call(payload)
        args, kwargs = values.decode_value(call.body, call.encoding)
        for place, value in zip(places, resolved, strict=True):
            if isinstance(place, int):
                args[place] = value
            else:
                kwargs[place] = value
        pickler = ray.cloudpickle.dumps if self._instance is not None and self._instance.spec.is_trusted else None
        encoding, body = values.encode_arguments(tuple(args), kwargs, pickler=pickler)
        return await self._invoke(CallItem(0, call.method, call.timeout_s, encoding, body))

    # ---- control

    @_control
    async def status(self) -> InstanceStatus:
        """The instance's figures."""
        return await self._on_data_loop(self._status)

    @_control
    async def wait_exit(self) -> Exit:
        """Returns when the guest is gone, with the reason."""
        return await self._on_data_loop(self._wait_exit)

    @_control
    async def stop(self, grace_s: float) -> Exit:
        """End the instance in order."""
        return await self._on_data_loop(partial(self._stop, grace_s))

    @_control
    async def ping(self) -> list[ExportedMethod] | None:
        """What the instance exports; None while it is not loaded."""
        instance = self._instance
        return list(instance.methods.values()) if instance is not None and instance.methods else None

    async def _on_data_loop(self, work: Callable[[], Awaitable[T]]) -> T:
        loop = self._loop
        if loop is None:
            raise ExtensionCrashed("the host has not started its instance", fix="load the extension first")

        async def run() -> T:
            return await work()

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), loop))

    async def _status(self) -> InstanceStatus:
        assert self._instance is not None
        return self._instance.status()

    async def _wait_exit(self) -> Exit:
        assert self._instance is not None
        return await asyncio.shield(self._instance.exit)

    async def _stop(self, grace_s: float) -> Exit:
        assert self._instance is not None
        return await self._instance.stop(grace_s)

    def _drop_idle_channels(self) -> None:
        assert self._loop is not None
        now = self._loop.time()
        for key, live in list(self._channels.items()):
            if live.state.is_expired(now):
                del self._channels[key]
        self._loop.call_later(RETENTION_S / 4, self._drop_idle_channels)


class _LiveChannel:
    """A channel with its parked exchange."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._loop = asyncio.get_running_loop()
        self.state = Channel(self._loop.time())
        self._parked: asyncio.Future[None] | None = None
        self._is_release_due = False

    async def exchange(self, exchange: Exchange) -> bytes:
        state = self.state
        state.last_used = self._loop.time()
        if state.admits(exchange.number, is_recovering=exchange.is_recovering):
            for number in exchange.received:
                state.acknowledge(number)
            if exchange.is_recovering:
                state.recover()
            for call_id in exchange.cancels:
                sequence = state.pending.get(call_id)
                if sequence is not None:
                    self._instance.cancel_sequence(sequence)
            for item in exchange.calls:
                if state.is_new(item.id):
                    self._accept(item)
            self._instance.flush()
        if not state.has_replies and state.pending:
            await self._park()
        return encode_exchange_part(state.take())

    def _accept(self, item: CallItem) -> None:
        call_id = item.id
        instance = self._instance
        if instance.exit.done() or instance.is_stopping:
            self._post(call_id, GONE, 0, b"")
            return
        try:
            entry = instance.submit(item.method, item.timeout_s, item.encoding, item.body, partial(self._post, call_id))
        except RayExtError as error:
            self._post(call_id, FAILED, 0, failure_body(error))
            return
        self.state.pending[call_id] = entry.sequence

    def _post(self, call_id: int, status: int, encoding: int, body: bytes) -> None:
        self.state.post(ReplyItem(call_id, status, encoding, body))
        if self._parked is not None and not self._is_release_due:
            # What the same read of the guest's socket brings comes along.
            self._is_release_due = True
            self._instance.after_read.append(self._release)
            self._loop.call_soon(self._release_if_due)

    def _release(self) -> None:
        self._is_release_due = False
        parked, self._parked = self._parked, None
        if parked is not None and not parked.done():
            parked.set_result(None)

    def _release_if_due(self) -> None:
        # A deadline or a cancellation settles calls outside of any read.
        if self._is_release_due:
            self._release()

    async def _park(self) -> None:
        self._release()
        parked = self._parked = self._loop.create_future()
        timer = self._loop.call_later(_POLL_S, self._release_if, parked)
        try:
            await parked
        finally:
            timer.cancel()

    def _release_if(self, parked: asyncio.Future[None]) -> None:
        if self._parked is parked:
            self._release()


def _resolve(outcome: asyncio.Future[Reply | bytes], status: int, encoding: int, body: bytes) -> None:
    if outcome.done():
        return
    if status == OK:
        # Ray sends bytes as they are, where a Reply has to be pickled.
        plain = values.bytes_alone(body) if encoding == values.MSGPACK else None
        outcome.set_result(Reply(body, encoding) if plain is None else plain)
    else:
        outcome.set_exception(decode_error(body).to_error())


def _gone(instance: Instance) -> ExtensionCrashed:
    cause = instance.exit.result().cause if instance.exit.done() else "it is being unloaded"
    return ExtensionCrashed(
        f"{instance.id} generation {instance.spec.generation} takes no calls ({cause}); the call did not run",
        where=instance.id,
        fix="send it again: the next generation takes it",
        details={"cause": cause},
    )
