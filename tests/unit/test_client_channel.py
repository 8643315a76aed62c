"""The handle's half of a channel against a host whose Ray calls are lost on the way there or back."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import Future
from typing import Any

import msgspec
import pytest
import ray

from ray_ext.client.call import CallFuture
from ray_ext.client.channel import ClientChannel
from ray_ext.client.routebook import Target
from ray_ext.errors import OutcomeUnknown
from ray_ext.routing.channel import Channel
from ray_ext.routing.routes import Route
from ray_ext.wire.exchange import OK, ReplyItem, decode_exchange, encode_exchange_part

ROUTE = Route(
    extension="demo",
    version="1.0.0",
    generation=1,
    epoch=1,
    host="host/demo/1",
    is_trusted=False,
    payload_limit=1000,
    methods={"echo": False, "safe_echo": True},
)


class LossyHost:
    """Ray's place: runs the host's own channel state, and loses the exchanges it is told to."""

    def __init__(self, *losses: str) -> None:
        self.ran: Counter[int] = Counter()
        self._losses = list(losses)
        self._channel = Channel(0.0)

    @property
    def exchange(self) -> LossyHost:
        return self

    def remote(self, payload: bytes) -> LossyHost:
        loss = self._losses.pop(0) if self._losses else ""
        self._answer: Future[bytes] = Future()
        answer = b"" if loss in ("request", "dead") else self._take(payload)
        if loss == "dead":
            self._answer.set_exception(ray.exceptions.ActorDiedError())
        elif loss:
            self._answer.set_exception(ray.exceptions.ActorUnavailableError("lost on the way", b"\0" * 16))
        else:
            self._answer.set_result(answer)
        return self

    def future(self) -> Future[bytes]:
        return self._answer

    def _take(self, payload: bytes) -> bytes:
        exchange = decode_exchange(payload)
        if self._channel.admits(exchange.number, is_recovering=exchange.is_recovering):
            for number in exchange.received:
                self._channel.acknowledge(number)
            if exchange.is_recovering:
                self._channel.recover()
            for item in exchange.calls:
                if self._channel.is_new(item.id):
                    self.ran[item.id] += 1
                    (value,), _ = msgspec.msgpack.decode(item.body)
                    self._channel.post(ReplyItem(item.id, OK, 0, msgspec.msgpack.encode(value)))
        return encode_exchange_part(self._channel.take())


def _call(channel: ClientChannel, method: str, value: Any) -> CallFuture:
    call = CallFuture(asyncio.get_running_loop(), "demo", method, ((value,), {}), None, None)
    channel.add(call)
    return call


@pytest.mark.parametrize("losses", [["request"], ["answer"], ["answer", "answer"], ["request", "answer", "request"]])
async def test_a_call_whose_exchange_is_lost_gets_its_result_and_runs_once(losses: list[str]) -> None:
    host = LossyHost(*losses)
    channel = ClientChannel(asyncio.get_running_loop(), Target(ROUTE, host), lambda _, calls: None)
    async with asyncio.timeout(10):
        results = await asyncio.gather(*(_call(channel, "echo", number) for number in range(20)))
    assert results == list(range(20))
    assert set(host.ran.values()) == {1}
    assert len(host.ran) == 20


async def test_a_call_sent_to_a_host_that_died_is_unknown_and_an_idempotent_one_goes_on() -> None:
    taken_back: list[CallFuture] = []
    host = LossyHost("dead", "dead")
    channel = ClientChannel(asyncio.get_running_loop(), Target(ROUTE, host), lambda _, calls: taken_back.extend(calls))
    plain, safe = _call(channel, "echo", 1), _call(channel, "safe_echo", 2)
    async with asyncio.timeout(10):
        with pytest.raises(OutcomeUnknown):
            await plain
    assert taken_back == [safe]
    assert not safe.done()
