from __future__ import annotations

import pytest

from ray_ext.errors import CallCancelled, ExtensionCrashed, OutcomeUnknown, Overloaded, PayloadTooLarge, RayExtError
from ray_ext.routing.ledger import CallLedger, Deliver, Limits
from ray_ext.wire.exchange import OK
from ray_ext.wire.messages import decode_error

LIMITS = Limits(pending_calls=3, pending_bytes=250, payload_bytes=100)


class Caller:
    """Remembers the outcomes of its calls by name."""

    def __init__(self) -> None:
        self.outcomes: dict[str, list[object]] = {}

    def of(self, name: str) -> Deliver:
        got = self.outcomes.setdefault(name, [])
        return lambda status, _, body: got.append(body if status == OK else decode_error(body).to_error())

    def error(self, name: str) -> RayExtError:
        (outcome,) = self.outcomes[name]
        assert isinstance(outcome, RayExtError)
        return outcome


@pytest.fixture
def ledger() -> CallLedger:
    return CallLedger("demo", LIMITS)


def test_only_the_first_outcome_reaches_the_caller(ledger: CallLedger) -> None:
    caller = Caller()
    entry = ledger.accept("m", 10, caller.of("a"))
    assert ledger.settle(entry, OK, 0, b"result")
    assert not ledger.settle(entry, OK, 0, b"second")
    assert not ledger.fail(entry, CallCancelled("late"))
    assert ledger.finish(entry.sequence) is entry
    assert ledger.lose(99, "gone") == (0, 0)
    assert caller.outcomes == {"a": [b"result"]}
    assert (ledger.counts.completed, ledger.counts.failed, ledger.counts.unknown) == (1, 0, 0)


def test_a_settled_call_counts_as_pending_until_its_guest_is_done_with_it(ledger: CallLedger) -> None:
    entry = ledger.accept("m", 10, Caller().of("a"))
    ledger.fail(entry, CallCancelled("x"))
    assert (len(ledger), ledger.pending_bytes) == (1, 10)
    ledger.finish(entry.sequence)
    assert (len(ledger), ledger.pending_bytes) == (0, 0)
    assert ledger.finish(entry.sequence) is None
    assert ledger.get(entry.sequence) is None


def test_one_call_too_many_is_refused_before_it_starts(ledger: CallLedger) -> None:
    entries = [ledger.accept("m", 1, Caller().of("a")) for _ in range(3)]
    with pytest.raises(Overloaded) as caught:
        ledger.accept("m", 1, Caller().of("b"))
    assert caught.value.retry_after_s > 0
    assert (caught.value.details["pending"], caught.value.details["limit"]) == (3, 3)
    assert (ledger.counts.accepted, ledger.counts.refused, len(ledger)) == (3, 1, 3)
    ledger.finish(entries[0].sequence)
    assert ledger.accept("m", 1, Caller().of("c")).sequence == 4


def test_too_many_bytes_at_once_are_refused(ledger: CallLedger) -> None:
    ledger.accept("m", 100, Caller().of("a"))
    ledger.accept("m", 100, Caller().of("b"))
    with pytest.raises(Overloaded):
        ledger.accept("m", 51, Caller().of("c"))
    ledger.accept("m", 50, Caller().of("d"))


def test_a_payload_at_the_limit_is_taken_and_one_byte_more_is_not(ledger: CallLedger) -> None:
    ledger.accept("m", 100, Caller().of("a"))
    with pytest.raises(PayloadTooLarge) as caught:
        ledger.accept("m", 101, Caller().of("b"))
    assert caught.value.details == {"size_bytes": 101, "limit_bytes": 100, "which": "arguments"}
    assert (ledger.counts.accepted, ledger.counts.refused) == (1, 1)


def test_a_lost_guest_splits_its_calls_by_whether_they_had_started(ledger: CallLedger) -> None:
    caller = Caller()
    done, _, _ = (ledger.accept("m", 1, caller.of(name)) for name in "abc")
    ledger.fail(done, CallCancelled("x"))
    assert ledger.lose(2, "killed") == (1, 1)
    assert isinstance(caller.error("a"), CallCancelled)
    assert isinstance(caller.error("b"), OutcomeUnknown)
    assert isinstance(caller.error("c"), ExtensionCrashed)
    assert caller.error("b").details["cause"] == caller.error("c").details["cause"] == "killed"
    counts = ledger.counts
    assert (counts.accepted, counts.completed, counts.failed, counts.unknown) == (3, 0, 2, 1)
    assert (len(ledger), ledger.pending_bytes) == (0, 0)


def test_settling_stops_the_timer_once(ledger: CallLedger) -> None:
    stopped: list[int] = []
    entry = ledger.accept("m", 1, Caller().of("a"))
    entry.on_settled = lambda: stopped.append(1)
    ledger.fail(entry, CallCancelled("x"))
    ledger.settle(entry, OK, 0, b"")
    assert stopped == [1]


@pytest.mark.parametrize(
    ("memory", "payload"), [(64 << 20, 16 << 20), (1 << 30, 64 << 20), (256 << 20, 64 << 20), (1 << 10, 64 << 10)]
)
def test_a_payload_may_take_a_quarter_of_the_memory_and_at_most_64_mib(memory: int, payload: int) -> None:
    limits = Limits.for_memory(memory)
    assert limits.payload_bytes == payload
    assert limits.pending_bytes >= payload


@pytest.mark.parametrize(
    ("kind", "code"),
    [("crashed", "extension-crashed"), ("hung", "extension-hung"), ("protocol-violation", "protocol-violation")],
)
def test_how_a_guest_ended_tells_its_unstarted_calls_apart(ledger: CallLedger, kind: str, code: str) -> None:
    caller = Caller()
    started = ledger.accept("m", 10, caller.of("started"))
    ledger.accept("m", 10, caller.of("waiting"))
    assert ledger.lose(started.sequence, "gone", kind) == (1, 1)
    assert (caller.error("started").code, caller.error("started").details["exit"]) == ("outcome-unknown", kind)
    assert caller.error("waiting").code == code
