"""The handle's half of a channel against a host whose Ray calls are lost on the way there or back.

Time travels: whenever nothing is left to do, it jumps to the next timer.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import wraps
from typing import Any

import msgspec
import pytest
import ray

from ray_ext.calling.call import CallFuture
from ray_ext.calling.channel import ClientChannel
from ray_ext.calling.routebook import Target
from ray_ext.errors import OutcomeUnknown
from ray_ext.routing.channel import Channel
from ray_ext.routing.routes import Route
from ray_ext.wire.exchange import GONE, OK, Answer, ReplyItem, decode_exchange, encode_exchange_part

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


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting it sets the clock forward."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing will ever happen any more"
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready


class _JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = _JumpingSelector()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def _jumping_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(**arguments: object) -> None:
        with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
            runner.run(test(**arguments))

    return run


class LossyHost:
    """Ray's place: runs the host's own channel state, and loses the exchanges it is told to.

    Each loss is detected after a time: "request 10" never arrives, and Ray says so after 10 s.
    """

    def __init__(self, *losses: str) -> None:
        self.ran: Counter[int] = Counter()
        self.sent_at: list[float] = []
        self._losses = list(losses)
        self._loop = asyncio.get_running_loop()
        self._channel = Channel(self._loop.time())

    @property
    def exchange(self) -> LossyHost:
        return self

    def remote(self, payload: bytes) -> LossyHost:
        self.sent_at.append(self._loop.time())
        loss, _, detected_after_s = (self._losses.pop(0) if self._losses else "").partition(" ")
        self._answer: Future[bytes] = Future()
        answer = b"" if loss in ("request", "dead") else self._take(payload)
        if not loss:
            self._answer.set_result(answer)
        else:
            self._loop.call_later(float(detected_after_s or 0), self._answer.set_exception, _ERRORS[loss]())
        return self

    def future(self) -> Future[bytes]:
        return self._answer

    def _take(self, payload: bytes) -> bytes:
        exchange = decode_exchange(payload)
        now = self._loop.time()
        if self._channel.is_expired(now):
            self._channel = Channel(now)
        self._channel.last_used = now
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


def _unavailable() -> ray.exceptions.ActorUnavailableError:
    return ray.exceptions.ActorUnavailableError("lost on the way", b"\0" * 16)


_ERRORS: dict[str, Any] = {
    "request": _unavailable,
    "answer": _unavailable,
    "cancelled": ray.exceptions.TaskCancelledError,
    "dead": ray.exceptions.ActorDiedError,
}


def _channel(host: Any, taken_back: list[CallFuture] | None = None) -> ClientChannel:
    def take_back(generation: int, calls: list[CallFuture]) -> None:
        assert generation == 1
        if taken_back is not None:
            taken_back.extend(calls)

    return ClientChannel(asyncio.get_running_loop(), Target(ROUTE, host), take_back)


def _call(channel: ClientChannel, method: str, value: Any) -> CallFuture:
    call = CallFuture(asyncio.get_running_loop(), "demo", method, ((value,), {}), None, None)
    channel.add(call)
    return call


@pytest.mark.parametrize(
    "losses",
    [
        ["request"],
        ["answer"],
        ["cancelled"],
        ["answer", "answer"],
        ["request", "answer", "request"],
        ["cancelled", "cancelled", "request"],
        ["answer 20", "answer 20"],
    ],
)
@_jumping_time
async def test_a_call_whose_exchange_is_lost_gets_its_result_and_runs_once(losses: list[str]) -> None:
    host = LossyHost(*losses)
    channel = _channel(host)
    async with asyncio.timeout(60):
        results = await asyncio.gather(*(_call(channel, "echo", number) for number in range(20)))
    assert results == list(range(20))
    assert set(host.ran.values()) == {1}
    assert len(host.ran) == 20


@_jumping_time
async def test_a_call_sent_to_a_host_that_died_is_unknown_and_an_idempotent_one_goes_on() -> None:
    taken_back: list[CallFuture] = []
    host = LossyHost("dead", "dead")
    channel = _channel(host, taken_back)
    plain, safe = _call(channel, "echo", 1), _call(channel, "safe_echo", 2)
    async with asyncio.timeout(10):
        with pytest.raises(OutcomeUnknown):
            await plain
    assert taken_back == [safe]
    assert not safe.done()


@_jumping_time
async def test_a_handle_asks_for_the_outcome_for_45_seconds_and_reports_unknown_then() -> None:
    loop = asyncio.get_running_loop()
    host = LossyHost("answer", *["request"] * 1000)
    begun = loop.time()
    call = _call(_channel(host), "echo", 1)
    async with asyncio.timeout(120):
        with pytest.raises(OutcomeUnknown) as caught:
            await call
    assert 45.0 <= loop.time() - begun < 45.5
    assert 44.5 < host.sent_at[-1] - begun < 45.0
    assert "lost on the way" in str(caught.value)
    assert host.ran == {1: 1}


@pytest.mark.parametrize(("detected_after_s", "is_known"), [(44.7, True), (45.0, False)])
@_jumping_time
async def test_the_contact_limit_counts_from_the_last_contact_not_from_the_moment_of_noticing(
    detected_after_s: float, is_known: bool
) -> None:
    host = LossyHost(f"answer {detected_after_s}")
    call = _call(_channel(host), "echo", 1)
    async with asyncio.timeout(120):
        (outcome,) = await asyncio.gather(call, return_exceptions=True)
    assert (outcome == 1) is is_known
    assert isinstance(outcome, OutcomeUnknown) is not is_known
    assert host.ran == {1: 1}


@_jumping_time
async def test_a_call_whose_answer_is_noticed_as_lost_after_the_retention_does_not_run_again() -> None:
    host = LossyHost("answer 61")
    call = _call(_channel(host), "echo", 1)
    async with asyncio.timeout(120):
        with pytest.raises(OutcomeUnknown):
            await call
    assert host.ran == {1: 1}


@_jumping_time
async def test_each_contact_starts_the_limit_anew() -> None:
    host = LossyHost("", "answer 40", "", "answer 40", "", "answer 40")
    channel = _channel(host)
    async with asyncio.timeout(300):
        assert [await _call(channel, "echo", number) for number in range(4)] == [0, 1, 2, 3]
    assert set(host.ran.values()) == {1}


@_jumping_time
async def test_a_channel_that_was_idle_for_long_still_recovers() -> None:
    host = LossyHost("", "answer")
    channel = _channel(host)
    assert await _call(channel, "echo", 1) == 1
    await asyncio.sleep(3600)
    async with asyncio.timeout(10):
        assert await _call(channel, "echo", 2) == 2
    assert host.ran == {1: 1, 2: 1}


class PatientHost:
    """Keeps one exchange until a call is finished, as a host does; a draining one takes no more calls."""

    def __init__(self) -> None:
        self.is_draining = False
        self._parked: Future[bytes] = Future()

    @property
    def exchange(self) -> PatientHost:
        return self

    def remote(self, payload: bytes) -> PatientHost:
        exchange = decode_exchange(payload)
        self._answer: Future[bytes] = Future()
        if self.is_draining and exchange.calls and not exchange.is_recovering:
            refused = [ReplyItem(call.id, GONE, 0, b"") for call in exchange.calls]
            self._answer.set_result(encode_exchange_part(Answer(99, refused)))
        else:
            if not self._parked.done():
                self.release()
            self._parked = self._answer
        return self

    def future(self) -> Future[bytes]:
        return self._answer

    def release(self, *replies: ReplyItem) -> None:
        """Answer the exchange that waits."""
        assert not self._parked.done(), "no exchange waits"
        self._parked.set_result(encode_exchange_part(Answer(len(replies), list(replies))))

    def finish(self, call_id: int) -> None:
        """Answer with this call's result."""
        self.release(ReplyItem(call_id, OK, 0, msgspec.msgpack.encode(call_id)))

    def lose(self) -> None:
        """The exchange that waits is lost."""
        self._parked.set_exception(_unavailable())


