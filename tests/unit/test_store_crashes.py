"""What survives a crash: every acknowledged write, unfinished operations, and the snapshots that undo them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from ray_ext.errors import InstallationConflict, OperationConflict, PlanStale, StoreFailed
from ray_ext.store import failpoints, schema
from ray_ext.store.store import AuditEntry, Claim, Release, ReleaseFacts, Store, StoredRoute, Tombstone

RELEASE = Release(extension="demo", version="1.0", sha256="aa", manifest=b"[x]", source="/src/one")
NEWER = Release(extension="demo", version="2.0", sha256="bb", manifest=b"[y]", source="/src/two")
ROUTE = StoredRoute(extension="demo", generation=1, epoch=1, host="h1", route=b"\x00r")
GRAVE = Tombstone(extension="demo", generation=1, kind="crashed", cause="x", ended_at=1.0)
FACTS = ReleaseFacts(requires_runtime=">=0.1", dependencies={"a": ">=1"})
ENTRY = AuditEntry(actor="me", verb="install", outcome="done", extension="demo")
TOPIC, HOOK = Claim("topic", "demo.*"), Claim("endpoint", "POST /demo")

#: Every kind of write, in an order in which each changes something; each entry of the list is one transaction.
WRITES: list[Callable[[Store], object]] = [
    lambda store: store.register(RELEASE, FACTS, audit_entry=ENTRY),
    lambda store: store.register(NEWER, FACTS),
    lambda store: store.yank("demo", "2.0", "bad", audit_entry=ENTRY),
    lambda store: store.unyank("demo", "2.0"),
    lambda store: store.install(RELEASE, {"k": 1}, "g", lock="l", claims=[TOPIC, HOOK], audit_entry=ENTRY),
    lambda store: store.set_desired("demo", "loaded"),
    lambda store: store.next_generation("demo"),
    lambda store: store.next_epoch(),
    lambda store: store.put_route(ROUTE),
    lambda store: store.begin_operation("o1", "upgrade", "demo", b"plan", store.snapshot(["demo"])),
    lambda store: store.install(NEWER, {"k": 2}, "g", claims=[TOPIC]),
    lambda store: store.advance_operation("o1", 1),
    lambda store: store.restore(store.unfinished_operations()[0].before, audit_entry=ENTRY),
    lambda store: store.finish_operation("o1", "undone", {"cause": "x"}, audit_entry=ENTRY),
    lambda store: store.retire(GRAVE),
    lambda store: store.next_generation("demo"),
    lambda store: store.put_route(StoredRoute(extension="demo", generation=2, epoch=2, host="h2", route=b"")),
    lambda store: store.remove("demo", audit_entry=ENTRY),
    lambda store: store.forget_release("demo", "2.0", audit_entry=ENTRY),
    lambda store: store.record(ENTRY),
]
#: What differs from run to run; ``before`` holds times.
_VARYING = {"created_at", "updated_at", "at", "writer_epoch", "before"}
State = dict[str, list[dict[str, object]]]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db"


@pytest.fixture
def reopen(url: str) -> Iterator[Callable[[], Store]]:
    stores: list[Store] = []

    def open_store() -> Store:
        stores.append(Store(url))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


def state_of(store: Store) -> State:
    """Every row of every table, but for what varies."""
    with store._read("dump") as connection:
        return {
            table.name: [
                {key: value for key, value in row._mapping.items() if key not in _VARYING}
                for row in connection.execute(select(table))
            ]
            for table in schema.metadata.sorted_tables
        }


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> list[State]:
    """The state after opening, and after each write."""
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('reference')}/store.db")
    states = [state_of(store)]
    for write in WRITES:
        write(store)
        states.append(state_of(store))
    store.close()
    return states


def _work(url: str, acknowledged: int) -> None:
    store = Store(url)
    for write in WRITES:
        write(store)
        os.write(acknowledged, b".")


def die_at(failpoint: str, url: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let another process write until it dies there; returns how many writes it had acknowledged."""
    reading, writing = os.pipe()
    monkeypatch.setenv(failpoints.VARIABLE, failpoint)
    worker = multiprocessing.get_context("fork").Process(target=_work, args=(url, writing))
    worker.start()
    monkeypatch.delenv(failpoints.VARIABLE)
    os.close(writing)
    with open(reading, "rb") as pipe:
        acknowledged = len(pipe.read())
    worker.join()
    assert worker.exitcode == -signal.SIGKILL, "the failpoint was not reached"
    return acknowledged


