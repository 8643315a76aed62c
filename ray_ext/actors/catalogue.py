"""What changes no installation: known releases, and what nothing needs any more. Each is applied once for its id."""

from __future__ import annotations

from ray_ext.actors.planner import Planner, facts_of, release_of
from ray_ext.actors.steps import DONE, Blocking, Steps
from ray_ext.actors.turns import Turns
from ray_ext.actors.undertaking import other_operation
from ray_ext.store.operations import attempt_name
from ray_ext.store.store import AuditEntry, ListedRelease, Operation, Store

__all__ = ["Catalogue"]


class Catalogue:
    """Belongs to the registry's event loop. ``operation`` ids are found again in the audit, which outlives a registry.

    Every method raises OperationConflict where the id stands for something else.
    """

    def __init__(self, store: Store, planner: Planner, steps: Steps, turns: Turns, blocking: Blocking) -> None:
        self._store = store
        self._planner = planner
        self._steps = steps
        self._turns = turns
        self._blocking = blocking

    async def register(self, wheel: bytes, source: str, actor: str, operation: str) -> ListedRelease:
        """Make a package's release known without installing it; raises ReleaseConflict and what refuses packages."""
        async with self._turns.take("register a release"):
            offer = await self._blocking(self._planner.check, wheel, source)
            release, facts = release_of(offer.source, offer.sha256, source), facts_of(offer.source.manifest)
            entry = AuditEntry(
                actor=actor,
                verb="register",
                outcome=DONE,
                operation=operation,
                extension=release.extension,
                version=release.version,
            )
            applied = await self._applied(entry)
            if applied is None:
                await self._steps.keep(wheel)
                await self._blocking(self._store.register, release, facts, audit_entry=entry)
            for listed in await self._blocking(self._store.list_releases, release.extension):
                if listed.version == release.version:
                    return listed  # type: ignore[no-any-return]
        assert applied is not None, "it was registered just now"
        # Somebody has forgotten it since: the answer is the same, and it stays forgotten.
        return ListedRelease(
            extension=release.extension,
            version=release.version,
            sha256=release.sha256,
            source=release.source,
            facts=facts,
            yanked_reason=None,
            created_at=applied.at,
            updated_at=applied.at,
        )

    async def yank(self, extension: str, version: str, reason: str | None, actor: str, operation: str) -> None:
        """Keep plans from choosing a release; None takes that back."""
        verb = "unyank" if reason is None else "yank"
        entry = AuditEntry(
            actor=actor, verb=verb, outcome=DONE, operation=operation, extension=extension, version=version
        )
        async with self._turns.take(f"{verb} {extension} {version}"):
            if await self._applied(entry) is not None:
                return
            if reason is None:
                await self._blocking(self._store.unyank, extension, version, audit_entry=entry)
            else:
                await self._blocking(self._store.yank, extension, version, reason, audit_entry=entry)

    async def forget(self, extension: str, version: str, actor: str, operation: str) -> None:
        """Know a release no longer, and delete its package; raises InstallationConflict where it is installed."""
        entry = AuditEntry(
            actor=actor, verb="forget", outcome=DONE, operation=operation, extension=extension, version=version
        )
        async with self._turns.take(f"forget {extension} {version}"):
            if await self._applied(entry) is None:
                await self._blocking(self._store.forget_release, extension, version, audit_entry=entry)
            await self._steps.collect_packages()

    async def collect(self, actor: str, operation: str) -> int:
        """Remove the packages, environments and downloads that nothing needs; returns the bytes freed."""
        async with self._turns.take("collect what nothing needs"):
            entry = AuditEntry(actor=actor, verb="collect", outcome=DONE, operation=operation)
            applied = await self._applied(entry)
            if applied is not None:
                return int(applied.detail["bytes"])
            freed = await self._steps.collect_packages() + await self._steps.collect_environments(is_thorough=True)
            entry = AuditEntry(actor=actor, verb="collect", outcome=DONE, operation=operation, detail={"bytes": freed})
            await self._blocking(self._store.record, entry)
            return freed

    async def _applied(self, wanted: AuditEntry) -> AuditEntry | None:
        """The entry of the same operation, if it was applied before."""
        assert wanted.operation is not None
        found: AuditEntry | None = await self._blocking(self._store.audit_of, wanted.operation)
        if found is not None:
            if (found.verb, found.extension, found.version, found.outcome) != (
                wanted.verb,
                wanted.extension,
                wanted.version,
                DONE,
            ):
                raise other_operation(wanted.operation, f"{found.verb} {found.extension or ''}".rstrip())
            return found
        attempt: Operation | None = await self._blocking(self._store.operation, attempt_name(wanted.operation, 1))
        if attempt is not None:
            raise other_operation(wanted.operation, f"{attempt.verb} {attempt.subject}")
        return None