@_jumping_time
async def test_calls_that_run_on_a_host_that_takes_no_more_get_their_results() -> None:
    taken_back: list[CallFuture] = []
    host = PatientHost()
    channel = _channel(host, taken_back)
    running = [_call(channel, "echo", number) for number in (1, 2, 3)]
    await asyncio.sleep(1)
    host.is_draining = True
    late = _call(channel, "echo", 4)
    await asyncio.sleep(1)
    assert taken_back == [late]
    host.finish(1)
    await asyncio.sleep(1)
    host.finish(2)
    await asyncio.sleep(1)
    host.lose()
    await asyncio.sleep(1)
    host.finish(3)
    async with asyncio.timeout(10):
        assert await asyncio.gather(*running) == [1, 2, 3]


@_jumping_time
async def test_a_call_that_runs_for_long_is_in_contact_with_every_poll() -> None:
    host = PatientHost()
    call = _call(_channel(host), "echo", 1)
    for _ in range(30):
        await asyncio.sleep(20)
        host.release()
    await asyncio.sleep(20)
    host.lose()
    await asyncio.sleep(1)
    host.finish(1)
    async with asyncio.timeout(10):
        assert await call == 1


@_jumping_time
async def test_contact_is_when_the_answered_exchange_was_sent_for_the_host_may_have_answered_at_once() -> None:
    host = PatientHost()
    call = _call(_channel(host), "echo", 1)
    await asyncio.sleep(20)
    host.release()
    await asyncio.sleep(25)
    host.lose()
    async with asyncio.timeout(10):
        with pytest.raises(OutcomeUnknown):
            await call
