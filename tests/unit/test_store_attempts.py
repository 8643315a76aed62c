"""An operation may have several attempts in the store; clients see one operation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_ext.store.operations import attempt_name, operation_of
from ray_ext.store.store import AuditEntry, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path}/store.db")
    yield opened
    opened.close()


def _attempt(store: Store, operation: str, attempt: int, outcome: str | None) -> None:
    name = attempt_name(operation, attempt)
    store.begin_operation(name, "install", "demo", b"", b"[]")
    if outcome is not None:
        store.finish_operation(name, outcome, {})


def test_the_name_of_an_attempt_leads_back_to_its_operation() -> None:
    assert operation_of(attempt_name("0a1b2c3d", 12)) == "0a1b2c3d"
    for name in ("0a1b2c3d", "a.b", "a.", ".", ""):
        assert operation_of(name) == name
    assert operation_of(attempt_name("a.1", 2)) == "a.1"


def test_the_last_attempt_is_the_one_that_was_begun_last(store: Store) -> None:
    assert store.last_attempt("aa") is None
    for attempt in range(1, 12):
        _attempt(store, "aa", attempt, "interrupted")
        found = store.last_attempt("aa")
        assert found is not None
        assert found.operation == f"aa.{attempt}"
    assert store.last_attempt("a") is None


def test_each_operation_is_listed_once_by_its_last_attempt_the_newest_first(store: Store) -> None:
    _attempt(store, "aa", 1, "interrupted")
    _attempt(store, "bb", 1, "done")
    _attempt(store, "aa", 2, "failed")
    _attempt(store, "cc", 1, None)
    assert [each.operation for each in store.list_last_attempts(10)] == ["cc.1", "aa.2", "bb.1"]
    assert [each.operation for each in store.list_last_attempts(2)] == ["cc.1", "aa.2"]
    assert store.list_last_attempts(0) == []


def test_an_entry_of_the_audit_is_found_by_its_operation(store: Store) -> None:
    assert store.audit_of("aa") is None
    for verb in ("yank", "forget"):
        store.record(AuditEntry(actor="me", verb=verb, outcome="done", operation="aa"))
    store.record(AuditEntry(actor="me", verb="collect", outcome="done"))
    found = store.audit_of("aa")
    assert found is not None
    assert found.verb == "yank"
