"""A store of an earlier schema version is brought to today's, whole, or stays what it was."""

from __future__ import annotations

import json
import multiprocessing
import signal
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ray_ext.errors import StoreFailed
from ray_ext.store import failpoints
from ray_ext.store.schema import SCHEMA_VERSION
from ray_ext.store.store import Claim, Release, ReleaseFacts, Store, StoredRoute, Tombstone

#: What version 1 executed; frozen.
VERSION_1 = """
CREATE TABLE runtime (
    id INTEGER NOT NULL, schema_version INTEGER NOT NULL, writer_epoch INTEGER NOT NULL, route_epoch INTEGER NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE releases (
    extension VARCHAR NOT NULL, version VARCHAR NOT NULL, sha256 VARCHAR NOT NULL, manifest BLOB NOT NULL,
    source VARCHAR NOT NULL, created_at FLOAT NOT NULL,
    PRIMARY KEY (extension, version)
);
CREATE TABLE routes (
    extension VARCHAR NOT NULL, generation INTEGER NOT NULL, epoch INTEGER NOT NULL, host VARCHAR NOT NULL,
    route BLOB NOT NULL,
    PRIMARY KEY (extension)
);
CREATE TABLE tombstones (
    extension VARCHAR NOT NULL, generation INTEGER NOT NULL, kind VARCHAR NOT NULL, cause VARCHAR NOT NULL,
    ended_at FLOAT NOT NULL,
    PRIMARY KEY (extension, generation)
);
CREATE TABLE installations (
    extension VARCHAR NOT NULL, version VARCHAR NOT NULL, configuration JSON NOT NULL, "grant" VARCHAR NOT NULL,
    desired VARCHAR NOT NULL, last_generation INTEGER NOT NULL, created_at FLOAT NOT NULL, updated_at FLOAT NOT NULL,
    PRIMARY KEY (extension), FOREIGN KEY(extension, version) REFERENCES releases (extension, version)
);
"""
MANIFEST = b'id = "demo"\nrequires_runtime = ">=0.1,<1"\n'


def write_version_1(path: Path, *, manifest: bytes = MANIFEST) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(VERSION_1)
        connection.execute("INSERT INTO runtime VALUES (1, 1, 7, 40)")
        connection.executemany(
            "INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?)",
            [("demo", "1.0", "aa", manifest, "/one", 1.5), ("plain", "2.0", "bb", b'id = "plain"', "/two", 2.5)],
        )
        connection.executemany(
            "INSERT INTO installations VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                ("demo", "1.0", json.dumps({"k": [1, None]}), "requested", "loaded", 12, 3.5, 4.5),
                ("plain", "2.0", "{}", "none", "unloaded", 0, 5.5, 6.5),
            ],
        )
        connection.execute("INSERT INTO routes VALUES (?, ?, ?, ?, ?)", ("demo", 12, 39, "host/demo/12", b"r"))
        connection.execute("INSERT INTO tombstones VALUES (?, ?, ?, ?, ?)", ("demo", 11, "crashed", "x", 7.5))


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("SELECT schema_version FROM runtime").fetchone()
        return int(version)


def check_everything_of_version_1(store: Store) -> None:
    demo, plain = store.list_installations()
    assert (demo.extension, demo.version, demo.configuration, demo.grant, demo.desired, demo.last_generation) == (
        "demo", "1.0", {"k": [1, None]}, "requested", "loaded", 12,
    )  # fmt: skip
    assert (demo.created_at, demo.updated_at, demo.lock) == (3.5, 4.5, None)
    assert (plain.version, plain.desired, plain.last_generation) == ("2.0", "unloaded", 0)
    assert store.release("demo", "1.0") == Release(
        extension="demo", version="1.0", sha256="aa", manifest=MANIFEST, source="/one", created_at=1.5, updated_at=1.5
    )
    assert [(each.extension, each.facts) for each in store.list_releases()] == [
        ("demo", ReleaseFacts(requires_runtime=">=0.1,<1")),
        ("plain", ReleaseFacts()),
    ]
    assert store.list_routes() == [
        StoredRoute(extension="demo", generation=12, epoch=39, host="host/demo/12", route=b"r")
    ]
    assert store.last_tombstone("demo") == Tombstone(
        extension="demo", generation=11, kind="crashed", cause="x", ended_at=7.5
    )
    assert (store.list_claims(), store.unfinished_operations(), store.list_audit()) == ({}, [], [])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def reopen(path: Path) -> Iterator[Callable[[], Store]]:
    stores: list[Store] = []

    def open_store() -> Store:
        stores.append(Store(f"sqlite:///{path}"))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


def test_everything_of_version_1_is_there_and_goes_on(path: Path, reopen: Callable[[], Store]) -> None:
    write_version_1(path)
    store = reopen()
    assert version_of(path) == SCHEMA_VERSION
    check_everything_of_version_1(store)
    assert store.writer_epoch == 8
    assert store.next_generation("demo") == 13
    assert store.next_generation("plain") == 1
    assert store.next_epoch() == 41
    assert store.revision() == 0
    again = store.install(
        Release(extension="demo", version="1.0", sha256="aa", manifest=MANIFEST, source="s"), {}, "g", lock="l",
        claims=[Claim("topic", "t")],
    )  # fmt: skip
    assert (again.desired, again.lock, again.created_at) == ("loaded", "l", 3.5)
    store.remove("demo")
    assert [each.extension for each in store.list_installations()] == ["plain"]


