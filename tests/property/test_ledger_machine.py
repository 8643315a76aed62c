"""Whatever happens to calls, each accepted one gets exactly one outcome and the counts add up."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from ray_ext.errors import CallCancelled, Overloaded, PayloadTooLarge
from ray_ext.routing.ledger import CallLedger, Deliver, Entry, Limits
from ray_ext.wire.exchange import OK
from ray_ext.wire.messages import decode_error

LIMITS = Limits(pending_calls=5, pending_bytes=300, payload_bytes=100)


class LedgerMachine(RuleBasedStateMachine):
    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = CallLedger("demo", LIMITS)
        self.outcomes: dict[int, list[str]] = {}
        self.sizes: dict[int, int] = {}
        self.refused = 0

    @rule(target=calls, size=st.integers(0, 120))
    def accept(self, size: int) -> Entry | None:
        got: list[str] = []

        def deliver(status: int, _: int, body: bytes) -> None:
            got.append("ok" if status == OK else decode_error(body).code)

        is_full = len(self.sizes) >= LIMITS.pending_calls or sum(self.sizes.values()) + size > LIMITS.pending_bytes
        taken: Deliver = deliver
        try:
            entry = self.ledger.accept("m", size, taken)
        except PayloadTooLarge:
            assert size > LIMITS.payload_bytes
        except Overloaded:
            assert is_full
        else:
            assert not is_full
            assert size <= LIMITS.payload_bytes
            assert entry.sequence == len(self.outcomes) + 1
            self.outcomes[entry.sequence] = got
            self.sizes[entry.sequence] = size
            return entry
        self.refused += 1
        assert got == []
        return None

    @rule(entry=consumes(calls))
    def answer(self, entry: Entry | None) -> None:
        """The guest answers, perhaps for a call that its caller has given up, perhaps twice."""
        if entry is None:
            return
        is_known = self.ledger.finish(entry.sequence) is not None
        assert is_known == (entry.sequence in self.sizes)
        self.sizes.pop(entry.sequence, None)
        had = list(self.outcomes[entry.sequence])
        assert self.ledger.settle(entry, OK, 0, b"") == (not had)

    @rule(entry=calls)
    def give_up(self, entry: Entry | None) -> None:
        if entry is not None:
            had = bool(self.outcomes[entry.sequence])
            assert self.ledger.fail(entry, CallCancelled("x")) == (not had)

    @rule(started=st.integers(0, 40))
    def lose(self, started: int) -> None:
        open_calls = [sequence for sequence, got in self.outcomes.items() if not got]
        unknown, unstarted = self.ledger.lose(started, "killed")
        assert unknown == sum(sequence <= started for sequence in open_calls)
        assert unknown + unstarted == len(open_calls)
        for sequence in open_calls:
            expected = "outcome-unknown" if sequence <= started else "extension-crashed"
            assert self.outcomes[sequence] == [expected]
        self.sizes.clear()

    @invariant()
    def the_counts_add_up(self) -> None:
        counts, outcomes = self.ledger.counts, list(self.outcomes.values())
        assert all(len(got) <= 1 for got in outcomes)
        flat = [got[0] for got in outcomes if got]
        assert counts.accepted == len(outcomes)
        assert counts.refused == self.refused
        assert counts.completed == flat.count("ok")
        assert counts.unknown == flat.count("outcome-unknown")
        assert counts.failed == len(flat) - counts.completed - counts.unknown
        assert (len(self.ledger), self.ledger.pending_bytes) == (len(self.sizes), sum(self.sizes.values()))


TestLedger = LedgerMachine.TestCase
