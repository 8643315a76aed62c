"""The store: every write is one transaction, is on disk when the method returns, and is refused to an old writer.

A registry that is started anew raises the *writer epoch*; each transaction of an earlier incarnation then fails with
:class:`StoreFailed`. Methods block: the registry calls them from a thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Engine, create_engine, delete, event, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from ray_ext.errors import ReleaseConflict, StoreFailed
from ray_ext.store.schema import SCHEMA_VERSION, installations, metadata, releases, routes, runtime, tombstones

__all__ = ["Installation", "Release", "Store", "StoredRoute", "Tombstone"]


class Release(Struct, frozen=True, kw_only=True):
    """A package that the registry knows. ``manifest`` is its text, ``source`` where it came from."""

    extension: str
    version: str
    sha256: str
    manifest: bytes
    source: str
    created_at: float = 0.0


class Installation(Struct, frozen=True, kw_only=True):
    """A release chosen for this runtime. ``desired`` is ``loaded`` or ``unloaded``; times are Unix seconds."""

    extension: str
    version: str
    configuration: dict[str, Any]
    grant: str
    desired: str
    last_generation: int
    created_at: float
    updated_at: float


class StoredRoute(Struct, frozen=True, kw_only=True):
    """A route as stored; ``route`` is its encoded form."""

    extension: str
    generation: int
    epoch: int
    host: str
    route: bytes


class Tombstone(Struct, frozen=True, kw_only=True):
    """How a generation ended."""

    extension: str
    generation: int
    kind: str
    cause: str
    ended_at: float


class Store:
    """One writer's view of the store; opening it takes over from every earlier writer."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        _make_private(self._engine)
        with _translated("open", url):
            metadata.create_all(self._engine)
            with self._engine.begin() as connection:
                row = connection.execute(select(runtime)).one_or_none()
                if row is None:
                    connection.execute(
                        insert(runtime).values(id=1, schema_version=SCHEMA_VERSION, writer_epoch=0, route_epoch=0)
                    )
                elif row.schema_version != SCHEMA_VERSION:
                    raise StoreFailed(
                        f"the store has schema version {row.schema_version}; this ray_ext reads {SCHEMA_VERSION}",
                        where=url,
                        fix="use the ray_ext that wrote it, or another state home",
                    )
                connection.execute(update(runtime).values(writer_epoch=runtime.c.writer_epoch + 1))
                self.writer_epoch = int(connection.execute(select(runtime.c.writer_epoch)).scalar_one())

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    @contextmanager
    def _write(self, what: str) -> Iterator[Connection]:
        with _translated(what), self._engine.begin() as connection:
            mine = connection.execute(
                update(runtime)
                .where(runtime.c.writer_epoch == self.writer_epoch)
                .values(writer_epoch=runtime.c.writer_epoch)
            )
            if mine.rowcount != 1:
                raise StoreFailed(f"cannot {what}: a newer registry has taken over", fix="nothing: ask that one")
            yield connection

    @contextmanager
    def _read(self, what: str) -> Iterator[Connection]:
        with _translated(what), self._engine.connect() as connection:
            yield connection

    # ---- releases and installations

    def install(self, release: Release, configuration: Mapping[str, Any], grant: str) -> Installation:
        """Record the release and its installation in one transaction.

        Raises :class:`ReleaseConflict` when id and version are known with other bytes. The desired state of an
        existing installation stays.
        """
        now = time.time()
        with self._write(f"install {release.extension}") as connection:
            known = connection.execute(
                select(releases).where(releases.c.extension == release.extension, releases.c.version == release.version)
            ).one_or_none()
            if known is None:
                connection.execute(
                    insert(releases).values(
                        extension=release.extension,
                        version=release.version,
                        sha256=release.sha256,
                        manifest=release.manifest,
                        source=release.source,
                        created_at=now,
                    )
                )
            elif known.sha256 != release.sha256:
                raise ReleaseConflict(
                    f"{release.extension} {release.version} is already known with other content",
                    where=f"known: sha256 {known.sha256} from {known.source}; "
                    f"offered: sha256 {release.sha256} from {release.source}",
                    fix="raise the version in extension.toml and pyproject.toml",
                    details={
                        "id": release.extension,
                        "version": release.version,
                        "known": known.sha256,
                        "offered": release.sha256,
                    },
                )
            old = connection.execute(
                select(installations).where(installations.c.extension == release.extension)
            ).one_or_none()
            values = {
                "version": release.version,
                "configuration": dict(configuration),
                "grant": grant,
                "updated_at": now,
            }
            if old is None:
                connection.execute(
                    insert(installations).values(
                        extension=release.extension, desired="unloaded", last_generation=0, created_at=now, **values
                    )
                )
            else:
                connection.execute(
                    update(installations).where(installations.c.extension == release.extension).values(**values)
                )
            row = connection.execute(select(installations).where(installations.c.extension == release.extension)).one()
            return Installation(**row._mapping)

    def release(self, extension: str, version: str) -> Release | None:
        """The release, or None."""
        with self._read("read a release") as connection:
            row = connection.execute(
                select(releases).where(releases.c.extension == extension, releases.c.version == version)
            ).one_or_none()
            return None if row is None else Release(**row._mapping)

    def installation(self, extension: str) -> Installation | None:
        """The installation, or None."""
        with self._read("read an installation") as connection:
            row = connection.execute(select(installations).where(installations.c.extension == extension)).one_or_none()
            return None if row is None else Installation(**row._mapping)

    def list_installations(self) -> list[Installation]:
        """All installations, by id."""
        with self._read("list installations") as connection:
            rows = connection.execute(select(installations).order_by(installations.c.extension))
            return [Installation(**row._mapping) for row in rows]

    def set_desired(self, extension: str, desired: str) -> None:
        """What the operator wants: ``loaded`` or ``unloaded``."""
        with self._write(f"set the desired state of {extension}") as connection:
            connection.execute(
                update(installations)
                .where(installations.c.extension == extension)
                .values(desired=desired, updated_at=time.time())
            )

    # ---- generations and routes

    def next_generation(self, extension: str) -> int:
        """A generation that no instance of the extension ever had."""
        with self._write(f"count a generation of {extension}") as connection:
            connection.execute(
                update(installations)
                .where(installations.c.extension == extension)
                .values(last_generation=installations.c.last_generation + 1)
            )
            return int(
                connection.execute(
                    select(installations.c.last_generation).where(installations.c.extension == extension)
                ).scalar_one()
            )

    def next_epoch(self) -> int:
        """The epoch of the next change of the routing table; gaps are harmless, going back is not."""
        with self._write("count an epoch") as connection:
            connection.execute(update(runtime).values(route_epoch=runtime.c.route_epoch + 1))
            return int(connection.execute(select(runtime.c.route_epoch)).scalar_one())

    def put_route(self, route: StoredRoute) -> None:
        """Make this the extension's route."""
        with self._write(f"route {route.extension}") as connection:
            connection.execute(delete(routes).where(routes.c.extension == route.extension))
            connection.execute(
                insert(routes).values(
                    extension=route.extension,
                    generation=route.generation,
                    epoch=route.epoch,
                    host=route.host,
                    route=route.route,
                )
            )

    def retire(self, tombstone: Tombstone) -> None:
        """Bury a generation: its tombstone is set and its route, if it is still the route, taken away."""
        with self._write(f"retire {tombstone.extension} generation {tombstone.generation}") as connection:
            connection.execute(
                delete(routes).where(
                    routes.c.extension == tombstone.extension, routes.c.generation == tombstone.generation
                )
            )
            key = (
                tombstones.c.extension == tombstone.extension,
                tombstones.c.generation == tombstone.generation,
            )
            if connection.execute(select(tombstones).where(*key)).one_or_none() is None:
                connection.execute(
                    insert(tombstones).values(
                        extension=tombstone.extension,
                        generation=tombstone.generation,
                        kind=tombstone.kind,
                        cause=tombstone.cause[:2000],
                        ended_at=tombstone.ended_at,
                    )
                )

    def list_routes(self) -> list[StoredRoute]:
        """The routing table."""
        with self._read("list routes") as connection:
            return [StoredRoute(**row._mapping) for row in connection.execute(select(routes))]

    def last_tombstone(self, extension: str) -> Tombstone | None:
        """How the latest retired generation ended."""
        with self._read("read a tombstone") as connection:
            row = connection.execute(
                select(tombstones)
                .where(tombstones.c.extension == extension)
                .order_by(tombstones.c.generation.desc())
                .limit(1)
            ).one_or_none()
            return None if row is None else Tombstone(**row._mapping)


def _engine(url: str) -> Engine:
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _configure(connection: Any, _record: object) -> None:
            connection.isolation_level = None  # SQLAlchemy's documented way to BEGIN IMMEDIATE ourselves
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _make_private(engine: Engine) -> None:
    """An SQLite file is its owner's alone, from the first moment on: configurations hold secrets."""
    path = engine.url.database
    if engine.dialect.name == "sqlite" and path and path != ":memory:":
        with suppress(OSError):  # an unwritable place is reported by the first statement, with its cause
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            os.chmod(path, 0o600)


@contextmanager
def _translated(what: str, where: str = "") -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error)
        raise StoreFailed(
            f"the store could not {what}: {cause}",
            where=where,
            fix="check the free space and the rights of the state home; nothing of this operation was recorded",
        ) from error
