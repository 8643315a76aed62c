"""A channel over a link that loses, repeats and delays: each call runs once, each reply reaches its caller."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ray_ext.routing.channel import ALONE_BYTES, Channel
from ray_ext.wire.exchange import OK, Answer, ReplyItem


class ChannelMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.channel = Channel(0.0)
        self.number = 0
        self.next_id = 0
        self.runs: dict[int, int] = {}
        self.running: set[int] = set()
        self.outcomes: dict[int, int] = {}  # the caller's: id to how many replies it took
        self.received: list[int] = []
        self.delayed: list[tuple[int, list[int]]] = []
        self.lost = False

    def _arrive(self, number: int, calls: list[int], received: list[int], *, is_recovering: bool) -> None:
        """The host's side of an exchange, in the host's order."""
        if not self.channel.admits(number, is_recovering=is_recovering):
            return
        for answer in received:
            self.channel.acknowledge(answer)
        if is_recovering:
            self.channel.recover()
        for call_id in calls:
            if self.channel.is_new(call_id):
                self.runs[call_id] = self.runs.get(call_id, 0) + 1
                self.running.add(call_id)
                self.channel.pending[call_id] = call_id

    @rule(count=st.integers(1, 4), fate=st.sampled_from(["arrives", "twice", "lost", "delayed"]))
    def send(self, count: int, fate: str) -> None:
        calls = list(range(self.next_id, self.next_id + count))
        self.next_id += count
        self.number += 1
        self.outcomes.update(dict.fromkeys(calls, 0))
        received, self.received = self.received, []
        if fate in ("arrives", "twice"):
            for _ in range(2 if fate == "twice" else 1):
                self._arrive(self.number, calls, received, is_recovering=False)
            return
        self.lost = True
        self.received = received
        if fate == "delayed":
            self.delayed.append((self.number, calls))

    @precondition(lambda self: self.lost)
    @rule()
    def recover(self) -> None:
        self.number += 1
        open_calls = [call_id for call_id, count in self.outcomes.items() if not count]
        received, self.received = self.received, []
        self._arrive(self.number, open_calls, received, is_recovering=True)
        self.lost = False

    @precondition(lambda self: self.delayed and not self.lost)
    @rule()
    def a_delayed_exchange_arrives_after_the_recovery(self) -> None:
        number, calls = self.delayed.pop()
        self._arrive(number, calls, [], is_recovering=False)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), size=st.sampled_from([0, 10, ALONE_BYTES, ALONE_BYTES + 1]))
    def finish_a_call(self, data: st.DataObject, size: int) -> None:
        call_id = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(call_id)
        self.channel.post(ReplyItem(call_id, OK, 0, b"x" * size))

    @precondition(lambda self: self.channel.has_replies)
    @rule(is_lost=st.booleans())
    def take(self, is_lost: bool) -> None:
        answer = self.channel.take()
        self._check_sizes(answer)
        if is_lost:
            self.lost = True
            return
        self.received.append(answer.number)
        for item in answer.replies:
            self.outcomes[item.id] += 1

    def _check_sizes(self, answer: Answer) -> None:
        assert answer.number > 0
        if any(len(item.body) > ALONE_BYTES for item in answer.replies):
            assert len(answer.replies) == 1

    @invariant()
    def every_call_runs_at_most_once(self) -> None:
        assert all(count == 1 for count in self.runs.values())

    @invariant()
    def no_reply_is_counted_without_a_run(self) -> None:
        assert all(call_id in self.runs for call_id, count in self.outcomes.items() if count)

    def teardown(self) -> None:
        """With a link that works again, every call gets its outcome and the host keeps nothing."""
        self.lost = True
        self.recover()
        for call_id in sorted(self.running):
            self.channel.post(ReplyItem(call_id, OK, 0, b""))
        while self.channel.has_replies:
            answer = self.channel.take()
            for item in answer.replies:
                self.outcomes[item.id] += 1
            self.channel.acknowledge(answer.number)
        assert all(self.outcomes.values())
        assert self.channel.is_idle
        for number, calls in self.delayed:
            self._arrive(number, calls, [], is_recovering=False)
        self.every_call_runs_at_most_once()


TestChannel = ChannelMachine.TestCase
