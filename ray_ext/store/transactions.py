"""What every part of the store stands on: opening it, and its transactions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import structs
from sqlalchemy import Connection, insert, inspect, select, update

from ray_ext.errors import StoreFailed
from ray_ext.store.engine import back_up, make_engine, translated
from ray_ext.store.failpoints import Verb, reach
from ray_ext.store.migrations import MIGRATIONS
from ray_ext.store.records import AuditEntry
from ray_ext.store.schema import SCHEMA_VERSION, audit, metadata, runtime

__all__ = ["Transactions", "grow_revision"]


class Transactions:
    """One writer's transactions. Opening creates or migrates the store, and takes over from every earlier writer."""

    def __init__(self, url: str) -> None:
        self._engine = make_engine(url)
        with translated("open", url):
            version = self._take_over(url)
            for older in range(version, SCHEMA_VERSION):
                self._migrate(older)

    def _take_over(self, url: str) -> int:
        """Raise the writer epoch; returns the store's schema version."""
        with self._engine.begin() as connection:
            version = _schema_version(connection)
            if version not in {SCHEMA_VERSION, *MIGRATIONS}:
                raise StoreFailed(
                    f"the store has schema version {version}; this ray_ext reads {SCHEMA_VERSION}",
                    where=url,
                    fix="use the ray_ext that wrote it, or another state home",
                )
            connection.execute(update(runtime).values(writer_epoch=runtime.c.writer_epoch + 1))
            self.writer_epoch = int(connection.execute(select(runtime.c.writer_epoch)).scalar_one())
            reach("open", "before-commit")
        reach("open", "after-commit")
        return version

    def _migrate(self, version: int) -> None:
        back_up(self._engine, version)
        # Whoever else migrates has taken over first: then this write is refused.
        with self._write("migrate", f"migrate from schema version {version}") as connection:
            MIGRATIONS[version](connection)
            connection.execute(update(runtime).values(schema_version=version + 1))

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    @contextmanager
    def _write(self, verb: Verb, what: str, *, audit_entry: AuditEntry | None = None) -> Iterator[Connection]:
        """One transaction, refused to all but the last writer; the entry is recorded with it or not at all."""
        with translated(what), self._engine.begin() as connection:
            mine = connection.execute(
                update(runtime)
                .where(runtime.c.writer_epoch == self.writer_epoch)
                .values(writer_epoch=runtime.c.writer_epoch)
            )
            if mine.rowcount != 1:
                raise StoreFailed(f"cannot {what}: a newer registry has taken over", fix="nothing: ask that one")
            yield connection
            if audit_entry is not None:
                connection.execute(insert(audit).values({**structs.asdict(audit_entry), "at": time.time()}))
            reach(verb, "before-commit")
        reach(verb, "after-commit")

    @contextmanager
    def _read(self, what: str) -> Iterator[Connection]:
        with translated(what), self._engine.connect() as connection:
            yield connection


def grow_revision(connection: Connection) -> None:
    """To be part of each transaction that changes releases, installations, claims or desired states."""
    connection.execute(update(runtime).values(revision=runtime.c.revision + 1))


def _schema_version(connection: Connection) -> int:
    """The version of the tables; a store that has none gets today's."""
    if not inspect(connection).has_table("runtime"):
        metadata.create_all(connection)
        first = {"id": 1, "schema_version": SCHEMA_VERSION, "writer_epoch": 0, "route_epoch": 0, "revision": 0}
        connection.execute(insert(runtime).values(first))
        return SCHEMA_VERSION
    version = connection.execute(select(runtime.c.schema_version)).scalar_one_or_none()
    if version is None:  # version 1 committed its tables before their first row, and can have died in between
        connection.execute(insert(runtime).values(id=1, schema_version=1, writer_epoch=0, route_epoch=0))
        return 1
    return int(version)