def test_a_migrated_store_has_the_tables_of_a_new_one(path: Path, tmp_path: Path, reopen: Callable[[], Store]) -> None:
    def tables(file: Path) -> dict[str, object]:
        with closing(sqlite3.connect(file)) as connection:
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            return {
                name: {
                    # A column that a migration adds must have a default, and comes last: neither matters.
                    "columns": {
                        (column, kind, is_required, key)
                        for _, column, kind, is_required, _, key in connection.execute(f"PRAGMA table_info({name})")
                    },
                    "references": connection.execute(f"PRAGMA foreign_key_list({name})").fetchall(),
                    "unique": sorted(row[2:] for row in connection.execute(f"PRAGMA index_list({name})")),
                }
                for (name,) in names
            }

    write_version_1(path)
    reopen()
    Store(f"sqlite:///{tmp_path}/new.db").close()
    assert tables(path) == tables(tmp_path / "new.db")


def test_the_old_file_is_kept_beside_the_new_one_private_and_whole(path: Path, reopen: Callable[[], Store]) -> None:
    write_version_1(path)
    before = dump(path)
    path.with_name("store.db.v1.part").write_bytes(b"torn" * 5000)  # of a copy that did not come to its end
    reopen()
    backup = path.with_name("store.db.v1")
    assert [line for line in dump(backup) if "runtime" not in line] == [
        line for line in before if "runtime" not in line
    ]
    assert version_of(backup) == 1
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert {each.name for each in path.parent.iterdir()} <= {
        "store.db", "store.db-wal", "store.db-shm", "store.db.v1", "store.db.v2",
    }  # fmt: skip
    backup.replace(path.with_name("other.db"))
    other = Store(f"sqlite:///{path.with_name('other.db')}")
    check_everything_of_version_1(other)
    other.close()


def test_a_store_of_today_is_not_backed_up(path: Path, reopen: Callable[[], Store]) -> None:
    reopen()
    reopen()
    assert not path.with_name(f"store.db.v{SCHEMA_VERSION}").exists()


def _open(url: str) -> None:
    Store(url)


@pytest.mark.parametrize(
    ("failpoint", "version"),
    [
        ("open.before-commit", 1),
        ("open.after-commit", 1),
        ("back-up.before-commit", 1),
        ("back-up.after-commit", 1),
        ("migrate.before-commit", 1),
        ("migrate.after-commit", 2),
    ],
)
def test_a_migration_that_is_killed_leaves_one_version_or_the_other_whole(
    failpoint: str, version: int, path: Path, reopen: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_version_1(path)
    monkeypatch.setenv(failpoints.VARIABLE, failpoint)
    worker = multiprocessing.get_context("fork").Process(target=_open, args=(f"sqlite:///{path}",))
    worker.start()
    worker.join()
    monkeypatch.delenv(failpoints.VARIABLE)
    assert worker.exitcode == -signal.SIGKILL
    assert version_of(path) == version
    store = reopen()
    check_everything_of_version_1(store)
    assert store.writer_epoch == (8 if failpoint == "open.before-commit" else 9)
    assert version_of(path.with_name("store.db.v1")) == 1
    assert not path.with_name("store.db.v1.part").exists()


def test_tables_without_their_first_row_are_those_of_a_version_1_that_died_early(
    path: Path, reopen: Callable[[], Store]
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
    store = reopen()
    assert (store.writer_epoch, store.list_installations(), version_of(path)) == (1, [], SCHEMA_VERSION)


def test_a_manifest_that_cannot_be_read_is_named_and_version_1_stays(path: Path, reopen: Callable[[], Store]) -> None:
    write_version_1(path, manifest=b"\xff")
    before = [line for line in dump(path) if "runtime" not in line]
    with pytest.raises(StoreFailed, match=r"no readable manifest of demo 1\.0"):
        reopen()
    assert [line for line in dump(path) if "runtime" not in line] == before
    assert version_of(path) == 1


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1])
def test_a_store_of_a_version_from_elsewhere_is_refused_and_left_alone(
    version: int, path: Path, reopen: Callable[[], Store]
) -> None:
    reopen().close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE runtime SET schema_version = ?", (version,))
    before = dump(path)
    with pytest.raises(StoreFailed, match=rf"schema version {version}; this ray_ext reads {SCHEMA_VERSION}") as caught:
        reopen()
    assert caught.value.where == f"sqlite:///{path}"
    assert dump(path) == before


def test_a_backup_that_cannot_be_written_stops_the_migration(path: Path, reopen: Callable[[], Store]) -> None:
    write_version_1(path)
    path.with_name("store.db.v1.part").mkdir()
    with pytest.raises(StoreFailed, match="could not copy itself"):
        reopen()
    assert version_of(path) == 1


def test_a_registry_that_the_migration_took_over_from_can_write_no_more(
    path: Path, reopen: Callable[[], Store]
) -> None:
    write_version_1(path)
    with closing(sqlite3.connect(path)) as old:
        reopen()
        written = old.execute("UPDATE runtime SET writer_epoch = writer_epoch WHERE writer_epoch = 7")
        assert written.rowcount == 0