FAILPOINTS = [name for name in failpoints.names() if not name.startswith(("migrate.", "back-up."))]


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_kill_at_any_commit_loses_nothing_acknowledged_and_leaves_nothing_half_done(
    failpoint: str, url: str, states: list[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged = die_at(failpoint, url, monkeypatch)
    is_opening = failpoint.startswith("open.")
    done = acknowledged + ("after-commit" in failpoint and not is_opening)
    store = Store(url)
    assert state_of(store) == states[done]
    assert store.writer_epoch == (1 if failpoint == "open.before-commit" else 2)
    for write in WRITES[done:]:
        write(store)
    assert state_of(store) == states[-1]
    store.close()


def test_a_failpoint_with_a_count_is_survived_until_then(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert die_at("next-generation.before-commit:2", url, monkeypatch) == 15


@pytest.mark.parametrize("value", ["", "nothing", "install"])
def test_what_names_no_failpoint_ends_nothing(
    value: str, reopen: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, value)
    assert reopen().install(RELEASE, {}, "g").version == "1.0"


# ---- operations


def release_of(extension: str, version: str = "1.0") -> Release:
    return Release(extension=extension, version=version, sha256=f"{extension}-{version}", manifest=b"", source="s")


def test_an_operation_is_carried_over_a_crash_and_applied_once(reopen: Callable[[], Store]) -> None:
    store = reopen()
    begun = store.begin_operation("o1", "upgrade", "demo", b"plan", b"[]", revision=0)
    assert (begun.plan, begun.before, begun.step, begun.outcome) == (b"plan", b"[]", 0, None)
    store.begin_operation("o2", "remove", "x", b"", b"")
    store.advance_operation("o1", 2)
    store = reopen()
    assert [(found.operation, found.step) for found in store.unfinished_operations()] == [("o1", 2), ("o2", 0)]
    assert store.begin_operation("o1", "upgrade", "demo", b"other", b"", revision=77).step == 2
    store.finish_operation("o1", "done", {"version": "2.0"}, audit_entry=ENTRY)
    assert [found.operation for found in store.unfinished_operations()] == ["o2"]
    again = store.begin_operation("o1", "upgrade", "demo", b"plan", b"[]", revision=77)
    assert (again.outcome, again.detail, again.before, again.plan) == ("done", {"version": "2.0"}, b"", b"plan")
    writes: list[Callable[[], object]] = [
        lambda: store.finish_operation("o1", "failed", {}), lambda: store.advance_operation("o3", 1)
    ]  # fmt: skip
    for write in writes:
        with pytest.raises(OperationConflict, match="is not at work"):
            write()
    assert store.begin_operation("o1", "upgrade", "demo", b"", b"") == again
    assert len(store.list_audit()) == 1


def test_an_operation_is_found_by_its_id_and_the_last_one_without(reopen: Callable[[], Store]) -> None:
    store = reopen()
    assert (store.operation("o1"), store.last_operation()) == (None, None)
    first = store.begin_operation("o1", "install", "demo", b"plan", b"[]")
    second = store.begin_operation("o2", "remove", "x", b"", b"")
    store.finish_operation("o1", "done", {})
    found = store.operation("o1")
    assert found is not None
    assert (found.plan, found.outcome, found.created_at) == (b"plan", "done", first.created_at)
    assert store.last_operation() == second


def test_a_finished_operation_forgets_releases_with_its_outcome_or_not_at_all(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for release in (RELEASE, NEWER):
        store.register(release, FACTS)
    store.begin_operation("o1", "remove", "demo", b"", b"")
    store.install(RELEASE, {}, "g")
    revision = store.revision()
    with pytest.raises(StoreFailed):
        store.finish_operation("o1", "done", {}, forgotten=[("demo", "2.0"), ("demo", "1.0")])
    assert [each.version for each in store.list_releases()] == ["1.0", "2.0"], "one of them is installed"
    assert len(store.unfinished_operations()) == 1
    store.finish_operation("o1", "done", {}, forgotten=[("demo", "2.0"), ("demo", "3.0")])
    assert [each.version for each in store.list_releases()] == ["1.0"]
    assert store.revision() == revision + 1


def test_a_plan_of_another_revision_is_stale_and_nothing_begins(reopen: Callable[[], Store]) -> None:
    store = reopen()
    planned = store.revision()
    store.register(RELEASE, FACTS)
    with pytest.raises(PlanStale) as caught:
        store.begin_operation("o1", "install", "demo", b"", b"", revision=planned)
    assert caught.value.details == {"planned": 0, "current": 1}
    assert store.unfinished_operations() == []
    assert store.begin_operation("o1", "install", "demo", b"", b"", revision=1).outcome is None


def test_an_operation_id_that_stands_for_something_else_is_refused(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.begin_operation("o1", "install", "demo", b"", b"")
    with pytest.raises(OperationConflict, match="install demo") as caught:
        store.begin_operation("o1", "remove", "demo", b"", b"")
    assert caught.value.details == {"running": "o1"}
    assert [found.verb for found in store.unfinished_operations()] == ["install"]


def test_a_snapshot_brings_back_rows_claims_and_desired_states_exactly(reopen: Callable[[], Store]) -> None:
    store = reopen()
    huge = {"n": 2**70, "x": None, "y": [0.1, "é"]}
    store.install(RELEASE, huge, "g", lock="l", claims=[TOPIC])
    store.set_desired("demo", "loaded")
    store.next_generation("demo")
    store.install(release_of("other"), {"k": 1}, "g", claims=[HOOK])
    store.install(release_of("bystander"), {}, "g")
    before = (store.list_installations(), store.list_claims())
    snapshot = store.snapshot(["demo", "other", "newcomer", "demo"])

    store.install(release_of("demo", "2.0"), {}, "all")
    store.set_desired("demo", "unloaded")
    store.remove("other")
    store.install(release_of("newcomer"), {}, "g", claims=[TOPIC, HOOK])
    store.put_route(ROUTE)
    store.put_route(StoredRoute(extension="newcomer", generation=1, epoch=2, host="h", route=b""))
    revision = store.revision()
    store = reopen()
    for _ in range(2):
        store.restore(snapshot)
        assert (store.list_installations(), store.list_claims()) == before
    assert store.revision() > revision
    assert store.list_routes() == [ROUTE]
    assert store.next_generation("demo") == 2


def test_a_generation_counted_since_the_snapshot_is_not_counted_again(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.install(RELEASE, {}, "g")
    snapshot = store.snapshot(["demo"])
    store.next_generation("demo")
    store.remove("demo")
    store.restore(snapshot)
    assert store.next_generation("demo") == 2


def test_a_claim_that_went_to_a_third_party_keeps_a_snapshot_from_being_restored_in_part(
    reopen: Callable[[], Store],
) -> None:
    store = reopen()
    store.install(RELEASE, {}, "g", claims=[TOPIC])
    snapshot = store.snapshot(["a", "demo"])
    store.install(release_of("a"), {}, "g")
    store.remove("demo")
    store.install(release_of("rival"), {}, "g", claims=[TOPIC])
    with pytest.raises(InstallationConflict) as caught:
        store.restore(snapshot)
    assert (caught.value.details["installed"], caught.value.details["offered"]) == ("rival", "demo")
    assert [found.extension for found in store.list_installations()] == ["a", "rival"]
