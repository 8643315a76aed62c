from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import structs

from ray_ext.errors import (
    ExtensionNotFound,
    InstallationConflict,
    OperationConflict,
    RayExtError,
    ReleaseConflict,
    StoreFailed,
)
from ray_ext.store.store import AuditEntry, Claim, Release, ReleaseFacts, Store, StoredRoute, Tombstone

RELEASE = Release(extension="demo", version="1.0", sha256="aa", manifest=b"[x]", source="/src/one")
ROUTE = StoredRoute(extension="demo", generation=1, epoch=1, host="h1", route=b"\x00r")
GRAVE = Tombstone(extension="demo", generation=1, kind="crashed", cause="x", ended_at=1.0)
FACTS = ReleaseFacts(
    requires_runtime=">=0.1", dependencies={"a": ">=1"}, optional_dependencies={"b": ""}, requirements=("c>=2",)
)
ENTRY = AuditEntry(actor="me", verb="install", outcome="done", extension="demo", version="1.0", detail={"keys": ["k"]})
TOPIC, HOOK = Claim("topic", "demo.*"), Claim("endpoint", "POST /demo")


def release_of(extension: str, version: str = "1.0") -> Release:
    return Release(extension=extension, version=version, sha256=f"{extension}-{version}", manifest=b"", source="s")


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


def test_what_was_acknowledged_is_seen_by_whoever_opens_next(reopen: Callable[[], Store]) -> None:
    # The first store is never closed: what it acknowledged must be on disk already.
    first = reopen()
    installed = first.install(RELEASE, {"k": [1, None]}, "g1")
    first.set_desired("demo", "loaded")
    assert first.next_generation("demo") == 1
    first.put_route(ROUTE)
    second = reopen()
    found = second.installation("demo")
    assert found is not None
    assert (found.configuration, found.grant, found.desired, found.last_generation) == (
        {"k": [1, None]},
        "g1",
        "loaded",
        1,
    )
    assert found.created_at == installed.created_at
    release = second.release("demo", "1.0")
    assert release is not None
    assert (release.sha256, release.manifest, release.source) == ("aa", b"[x]", "/src/one")
    assert second.list_routes() == [ROUTE]
    second.retire(GRAVE)
    third = reopen()
    assert (third.list_routes(), third.last_tombstone("demo")) == ([], GRAVE)


def test_an_older_writer_is_refused_everything_and_changes_nothing(reopen: Callable[[], Store]) -> None:
    old = reopen()
    old.install(RELEASE, {}, "g")
    new = reopen()
    assert new.writer_epoch > old.writer_epoch

    def state() -> tuple[object, ...]:
        return (
            new.list_installations(), new.list_routes(), new.last_tombstone("demo"), new.list_releases(),
            new.unfinished_operations(), new.list_audit(), new.revision(),
        )  # fmt: skip

    before = state()
    writes: list[Callable[[], object]] = [
        lambda: old.install(RELEASE, {"x": 1}, "other"), lambda: old.set_desired("demo", "loaded"),
        lambda: old.next_generation("demo"), old.next_epoch, lambda: old.put_route(ROUTE), lambda: old.retire(GRAVE),
        lambda: old.register(release_of("x"), FACTS), lambda: old.yank("demo", "1.0", "bad"),
        lambda: old.unyank("demo", "1.0"), lambda: old.forget_release("demo", "1.0"), lambda: old.remove("demo"),
        lambda: old.begin_operation("o", "v", "s", b"", b""), lambda: old.advance_operation("o", 1),
        lambda: old.finish_operation("o", "done", {}), lambda: old.restore(b"[]"), lambda: old.record(ENTRY),
    ]  # fmt: skip
    for write in writes:
        with pytest.raises(StoreFailed, match="a newer registry has taken over"):
            write()
    assert state() == before
    assert new.next_generation("demo") == 1


