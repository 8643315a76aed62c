from __future__ import annotations

import pytest

from ray_ext.routing.channel import ALONE_BYTES, Channel
from ray_ext.wire.exchange import OK, ReplyItem


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
    channel.acknowledge(99)
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
