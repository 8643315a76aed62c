"""The registry actor: installations, instances and routes. What it acknowledges is in the store first.

It is a shell: the store decides what is recorded, :mod:`ray_ext.actors.fleet` runs the hosts, the packages and
manifests decide what may be installed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from msgspec import structs

import ray_ext
from ray_ext.actors.catalogue import Catalogue
from ray_ext.actors.fleet import Fleet
from ray_ext.actors.node_link import NodeLink, StoredLock
from ray_ext.actors.operations import Operations
from ray_ext.actors.planner import Planner
from ray_ext.actors.steps import Steps
from ray_ext.actors.system_log import record_system_log
from ray_ext.actors.turns import Turns
from ray_ext.control.commands import Command, PlanView
from ray_ext.control.views import ExtensionView, News, OperationView, ReleaseView, RuntimeView, release_view
from ray_ext.errors import ExtensionNotFound, ExtensionNotLoaded
from ray_ext.home import Home
from ray_ext.manifests import ManifestSource, read_wheel, redact
from ray_ext.packages import PackageCache
from ray_ext.routing.routes import Route
from ray_ext.store.operations import operation_of
from ray_ext.store.store import AuditEntry, Installation, Release, Store, Tombstone

__all__ = ["Registry"]

_log = logging.getLogger(__name__)

#: Manifests that are kept, so that lists are quick.
_MANIFESTS = 1_000

P = ParamSpec("P")
R = TypeVar("R")


class Registry:
    """The actor class. Every method may be sent again after an unknown outcome: all are idempotent."""

    def __init__(self, home: str, namespace: str, spares: int = 1) -> None:
        self._home = Home(Path(home))
        record_system_log(self._home, "registry")
        self._namespace = namespace
        self._started_at = time.time()
        self._store = Store(self._home.store_url)
        self._packages = PackageCache(self._home.packages)
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._node = NodeLink(self._home, namespace)
        self._fleet = Fleet(
            self._home, namespace, self._store, self._packages, self._node, self._blocking, spares=spares
        )
        turns, planner = Turns(), Planner(self._store, self._packages)
        steps = Steps(self._home, self._store, self._packages, self._fleet, self._node, self._blocking)
        self._operations = Operations(self._store, planner, steps, self._fleet, turns, self._blocking)
        self._catalogue = Catalogue(self._store, planner, steps, turns, self._blocking)
        # Verified when it is first read; what is loaded is verified each time.
        self._source = lru_cache(_MANIFESTS)(lambda sha256: read_wheel(self._packages.wheel(sha256)))
        self._starting: asyncio.Task[None] | None = None
        self._is_closing = False

    async def _blocking(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking work (the store, packages) in order, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*args, **kwargs))

    async def _ready(self) -> None:
        """After a start: find the node agent, adopt the hosts that run, bury those gone, start what should be.

        Once; where it fails, for want of space say, the next call tries again.
        """
        if self._starting is None or _has_failed(self._starting):
            self._starting = asyncio.create_task(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        _log.info("the registry starts as process %d with writer epoch %d", os.getpid(), self._store.writer_epoch)
        await self._node.open()
        await self._fleet.reconcile(await self._operations.recover())

    # ---- operations

    async def ping(self) -> int:
        """The registry's process id, once it is ready."""
        await self._ready()
        return os.getpid()

    async def plan(self, command: Command) -> PlanView:
        """What the command would do now, step by step; changes nothing, and runs none of the extension's code."""
        await self._ready()
        return (await self._operations.prepare(command)).view

    async def perform(self, command: Command, operation: str) -> ExtensionView | None:
        """Carry the command out, once for each ``operation``; returns the extension, None when it is removed.

        Raises what refused it, and what a step raised after the others were undone.
        """
        await self._ready()
        extension = await self._operations.perform(command, operation)
        return await self._view(extension)

    async def operation(self, operation: str) -> OperationView | None:
        """An operation that has begun, or has ended; None for one that is not known (any more)."""
        await self._ready()
        return await self._operations.view(operation)

    async def list_operations(self, limit: int) -> list[OperationView]:
        """The last operations, the newest first."""
        await self._ready()
        return await self._operations.views(limit)

    async def news(self, operation: str, after: str, wait_s: float) -> tuple[list[News], bool]:
        """What an operation has told since the news with the id ``after`` (empty: all of it), as soon as there is any,
        or after ``wait_s`` seconds; and whether it is over."""
        await self._ready()
        return await self._operations.news(operation, after, wait_s)

    async def cancel(self, operation: str) -> bool:
        """End an operation and undo what it did; False where it is not at work."""
        await self._ready()
        return await self._operations.cancel(operation)

    async def register(self, wheel: bytes, source: str, actor: str, operation: str) -> ReleaseView:
        """Make a package's release known, for plans to choose; it is not installed."""
        await self._ready()
        return release_view(await self._catalogue.register(wheel, source, actor, operation))

    async def yank(self, extension: str, version: str, reason: str | None, actor: str, operation: str) -> None:
        """Keep plans from choosing a release (None: let them again); where it is installed it stays."""
        await self._ready()
        await self._catalogue.yank(extension, version, reason, actor, operation)

    async def forget(self, extension: str, version: str, actor: str, operation: str) -> None:
        """Know a release no longer; raises InstallationConflict where it is installed."""
        await self._ready()
        await self._catalogue.forget(extension, version, actor, operation)

    async def list_releases(self, extension: str | None) -> list[ReleaseView]:
        """The known releases."""
        await self._ready()
        return [release_view(each) for each in await self._blocking(self._store.list_releases, extension)]

    async def audit(self, extension: str | None, limit: int) -> list[AuditEntry]:
        """The last entries of the audit trail, the newest first."""
        await self._ready()
        entries: list[AuditEntry] = await self._blocking(self._store.list_audit, extension, limit=limit)
        # An attempt's number is between the registry and its store.
        return [
            each if each.operation is None else structs.replace(each, operation=operation_of(each.operation))
            for each in entries
        ]

    async def collect(self, actor: str, operation: str) -> int:
        """Remove packages, environments and downloads that nothing needs; returns the bytes freed."""
        await self._ready()
        return await self._catalogue.collect(actor, operation)

    async def list_extensions(self) -> list[ExtensionView]:
        """Every installation, by id."""
        await self._ready()
        return [self._view_of(each) for each in await self._blocking(self._read_all)]

    async def show(self, extension: str) -> ExtensionView:
        """One installation with its instance's figures."""
        await self._ready()
        view = await self._view(extension, is_detailed=True)
        if view is None:
            raise await self._not_found(extension)
        return view

    async def status(self) -> RuntimeView:
        """The runtime."""
        await self._ready()
        return RuntimeView(
            version=ray_ext.__version__,
            namespace=self._namespace,
            home=str(self._home.root),
            registry_pid=os.getpid(),
            writer_epoch=self._store.writer_epoch,
            started_at=self._started_at,
            nodes=[node for node in [await self._node.status()] if node is not None],
            spare_hosts=self._fleet.spares.ready,
            spare_hosts_wanted=self._fleet.spares.count,
            extensions=await self.list_extensions(),
        )

    async def route(self, extension: str, newer_than: int, wait_s: float) -> Route:
        """The route to the extension's instance of a generation above ``newer_than``.

        Waits up to ``wait_s`` seconds for one that is starting. Raises ExtensionNotFound, ExtensionNotLoaded, or
        ExtensionCrashed with the last cause when there is none in time.
        """
        await self._ready()
        if (route := self._fleet.route(extension, newer_than)) is not None:
            return route
        installation = await self._blocking(self._store.installation, extension)
        if installation is None:
            raise await self._not_found(extension)
        if installation.desired != "loaded" or self._is_closing:
            raise ExtensionNotLoaded(
                f"{extension} is installed but not loaded", fix=f"load it: ray-ext load {extension}"
            )
        return await self._fleet.wait_for_route(extension, newer_than, wait_s)

    async def routes_after(self, epoch: int, wait_s: float) -> tuple[int, list[Route]]:
        """The whole routing table with its epoch, as soon as that is above ``epoch``, or after ``wait_s`` seconds."""
        await self._ready()
        return await self._fleet.table_after(epoch, wait_s)

    async def close(self, grace_s: float) -> None:
        """End every instance in order, keeping the desired states: the next start loads them again."""
        await self._ready()
        self._is_closing = True
        await self._operations.close()
        await self._fleet.close(grace_s)
        self._node.close()
        await self._blocking(self._store.close)

    # ---- views

    async def _not_found(self, extension: str) -> ExtensionNotFound:
        known = [each.extension for each in await self._blocking(self._store.list_installations)]
        return ExtensionNotFound(
            f"no extension {extension[:200]!r} is installed",
            fix=f"installed: {', '.join(known)}" if known else "install one: ray-ext install FOLDER",
            details={"installed": known},
        )

    async def _view(self, extension: str, *, is_detailed: bool = False) -> ExtensionView | None:
        """None when it is not installed, or not any more."""
        installed: _Installed | None = await self._blocking(self._read, extension)
        if installed is None:
            return None
        view = self._view_of(installed)
        return structs.replace(view, instance=await self._fleet.instance_status(extension)) if is_detailed else view

    def _view_of(self, installed: _Installed) -> ExtensionView:
        installation, source = installed.installation, installed.source
        manifest = source.manifest
        packages = [] if installation.lock is None else list(StoredLock.decoded(installation.lock).lock.packages)
        state, reason = self._fleet.state(manifest.id, installation.desired)
        route = self._fleet.route(manifest.id, 0)
        return ExtensionView(
            id=manifest.id,
            version=manifest.version,
            sha256=installed.release.sha256,
            name=manifest.name,
            description=manifest.description,
            category=manifest.category,
            isolation=manifest.isolation,
            desired=installation.desired,
            state=state,
            reason=reason,
            generation=None if route is None else route.generation,
            cpus=manifest.resources.cpus,
            memory_bytes=manifest.resources.memory_bytes,
            grant=installation.grant,
            source=installed.release.source,
            dependencies=dict(manifest.dependencies),
            python_packages=packages,
            created_at=installation.created_at,
            updated_at=installation.updated_at,
            configuration=redact(source.configuration_schema, installation.configuration),
            methods=self._fleet.methods(manifest.id),
            last_exit=installed.last_exit,
        )

    def _read(self, extension: str) -> _Installed | None:
        """What is installed, in one piece: nothing else reads or writes in between."""
        installation = self._store.installation(extension)
        if installation is None:
            return None
        release = self._store.release(extension, installation.version)
        assert release is not None, "the store's foreign key binds every installation to its release"
        return _Installed(
            installation, release, self._source(release.sha256), self._store.last_tombstone(installation.extension)
        )

    def _read_all(self) -> list[_Installed]:
        """All that is installed, by id, with as many queries for a hundred as for one."""
        releases, exits = self._store.installed_releases(), self._store.last_tombstones()
        return [
            _Installed(each, release, self._source(release.sha256), exits.get(each.extension))
            for each in self._store.list_installations()
            if (release := releases.get(each.extension)) is not None
        ]


class _Installed(NamedTuple):
    installation: Installation
    release: Release
    source: ManifestSource
    last_exit: Tombstone | None


def _has_failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