def test_the_same_version_with_other_bytes_is_refused_and_both_are_named(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.install(RELEASE, {}, "g")
    other = Release(extension="demo", version="1.0", sha256="bb", manifest=b"", source="/src/two")
    with pytest.raises(ReleaseConflict) as caught:
        store.install(other, {"x": 1}, "g2")
    text = str(caught.value)
    assert all(part in text for part in ("aa", "bb", "/src/one", "/src/two"))
    assert caught.value.details == {"id": "demo", "version": "1.0", "known": "aa", "offered": "bb"}
    found = store.installation("demo")
    assert found is not None
    assert (found.configuration, found.grant) == ({}, "g")


def test_installing_anew_keeps_the_desired_state_and_the_generation(reopen: Callable[[], Store]) -> None:
    store = reopen()
    assert store.install(RELEASE, {}, "g").desired == "unloaded"
    store.set_desired("demo", "loaded")
    store.next_generation("demo")
    newer = Release(extension="demo", version="2.0", sha256="bb", manifest=b"", source="s")
    again = store.install(newer, {"x": 1}, "g")
    assert (again.version, again.configuration, again.desired, again.last_generation) == ("2.0", {"x": 1}, "loaded", 1)
    assert store.release("demo", "1.0") is not None


def test_generations_and_epochs_only_grow_over_every_reopening(reopen: Callable[[], Store]) -> None:
    reopen().install(RELEASE, {}, "g")
    generations, epochs = [], []
    for _ in range(4):
        store = reopen()
        for _ in range(3):
            generations.append(store.next_generation("demo"))
            epochs.append(store.next_epoch())
    assert generations == list(range(1, 13))
    assert epochs == list(range(1, 13))


def test_burying_an_old_generation_leaves_the_route_of_the_new_one(reopen: Callable[[], Store]) -> None:
    store = reopen()
    newer = StoredRoute(extension="demo", generation=2, epoch=2, host="h2", route=b"")
    store.put_route(ROUTE)
    store.put_route(newer)
    store.retire(GRAVE)
    store.retire(Tombstone(extension="demo", generation=1, kind="stopped", cause="second", ended_at=2.0))
    assert store.list_routes() == [newer]
    assert store.last_tombstone("demo") == GRAVE


def test_what_is_not_there_is_none(reopen: Callable[[], Store]) -> None:
    store = reopen()
    assert store.installation("x") is None
    assert store.release("x", "1") is None
    assert store.last_tombstone("x") is None
    assert store.list_installations() == []
    with pytest.raises(RayExtError):
        store.next_generation("x")


def test_a_disk_that_takes_no_more_is_an_error_and_nothing_of_the_write_is_there(
    reopen: Callable[[], Store], tmp_path: Path
) -> None:
    store = reopen()
    store.install(RELEASE, {}, "g")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(path.stat().st_size for path in tmp_path.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))  # Python ignores SIGXFSZ: writes fail with EFBIG
    try:
        with pytest.raises(StoreFailed) as caught:
            store.install(
                Release(extension="big", version="1", sha256="c", manifest=b"x" * 500_000, source="s"), {}, "g"
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "install big" in caught.value.what
    assert "free space" in caught.value.fix
    assert [found.extension for found in store.list_installations()] == ["demo"]
    assert store.release("big", "1") is None
    store.set_desired("demo", "loaded")


def test_a_store_that_cannot_be_opened_or_written_says_so(reopen: Callable[[], Store], tmp_path: Path) -> None:
    reopen()
    (tmp_path / "junk.db").write_bytes(b"junk" * 1000)
    for bad in ("file:store.db?mode=ro&uri=true", "missing/store.db", "junk.db", ""):
        name = bad.replace("file:", f"file:{tmp_path}/") if bad.startswith("file:") else f"{tmp_path}/{bad}"
        with pytest.raises(StoreFailed) as caught:
            Store(f"sqlite:///{name}")
        assert caught.value.where == f"sqlite:///{name}"


def test_a_database_that_is_full_refuses_the_write_whole_and_works_again_with_more_room(
    reopen: Callable[[], Store],
) -> None:
    store = reopen()
    store.install(RELEASE, {}, "g", claims=[TOPIC])

    def limit_pages(most: int) -> None:
        with store._engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count={most}")

    big = Release(extension="big", version="1", sha256="c", manifest=b"x" * 500_000, source="s")
    before = (store.list_releases(), store.list_claims(), store.list_audit(), store.revision())
    limit_pages(1)  # SQLite takes the present size where that is more
    with pytest.raises(StoreFailed, match="full"):
        store.install(big, {}, "g", claims=[HOOK], audit_entry=ENTRY)
    assert (store.list_releases(), store.list_claims(), store.list_audit(), store.revision()) == before
    limit_pages(10_000)
    store.install(big, {}, "g", claims=[HOOK])
    assert store.list_claims() == {TOPIC: "demo", HOOK: "big"}


# ---- releases


def test_a_release_is_known_with_its_facts_without_being_installed(reopen: Callable[[], Store]) -> None:
    registered = reopen().register(RELEASE, FACTS)
    assert registered.created_at == registered.updated_at > 0
    store = reopen()
    assert store.release("demo", "1.0") == registered
    assert store.list_installations() == []
    (listed,) = store.list_releases()
    assert (listed.extension, listed.version, listed.sha256, listed.source) == ("demo", "1.0", "aa", "/src/one")
    assert (listed.facts, listed.yanked_reason, listed.created_at) == (FACTS, None, registered.created_at)


def test_releases_are_listed_by_id_and_version_all_or_of_one_extension(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for extension, version in (("b", "2"), ("a", "1"), ("b", "1")):
        store.register(release_of(extension, version), ReleaseFacts())
    assert [(found.extension, found.version) for found in store.list_releases()] == [("a", "1"), ("b", "1"), ("b", "2")]
    assert [found.version for found in store.list_releases("b")] == ["1", "2"]
    assert store.list_releases("c") == []


def test_registering_the_same_bytes_again_changes_nothing_and_other_bytes_are_refused(
    reopen: Callable[[], Store],
) -> None:
    store = reopen()
    first = store.register(RELEASE, FACTS)
    store.install(RELEASE, {}, "g")  # no facts given: the known ones stay
    revision = store.revision()
    moved = Release(extension="demo", version="1.0", sha256="aa", manifest=b"[x]", source="/elsewhere")
    assert store.register(moved, FACTS) == first
    assert store.revision() == revision
    other = Release(extension="demo", version="1.0", sha256="bb", manifest=b"", source="/src/two")
    with pytest.raises(ReleaseConflict) as caught:
        store.register(other, ReleaseFacts())
    assert caught.value.details == {"id": "demo", "version": "1.0", "known": "aa", "offered": "bb"}
    assert [found.facts for found in store.list_releases()] == [FACTS]
    assert store.revision() == revision


def test_more_facts_of_the_same_bytes_replace_the_known_ones(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.install(RELEASE, {}, "g")
    assert store.list_releases()[0].facts == ReleaseFacts()
    revision = store.revision()
    store.register(RELEASE, FACTS)
    assert store.list_releases()[0].facts == FACTS
    assert store.revision() > revision


def test_a_yank_has_a_reason_outlives_registering_anew_and_can_be_taken_back(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.register(RELEASE, FACTS)
    revisions = [store.revision()]
    store.yank("demo", "1.0", "loses data")
    store.register(RELEASE, FACTS)
    found = store.release("demo", "1.0")
    assert found is not None
    assert found.yanked_reason == store.list_releases()[0].yanked_reason == "loses data"
    assert found.updated_at > found.created_at
    revisions.append(store.revision())
    store.unyank("demo", "1.0")
    assert store.list_releases()[0].yanked_reason is None
    revisions.append(store.revision())
    store.unyank("demo", "1.0")
    assert revisions == sorted(set(revisions))
    assert store.revision() == revisions[-1]


def test_yanking_what_is_not_known_names_what_is(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.install(RELEASE, {}, "g")
    writes: list[Callable[[], object]] = [lambda: store.yank("demo", "9", "why"), lambda: store.unyank("demo", "9")]
    for write in writes:
        with pytest.raises(ExtensionNotFound, match=r"no release demo 9 is known\n  fix: known: 1\.0") as caught:
            write()
        assert caught.value.details == {"known": ["1.0"], "installed": ["demo"]}


def test_a_release_is_forgotten_unless_it_is_installed_or_an_operation_may_need_it(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.install(RELEASE, {}, "g")
    store.register(release_of("demo", "2.0"), FACTS)
    with pytest.raises(InstallationConflict, match=r"demo 1\.0 is installed"):
        store.forget_release("demo", "1.0")
    store.begin_operation("o1", "upgrade", "demo", b"", store.snapshot(["demo"]))
    store.install(release_of("demo", "2.0"), {}, "g")
    with pytest.raises(OperationConflict) as caught:
        store.forget_release("demo", "1.0")
    assert caught.value.details == {"running": "o1"}
    store.finish_operation("o1", "done", {})
    revision = store.revision()
    store.forget_release("demo", "1.0")
    assert [found.version for found in store.list_releases()] == ["2.0"]
    assert store.revision() > revision
    store.forget_release("demo", "1.0")


# ---- installations


def test_an_installation_has_its_lock_and_its_claims_and_installing_anew_replaces_them(
    reopen: Callable[[], Store],
) -> None:
    store = reopen()
    installed = store.install(RELEASE, {}, "g", facts=FACTS, lock="x==1 --hash=sha256:0", claims=[TOPIC, HOOK, TOPIC])
    assert installed.lock == "x==1 --hash=sha256:0"
    assert reopen().list_claims() == {TOPIC: "demo", HOOK: "demo"}
    store = reopen()
    assert store.installation("demo") == installed
    assert store.list_releases()[0].facts == FACTS
    assert store.install(release_of("demo", "2.0"), {}, "g", claims=[HOOK]).lock is None
    assert store.list_claims() == {HOOK: "demo"}


def test_a_claim_that_another_extension_holds_is_refused_and_both_are_named(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.install(RELEASE, {}, "g", claims=[TOPIC, HOOK])
    before = (store.list_releases(), store.list_claims(), store.revision())
    with pytest.raises(InstallationConflict) as caught:
        store.install(release_of("rival"), {}, "g", claims=[Claim("topic", "free"), HOOK])
    assert all(part in caught.value.what for part in ("demo", "rival", "endpoint", "POST /demo"))
    assert caught.value.details == {
        "id": "rival", "installed": "demo", "offered": "rival", "kind": "endpoint", "name": "POST /demo",
    }  # fmt: skip
    assert store.installation("rival") is None
    assert (store.list_releases(), store.list_claims(), store.revision()) == before
    store.install(release_of("rival"), {}, "g", claims=[Claim("topic", "POST /demo")])
    assert store.list_claims()[Claim("topic", "POST /demo")] == "rival"


def test_removing_takes_claims_and_route_and_leaves_releases_tombstones_and_the_count(
    reopen: Callable[[], Store],
) -> None:
    store = reopen()
    store.install(RELEASE, {}, "g", claims=[TOPIC])
    assert [store.next_generation("demo") for _ in range(3)] == [1, 2, 3]
    store.retire(GRAVE)
    store.put_route(StoredRoute(extension="demo", generation=3, epoch=3, host="h3", route=b""))
    revision = store.revision()
    store.remove("demo")
    assert (store.installation("demo"), store.list_claims(), store.list_routes()) == (None, {}, [])
    assert store.revision() > revision
    store.remove("demo")
    assert store.revision() == revision + 1
    with pytest.raises(ExtensionNotFound):
        store.next_generation("demo")
    assert store.last_tombstone("demo") == GRAVE
    assert store.release("demo", "1.0") is not None
    assert store.install(RELEASE, {}, "g").last_generation == 3
    assert store.next_generation("demo") == 4


def test_the_desired_state_of_what_is_not_installed_is_refused_by_name(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.install(RELEASE, {}, "g")
    with pytest.raises(ExtensionNotFound, match="'x'") as caught:
        store.set_desired("x", "loaded")
    assert caught.value.details == {"installed": ["demo"]}


def test_the_revision_grows_with_what_plans_depend_on_and_with_nothing_else(reopen: Callable[[], Store]) -> None:
    store = reopen()
    grows: list[Callable[[], object]] = [
        lambda: store.register(RELEASE, FACTS), lambda: store.install(RELEASE, {}, "g"),
        lambda: store.install(RELEASE, {}, "g", claims=[TOPIC]), lambda: store.set_desired("demo", "loaded"),
        lambda: store.yank("demo", "1.0", "bad"), lambda: store.restore(store.snapshot(["demo"])),
    ]  # fmt: skip
    stays: list[Callable[[], object]] = [
        lambda: store.set_desired("demo", "loaded"), lambda: store.next_generation("demo"), store.next_epoch,
        lambda: store.put_route(ROUTE), lambda: store.retire(GRAVE), lambda: store.record(ENTRY),
        lambda: store.begin_operation("o", "v", "s", b"", b""), lambda: store.advance_operation("o", 1),
        lambda: store.finish_operation("o", "done", {}),
    ]  # fmt: skip
    assert store.revision() == 0
    for write in grows:
        before = store.revision()
        write()
        assert store.revision() == before + 1
    for write in stays:
        write()
        assert store.revision() == len(grows)
    assert reopen().revision() == len(grows)


# ---- the audit


def test_an_entry_is_recorded_with_its_write_or_not_at_all(reopen: Callable[[], Store]) -> None:
    store = reopen()
    told: list[Callable[[], object]] = [
        lambda: store.register(RELEASE, FACTS, audit_entry=ENTRY),
        lambda: store.yank("demo", "1.0", "bad", audit_entry=ENTRY),
        lambda: store.unyank("demo", "1.0", audit_entry=ENTRY),
        lambda: store.install(RELEASE, {}, "g", audit_entry=ENTRY),
        lambda: store.set_desired("demo", "loaded", audit_entry=ENTRY),
        lambda: store.restore(store.snapshot(["demo"]), audit_entry=ENTRY),
        lambda: store.remove("demo", audit_entry=ENTRY), lambda: store.forget_release("demo", "1.0", audit_entry=ENTRY),
        lambda: store.record(ENTRY),
    ]  # fmt: skip
    for count, write in enumerate(told, start=1):
        write()
        assert len(store.list_audit()) == count
    store.install(RELEASE, {}, "g")
    other = Release(extension="demo", version="1.0", sha256="bb", manifest=b"", source="s")
    with pytest.raises(ReleaseConflict):
        store.install(other, {}, "g", audit_entry=ENTRY)
    assert len(store.list_audit()) == len(told)


def test_the_audit_is_listed_from_the_newest_on_all_or_of_one_extension(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.record(ENTRY)
    store.record(AuditEntry(actor="you", verb="doctor", outcome="refused", operation="o1"))
    store.record(ENTRY)
    entries = reopen().list_audit()
    assert [(entry.actor, entry.verb, entry.operation) for entry in entries] == [
        ("me", "install", None), ("you", "doctor", "o1"), ("me", "install", None),
    ]  # fmt: skip
    newest, _, oldest = entries
    assert newest.at >= oldest.at > 0
    assert newest.detail == {"keys": ["k"]}
    assert store.list_audit("demo") == [newest, oldest]
    assert store.list_audit("demo", limit=1) == [newest]


def test_what_is_installed_is_read_at_once_as_it_is_one_by_one(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for extension in ("demo", "other", "only-known"):
        for version in ("1.0", "2.0"):
            store.register(release_of(extension, version), ReleaseFacts())
    store.install(release_of("demo", "2.0"), {}, "none")
    store.install(release_of("other", "1.0"), {}, "none")
    for generation in (1, 2):
        store.next_generation("demo")
        store.retire(structs.replace(GRAVE, generation=generation, cause=f"cause {generation}"))
    assert store.installed_releases() == {
        "demo": store.release("demo", "2.0"),
        "other": store.release("other", "1.0"),
    }
    assert store.last_tombstones() == {"demo": store.last_tombstone("demo")}
    assert store.last_tombstones()["demo"].cause == "cause 2"
