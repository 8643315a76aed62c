"""The part of the store that knows releases."""

from __future__ import annotations

import time

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from ray_ext.errors import ExtensionNotFound, InstallationConflict, OperationConflict, ReleaseConflict
from ray_ext.store.records import AuditEntry, ListedRelease, Release, ReleaseFacts
from ray_ext.store.schema import installations, operations, releases
from ray_ext.store.transactions import Transactions, grow_revision

__all__ = ["ReleaseStore", "delete_release", "put_release", "release_conflict"]

_RELEASE = select(*(column for column in releases.c if column.name != "facts"))
_LISTED = select(*(column for column in releases.c if column.name != "manifest"))


class ReleaseStore(Transactions):
    """Releases are known before, while and after they are installed."""

    def register(self, release: Release, facts: ReleaseFacts, *, audit_entry: AuditEntry | None = None) -> Release:
        """Make a release known without installing it; the same bytes again change nothing.

        Raises :class:`ReleaseConflict` when id and version are known with other bytes.
        """
        what = f"register {release.extension} {release.version}"
        with self._write("register", what, audit_entry=audit_entry) as connection:
            put_release(connection, release, facts)
            found = _find(connection, release.extension, release.version)
            assert found is not None, "it was put there by this transaction"
            return found

    def yank(self, extension: str, version: str, reason: str, *, audit_entry: AuditEntry | None = None) -> None:
        """Keep planning from choosing the release; raises ExtensionNotFound when it is not known."""
        with self._write("yank", f"yank {extension} {version}", audit_entry=audit_entry) as connection:
            _set_yanked(connection, extension, version, reason)

    def unyank(self, extension: str, version: str, *, audit_entry: AuditEntry | None = None) -> None:
        """Take a yank back; raises ExtensionNotFound when the release is not known."""
        with self._write("unyank", f"unyank {extension} {version}", audit_entry=audit_entry) as connection:
            _set_yanked(connection, extension, version, None)

    def forget_release(self, extension: str, version: str, *, audit_entry: AuditEntry | None = None) -> None:
        """Know the release no longer; one that is not known stays so.

        Raises :class:`InstallationConflict` while it is installed, and :class:`OperationConflict` while an operation is
        unfinished: undoing it may need the release.
        """
        with self._write("forget-release", f"forget {extension} {version}", audit_entry=audit_entry) as connection:
            installed = connection.execute(
                select(installations).where(installations.c.extension == extension, installations.c.version == version)
            ).one_or_none()
            if installed is not None:
                raise InstallationConflict(
                    f"{extension} {version} is installed and cannot be forgotten",
                    where=extension,
                    fix=f"install another version, or remove it: ray-ext remove {extension}",
                    details={"id": extension, "installed": version, "offered": None},
                )
            running = connection.execute(
                select(operations.c.operation).where(operations.c.outcome.is_(None)).limit(1)
            ).scalar_one_or_none()
            if running is not None:
                raise OperationConflict(
                    f"{extension} {version} cannot be forgotten while operation {running} is at work",
                    fix="wait until it is finished, then try again",
                    details={"running": running},
                )
            delete_release(connection, extension, version)

    def release(self, extension: str, version: str) -> Release | None:
        """The release, or None."""
        with self._read("read a release") as connection:
            return _find(connection, extension, version)

    def installed_releases(self) -> dict[str, Release]:
        """The releases that are installed, by extension."""
        is_installed = (releases.c.extension == installations.c.extension) & (
            releases.c.version == installations.c.version
        )
        with self._read("read the installed releases") as connection:
            rows = connection.execute(_RELEASE.join_from(releases, installations, is_installed))
            return {row.extension: Release(**row._mapping) for row in rows}

    def list_releases(self, extension: str | None = None) -> list[ListedRelease]:
        """All releases, or those of one extension, by id and version (as text)."""
        query = _LISTED if extension is None else _LISTED.where(releases.c.extension == extension)
        with self._read("list releases") as connection:
            rows = connection.execute(query.order_by(releases.c.extension, releases.c.version))
            return [
                ListedRelease(**{**row._mapping, "facts": msgspec.convert(row.facts, ReleaseFacts)}) for row in rows
            ]


def delete_release(connection: Connection, extension: str, version: str) -> None:
    """Know the release no longer; it must not be installed."""
    found = connection.execute(delete(releases).where(releases.c.extension == extension, releases.c.version == version))
    if found.rowcount:
        grow_revision(connection)


def release_conflict(
    extension: str, version: str, *, known: tuple[str, str], offered: tuple[str, str]
) -> ReleaseConflict:
    """The error of two packages for one id and version, each given by its sha256 and source."""
    return ReleaseConflict(
        f"{extension} {version} is already known with other content",
        where=f"known: sha256 {known[0]} from {known[1]}; offered: sha256 {offered[0]} from {offered[1]}",
        fix="raise the version in extension.toml and pyproject.toml",
        details={"id": extension, "version": version, "known": known[0], "offered": offered[0]},
    )


def put_release(connection: Connection, release: Release, facts: ReleaseFacts | None) -> None:
    """Know the release, with these facts; None keeps the known ones (a new release then has none)."""
    key = (releases.c.extension == release.extension, releases.c.version == release.version)
    known = connection.execute(select(releases).where(*key)).one_or_none()
    now = time.time()
    if known is None:
        connection.execute(
            insert(releases).values(
                extension=release.extension,
                version=release.version,
                sha256=release.sha256,
                manifest=release.manifest,
                source=release.source,
                facts=msgspec.to_builtins(facts or ReleaseFacts()),
                created_at=now,
                updated_at=now,
            )
        )
    elif known.sha256 != release.sha256:
        raise release_conflict(
            release.extension,
            release.version,
            known=(known.sha256, known.source),
            offered=(release.sha256, release.source),
        )
    elif facts is not None and msgspec.convert(known.facts, ReleaseFacts) != facts:
        # The bytes are the same: this ray_ext reads more in them than the one that registered them.
        connection.execute(update(releases).where(*key).values(facts=msgspec.to_builtins(facts), updated_at=now))
    else:
        return
    grow_revision(connection)


def _find(connection: Connection, extension: str, version: str) -> Release | None:
    row = connection.execute(
        _RELEASE.where(releases.c.extension == extension, releases.c.version == version)
    ).one_or_none()
    return None if row is None else Release(**row._mapping)


def _set_yanked(connection: Connection, extension: str, version: str, reason: str | None) -> None:
    release = _find(connection, extension, version)
    if release is None:
        known = select(releases.c.version).where(releases.c.extension == extension).order_by(releases.c.version)
        versions = list(connection.execute(known).scalars())
        installed = select(installations.c.extension).order_by(installations.c.extension)
        raise ExtensionNotFound(
            f"no release {extension} {version} is known",
            fix=f"known: {', '.join(versions)}" if versions else f"register a release of {extension} first",
            details={"known": versions, "installed": list(connection.execute(installed).scalars())},
        )
    if release.yanked_reason != reason:
        connection.execute(
            update(releases)
            .where(releases.c.extension == extension, releases.c.version == version)
            .values(yanked_reason=reason, updated_at=time.time())
        )
        grow_revision(connection)
