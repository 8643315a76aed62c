from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ray_ext.errors import RayExtError, ReleaseConflict, StoreFailed
from ray_ext.store.store import Release, Store, StoredRoute, Tombstone

RELEASE = Release(extension="demo", version="1.0", sha256="aa", manifest=b"[x]", source="/src/one")
ROUTE = StoredRoute(extension="demo", generation=1, epoch=1, host="h1", route=b"\x00r")
GRAVE = Tombstone(extension="demo", generation=1, kind="crashed", cause="x", ended_at=1.0)


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
    before = (new.list_installations(), new.list_routes(), new.last_tombstone("demo"))
    writes: list[Callable[[], object]] = [
        lambda: old.install(RELEASE, {"x": 1}, "other"), lambda: old.set_desired("demo", "loaded"),
        lambda: old.next_generation("demo"), old.next_epoch, lambda: old.put_route(ROUTE), lambda: old.retire(GRAVE),
    ]  # fmt: skip
    for write in writes:
        with pytest.raises(StoreFailed, match="a newer registry has taken over"):
            write()
    assert (new.list_installations(), new.list_routes(), new.last_tombstone("demo")) == before
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
