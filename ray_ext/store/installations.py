"""The part of the store that knows installations: what is chosen, what it claims, what is wanted of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from ray_ext.errors import ExtensionNotFound, InstallationConflict
from ray_ext.store.records import AuditEntry, Claim, Installation, Release, ReleaseFacts
from ray_ext.store.releases import put_release
from ray_ext.store.schema import claims, generations, installations, routes
from ray_ext.store.transactions import Transactions, grow_revision

__all__ = ["InstallationStore", "delete_installation", "find_installation", "not_installed", "put_claims"]

_INSTALLED = select(installations, generations.c.last.label("last_generation")).join(
    generations, generations.c.extension == installations.c.extension
)


class InstallationStore(Transactions):
    """At most one installation for each extension."""

    def install(
        self,
        release: Release,
        configuration: Mapping[str, Any],
        grant: str,
        *,
        facts: ReleaseFacts | None = None,
        lock: str | None = None,
        claims: Iterable[Claim] = (),
        audit_entry: AuditEntry | None = None,
    ) -> Installation:
        """Record the release and its installation in one transaction.

        ``facts`` None keeps the release's known ones. The desired state of an existing installation stays; its lock and
        its claims are replaced. Raises :class:`ReleaseConflict` when id and version are known with other bytes, and
        :class:`InstallationConflict` when another extension holds one of the claims.
        """
        extension, now = release.extension, time.time()
        values = {
            "version": release.version,
            "configuration": dict(configuration),
            "grant": grant,
            "lock": lock,
            "updated_at": now,
        }
        with self._write("install", f"install {extension}", audit_entry=audit_entry) as connection:
            put_release(connection, release, facts)
            replaced = connection.execute(
                update(installations).where(installations.c.extension == extension).values(values)
            )
            if not replaced.rowcount:
                _start_counting(connection, extension)
                first = {"extension": extension, "desired": "unloaded", "created_at": now}
                connection.execute(insert(installations).values(values | first))
            put_claims(connection, extension, claims)
            grow_revision(connection)
            found = find_installation(connection, extension)
            assert found is not None, "it was put there by this transaction"
            return found

    def remove(self, extension: str, *, audit_entry: AuditEntry | None = None) -> None:
        """Delete the installation, its claims and its route; its releases and tombstones stay, and generations go on
        counting where they are. What is not installed stays so."""
        with self._write("remove", f"remove {extension}", audit_entry=audit_entry) as connection:
            connection.execute(delete(routes).where(routes.c.extension == extension))
            if delete_installation(connection, extension):
                grow_revision(connection)

    def installation(self, extension: str) -> Installation | None:
        """The installation, or None."""
        with self._read("read an installation") as connection:
            return find_installation(connection, extension)

    def list_installations(self) -> list[Installation]:
        """All installations, by id."""
        with self._read("list installations") as connection:
            rows = connection.execute(_INSTALLED.order_by(installations.c.extension))
            return [Installation(**row._mapping) for row in rows]

    def list_claims(self) -> dict[Claim, str]:
        """Which extension holds what."""
        with self._read("list claims") as connection:
            rows = connection.execute(select(claims))
            return {Claim(row.kind, row.name): row.extension for row in rows}

    def set_desired(self, extension: str, desired: str, *, audit_entry: AuditEntry | None = None) -> None:
        """What the operator wants: ``loaded`` or ``unloaded``. Raises ExtensionNotFound when it is not installed."""
        what = f"set the desired state of {extension}"
        with self._write("set-desired", what, audit_entry=audit_entry) as connection:
            found = find_installation(connection, extension)
            if found is None:
                raise not_installed(connection, extension)
            if found.desired != desired:
                connection.execute(
                    update(installations)
                    .where(installations.c.extension == extension)
                    .values(desired=desired, updated_at=time.time())
                )
                grow_revision(connection)


def find_installation(connection: Connection, extension: str) -> Installation | None:
    """The installation, or None."""
    row = connection.execute(_INSTALLED.where(installations.c.extension == extension)).one_or_none()
    return None if row is None else Installation(**row._mapping)


def delete_installation(connection: Connection, extension: str) -> bool:
    """Delete the installation with its claims; returns whether there was one."""
    connection.execute(delete(claims).where(claims.c.extension == extension))
    found = connection.execute(delete(installations).where(installations.c.extension == extension))
    return bool(found.rowcount)


def put_claims(connection: Connection, extension: str, wanted: Iterable[Claim]) -> None:
    """Make these the extension's claims; raises :class:`InstallationConflict` when another extension holds one."""
    connection.execute(delete(claims).where(claims.c.extension == extension))
    for claim in sorted(set(wanted), key=lambda claim: (claim.kind, claim.name)):
        holder = connection.execute(
            select(claims.c.extension).where(claims.c.kind == claim.kind, claims.c.name == claim.name)
        ).scalar_one_or_none()
        if holder is not None:
            raise InstallationConflict(
                f"the {claim.kind} {claim.name!r} that {extension} claims is already taken by {holder}",
                where=f"installed: {holder}; offered: {extension}",
                fix=f"remove {holder}, or let {extension} claim another {claim.kind} in its extension.toml",
                details={
                    "id": extension,
                    "installed": holder,
                    "offered": extension,
                    "kind": claim.kind,
                    "name": claim.name,
                },
            )
        connection.execute(insert(claims).values(kind=claim.kind, name=claim.name, extension=extension))


def not_installed(connection: Connection, extension: str) -> ExtensionNotFound:
    """The error that says so, and what is installed."""
    known = list(connection.execute(select(installations.c.extension).order_by(installations.c.extension)).scalars())
    return ExtensionNotFound(
        f"no extension {extension!r} is installed",
        fix=f"installed: {', '.join(known)}" if known else "install one: ray-ext install FOLDER",
        details={"installed": known},
    )


def _start_counting(connection: Connection, extension: str) -> None:
    """From 0, unless the extension was installed before."""
    counted = connection.execute(select(generations).where(generations.c.extension == extension)).one_or_none()
    if counted is None:
        connection.execute(insert(generations).values(extension=extension, last=0))
