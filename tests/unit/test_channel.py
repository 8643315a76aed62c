"""The host's half of a channel."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ray_ext.actors.host import Host
from ray_ext.actors.spec import InstanceSpec
from ray_ext.routing.channel import ALONE_BYTES, Channel
from ray_ext.wire import values
from ray_ext.wire.exchange import (
    OK,
    Answer,
    CallItem,
    Exchange,
    ReplyItem,
    decode_answer,
    encode_exchange_part,
)
from ray_ext.wire.messages import Metadata


def reply(call_id: int, size: int = 1) -> ReplyItem:
    return ReplyItem(call_id, OK, 0, b"x" * size)


def ids(channel: Channel) -> list[int]:
    return [item.id for item in channel.take().replies]


def test_an_id_is_new_once_until_its_reply_is_acknowledged() -> None:
    channel = Channel(0.0)
    assert channel.is_new(1)
    assert not channel.is_new(1)
    channel.post(reply(1))
    answer = channel.take()
    assert not channel.is_new(1)
    channel.acknowledge(answer.number)
    assert channel.is_idle
    assert channel.is_new(1)


def test_an_acknowledged_reply_is_gone_and_others_come_back_on_recovery() -> None:
    channel = Channel(0.0)
    for number in (1, 2, 3):
        channel.is_new(number)
    channel.post(reply(1))
    first = channel.take()
    channel.post(reply(2))
    second = channel.take()
    channel.acknowledge(first.number)
    channel.acknowledge(first.number)
    channel.acknowledge(-1)
    channel.recover()
    channel.post(reply(3))
    third = channel.take()
    assert [item.id for item in third.replies] == [2, 3]
    assert third.number > second.number > first.number > 0
    channel.acknowledge(second.number)  # an answer that was replaced says nothing about its replies any more
    channel.recover()
    assert ids(channel) == [2, 3]


def test_an_answer_without_replies_has_number_zero_and_needs_no_acknowledgement() -> None:
    channel = Channel(0.0)
    assert not channel.has_replies
    assert (channel.take().number, channel.take().replies) == (0, [])
    assert channel.is_idle


def test_an_exchange_older_than_a_recovering_one_does_not_count() -> None:
    channel = Channel(0.0)
    assert channel.admits(5, is_recovering=False)
    assert channel.admits(3, is_recovering=False)
    assert channel.admits(7, is_recovering=True)
    assert not channel.admits(6, is_recovering=False)
    assert channel.admits(7, is_recovering=False)
    assert channel.admits(8, is_recovering=False)
    assert not channel.admits(4, is_recovering=True)


@pytest.mark.parametrize(
    ("sizes", "answers"),
    [
        ([1, 1, 1], [[0, 1, 2]]),
        ([1, ALONE_BYTES + 1, 1], [[0], [1], [2]]),
        ([ALONE_BYTES + 1, ALONE_BYTES + 1], [[0], [1]]),
        ([ALONE_BYTES, 1], [[0, 1]]),
        ([ALONE_BYTES, ALONE_BYTES], [[0], [1]]),
        ([1_000_000, 0, 0], [[0], [1, 2]]),
    ],
)
def test_a_large_body_travels_alone_and_the_order_stays(sizes: list[int], answers: list[list[int]]) -> None:
    channel = Channel(0.0)
    for number, size in enumerate(sizes):
        channel.post(reply(number, size))
    taken = []
    while channel.has_replies:
        taken.append(ids(channel))
    assert taken == answers


def test_a_channel_is_idle_only_without_anything_pending_ready_or_unacknowledged() -> None:
    channel = Channel(0.0)
    channel.pending[1] = 7
    assert not channel.is_idle
    channel.post(reply(1))
    assert channel.pending == {}
    assert not channel.is_idle
    answer = channel.take()
    assert not channel.is_idle
    channel.acknowledge(answer.number)
    assert channel.is_idle


def test_a_reply_is_kept_for_60_seconds_after_the_last_exchange_and_no_longer() -> None:
    channel = Channel(1000.0)
    channel.post(reply(1))
    channel.take()
    assert not channel.is_expired(1059.9)
    channel.recover()
    assert ids(channel) == [1]
    assert channel.is_expired(1060.0)
    channel.last_used = 1060.0
    assert not channel.is_expired(1119.9)
    assert channel.is_expired(1120.0)


def test_a_channel_with_a_pending_call_is_kept_however_long_it_takes() -> None:
    channel = Channel(0.0)
    channel.pending[1] = 7
    assert not channel.is_expired(1e6)
    channel.post(reply(1))
    assert channel.is_expired(1e6)


def test_acknowledging_an_answer_of_a_forgotten_channel_says_nothing_to_its_successor() -> None:
    forgotten, successor = Channel(0.0), Channel(0.0)
    forgotten.post(reply(1))
    successor.is_new(2)
    successor.post(reply(2))
    acknowledged = forgotten.take().number
    successor.take()
    successor.acknowledge(acknowledged)
    assert not successor.is_new(2)
    successor.recover()
    assert ids(successor) == [2]


class _TravellingLoop(asyncio.SelectorEventLoop):
    """The real time, and what a test adds to it."""

    travelled_s = 0.0

    def time(self) -> float:
        return super().time() + self.travelled_s

    async def travel(self, seconds: float) -> None:
        """Returns when every timer that is due by then has fired."""
        self.travelled_s += seconds
        arrived = self.create_future()
        self.call_at(self.time(), arrived.set_result, None)
        await arrived


class _LosingCaller:
    """Repeats one call on one channel, and acknowledges no answer."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._number = 0

    async def ask(self, *calls: CallItem) -> Answer:
        self._number += 1
        exchange = Exchange(b"channel", self._number, list(calls), [], [], is_recovering=self._number > 1)
        return decode_answer(await self._host.exchange(encode_exchange_part(exchange)))


def _counting(root: Path) -> InstanceSpec:
    (root / "retention_probe.py").write_text(
        "from ray_ext import Extension, exported\n"
        "class Probe(Extension):\n"
        "    runs = 0\n"
        "    @exported\n"
        "    async def run(self):\n"
        "        self.runs += 1\n"
        "        return self.runs\n"
    )
    return InstanceSpec(
        metadata=Metadata("demo", "Demo", "1.0"),
        generation=1,
        entry_point="retention_probe:Probe",
        is_trusted=True,
        code_paths=(str(root),),
        env_vars={},
        config=values.encode_value({}),
        data_dir=str(root / "data"),
        log_file=str(root / "demo.jsonl"),
        layer="",
        memory_bytes=128 << 20,
    )


def test_a_host_keeps_a_lost_result_for_60_seconds_and_forgets_it_in_the_next_15(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))

    async def scenario(loop: _TravellingLoop) -> None:
        host = Host()
        await host.open(_counting(tmp_path))
        caller = _LosingCaller(host)
        call = CallItem(1, "run", None, *values.encode_arguments((), {}))
        first = await caller.ask(call)
        for _ in range(3):
            await loop.travel(59.9)
            assert (await caller.ask(call)).replies == first.replies
        await loop.travel(75.0)
        assert (await caller.ask()).replies == []
        await host.stop(0.0)

    with asyncio.Runner(loop_factory=_TravellingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, _TravellingLoop)
        runner.run(scenario(loop))
