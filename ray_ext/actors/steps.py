"""The steps of a plan, each on its own: what it does to the store, the packages and the fleet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
import ray
from msgspec import Struct

from ray_ext.actors.fleet import Fleet
from ray_ext.actors.node_link import NodeLink, StoredLock
from ray_ext.actors.planner import Prepared
from ray_ext.actors.progress import Progress
from ray_ext.errors import RayExtError, StoreFailed
from ray_ext.home import Home
from ray_ext.packages import PackageCache
from ray_ext.packages.environments import Report
from ray_ext.packages.unpacking import remove
from ray_ext.resolve.plans import Step, StepKind
from ray_ext.store.store import AuditEntry, Operation, Store

__all__ = ["DONE", "Blocking", "RecordedPlan", "Run", "Steps"]

_log = logging.getLogger(__name__)

#: The outcome of an operation, or a write, that has succeeded.
DONE = "done"


class Blocking(Protocol):
    """Runs blocking work in order, off the event loop."""

    async def __call__(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The result of ``work``."""


class RecordedPlan(Struct, frozen=True, kw_only=True):
    """What the store keeps of a plan. ``new_releases``, by id and version, are those that it makes known."""

    steps: tuple[Step, ...]
    new_releases: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, operation: Operation) -> RecordedPlan:
        """The plan of an operation."""
        return msgspec.json.decode(operation.plan, type=cls)

    @property
    def encoded(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)


class Run:
    """An operation at work."""

    def __init__(self, prepared: Prepared, begun: Operation, progress: Progress) -> None:
        self.prepared = prepared
        self.operation = begun.operation
        self.before = begun.before
        self.plan = RecordedPlan.of(begun)
        self.progress = progress
        self.done: list[Step] = []
        #: The locked Python packages of the extensions whose environment was provided, encoded.
        self.locks: dict[str, str] = {}

    @property
    def attempted(self) -> tuple[Step, ...]:
        """The steps that are done, and the one at work."""
        return self.plan.steps[: len(self.done) + 1]

    def entry(self, verb: str, outcome: str, detail: dict[str, Any], step: Step | None = None) -> AuditEntry:
        """An entry of the audit trail about a step, or about the operation as a whole."""
        return AuditEntry(
            actor=self.prepared.command.actor,
            verb=verb,
            outcome=outcome,
            operation=self.operation,
            extension=self.prepared.subject if step is None else step.extension,
            version=None if step is None else step.version,
            detail=detail,
        )


class Steps:
    """Takes steps, and what follows them."""

    def __init__(
        self, home: Home, store: Store, packages: PackageCache, fleet: Fleet, node: NodeLink, blocking: Blocking
    ) -> None:
        self._home = home
        self._store = store
        self._packages = packages
        self._fleet = fleet
        self._node = node
        self._blocking = blocking

    async def take(self, step: Step, run: Run) -> None:
        """Take one step; raises what refused it. All that it does can be undone."""
        extension, command = step.extension, run.prepared.command
        match step.kind:
            case StepKind.ENVIRONMENT:
                requirements = list(run.prepared.arrivals[extension].facts.requirements)
                environment = await self._node.provide(requirements, None, command.sources, _teller(run.progress))
                run.locks[extension] = StoredLock(lock=environment.lock, sources=command.sources).encoded
            case StepKind.INSTALL:
                await self._install(step, run)
            case StepKind.LOAD:
                await self._blocking(self._store.set_desired, extension, "loaded")
                await self._fleet.start(extension)
            case StepKind.UNLOAD:
                is_returning = any(
                    each.kind is StepKind.LOAD and each.extension == extension for each in run.plan.steps
                )
                if not is_returning:
                    await self._blocking(self._store.set_desired, extension, "unloaded")
                await self._fleet.stop(extension, command.grace_s, is_returning=is_returning)
            case StepKind.REMOVE:
                entry = run.entry("remove", DONE, {}, step)
                await self._blocking(self._store.remove, extension, audit_entry=entry)
            case StepKind.PURGE:
                pass  # it cannot be undone: tidy() does it, when nothing is to be undone any more

    async def _install(self, step: Step, run: Run) -> None:
        arrival = run.prepared.arrivals[step.extension]
        if arrival.offer is not None:
            await self.keep(arrival.offer.wheel)
        old = await self._blocking(self._store.installation, step.extension)
        is_same = old is not None and old.version == step.version
        detail = {"configuration_keys": sorted(arrival.configuration), "grant": arrival.grant}
        await self._blocking(
            self._store.install,
            arrival.release,
            arrival.configuration,
            arrival.grant,
            facts=arrival.facts,
            lock=old.lock if is_same and step.extension not in run.locks else run.locks.get(step.extension),
            claims=arrival.claims,
            audit_entry=run.entry("install", DONE, detail, step),
        )

    async def keep(self, wheel: bytes) -> None:
        """Put a package into the cache."""
        try:
            await self._blocking(self._packages.add, wheel)
        except OSError as error:
            raise StoreFailed(
                f"the package could not be kept: {error}",
                where=str(self._home.packages),
                fix="check the free space and the rights of the state home",
            ) from error

    # ---- after an operation

    async def tidy(self, steps: Sequence[Step]) -> None:
        """Delete what nothing needs after the last operation, which took these steps; doing it twice is harmless.

        Raises nothing: what it leaves behind, the next one deletes.
        """
        try:
            for step in steps:
                if step.kind is StepKind.REMOVE:
                    await self._blocking(remove, self._home.log_file(step.extension).parent)
                elif step.kind is StepKind.PURGE:
                    await self._blocking(remove, self._home.data_dir(step.extension))
            await self.collect_packages()
            if {StepKind.INSTALL, StepKind.REMOVE} & {step.kind for step in steps}:
                await self.collect_environments(is_thorough=False)
        except (OSError, RayExtError, ray.exceptions.RayError):
            _log.exception("something that nothing needs is still there")

    async def collect_packages(self) -> int:
        """Remove the packages of releases that are not known; returns the bytes freed."""
        releases = await self._blocking(self._store.list_releases)
        freed: int = await self._blocking(self._packages.collect, {each.sha256 for each in releases})
        return freed

    async def collect_environments(self, *, is_thorough: bool) -> int:
        """Remove the environments of what is not installed; returns the bytes freed."""
        installations = await self._blocking(self._store.list_installations)
        keep = [StoredLock.decoded(each.lock).lock.digest for each in installations if each.lock is not None]
        return await self._node.collect(keep, is_thorough=is_thorough)


def _teller(progress: Progress) -> Report:
    return lambda news: progress.tell(f"{news.stage}: {news.text}")
