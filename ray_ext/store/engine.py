"""The database behind the store: its engine, its file, and its errors in the family's words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from ray_ext.errors import StoreFailed
from ray_ext.store.failpoints import reach

__all__ = ["back_up", "make_engine", "translated"]


def make_engine(url: str) -> Engine:
    """The engine for a URL. An SQLite file is created private, is synced at every commit, and has one writer at a
    time."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        path = engine.url.database
        if path and path != ":memory:":
            with suppress(OSError):  # an unwritable place is reported by the first statement, with its cause
                _make_private(path)

        @event.listens_for(engine, "connect")
        def _configure(connection: Any, _record: object) -> None:
            connection.isolation_level = None  # SQLAlchemy's documented way to BEGIN IMMEDIATE ourselves
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _make_private(path: str) -> None:
    """A file that is its owner's alone, from the first moment on: configurations hold secrets."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    os.chmod(path, 0o600)


def back_up(engine: Engine, version: int) -> None:
    """Copy an SQLite file of this schema version to ``<its path>.v<version>``; the copy appears whole or not at all."""
    if engine.dialect.name != "sqlite":
        return
    with closing(engine.raw_connection()) as pooled:
        source = pooled.driver_connection
        assert isinstance(source, sqlite3.Connection), "SQLAlchemy's SQLite dialect uses the standard library's driver"
        (_, _, path) = source.execute("PRAGMA database_list").fetchone()
        part = f"{path}.v{version}.part"
        with translated(f"copy itself to {part}"):
            Path(part).unlink(missing_ok=True)
            _make_private(part)
            with closing(sqlite3.connect(part)) as target:
                source.backup(target)
            reach("back-up", "before-commit")
            os.replace(part, f"{path}.v{version}")
    reach("back-up", "after-commit")


@contextmanager
def translated(what: str, where: str = "") -> Iterator[None]:
    """Raise what the database or its file refuses as :class:`StoreFailed`."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        cause = str(getattr(error, "orig", None) or error)
        raise StoreFailed(
            f"the store could not {what}: {cause}",
            where=where,
            fix="check the free space and the rights of the state home; nothing of this operation was recorded",
        ) from error
