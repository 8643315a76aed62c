"""The registry actor: installations, instances and routes. What it acknowledges is in the store first.

It is a shell: the store decides what is recorded, :mod:`ray_ext.actors.fleet` runs the hosts, the packages and
manifests decide what may be installed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import ray

import ray_ext
from ray_ext.actors.fleet import Fleet
from ray_ext.actors.home import Home
from ray_ext.actors.node_agent import NodeStatus, ensure_node_agent
from ray_ext.actors.views import ExtensionView, RuntimeView
from ray_ext.errors import (
    ExtensionNotFound,
    ExtensionNotLoaded,
    GrantRequired,
    InstallationConflict,
    RayExtError,
)
from ray_ext.manifests import (
    Manifest,
    ManifestSource,
    check_runtime_version,
    read_wheel,
    redact,
    refuse_unlanded,
    validate_configuration,
)
from ray_ext.packages import PackageCache, StoredPackage
from ray_ext.routing.routes import Route
from ray_ext.store.store import Installation, Release, Store

__all__ = ["Registry"]

#: How long a node agent may take to say how it is, in seconds.
_NODE_S = 5.0

P = ParamSpec("P")
R = TypeVar("R")


class Registry:
    """The actor class. Every method may be sent again after an unknown outcome: all are idempotent."""

    def __init__(self, home: str, namespace: str) -> None:
        self._home = Home(Path(home))
        self._namespace = namespace
        self._started_at = time.time()
        self._store = Store(self._home.store_url)
        self._packages = PackageCache(self._home.packages)
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._fleet = Fleet(self._home, namespace, self._store, self._packages, self._blocking)
        self._locks: dict[str, asyncio.Lock] = {}
        self._starting: asyncio.Task[None] | None = None
        self._node_agent: Any = None
        self._is_closing = False

    async def _blocking(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking work (the store, packages) in order, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*args, **kwargs))

    async def _ready(self) -> None:
        """After a start: find the node agent, adopt the hosts that run, bury those gone, start what should be. Once."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        self._node_agent = await ensure_node_agent(self._home, self._namespace)
        await self._fleet.reconcile(await self._node_agent.status.remote())

    def _lock(self, extension: str) -> asyncio.Lock:
        return self._locks.setdefault(extension, asyncio.Lock())

    # ---- operations

    async def ping(self) -> int:
        """The registry's process id, once it is ready."""
        await self._ready()
        return os.getpid()

    async def install(
        self, wheel: bytes, configuration: dict[str, Any] | None, grant: str, source: str
    ) -> ExtensionView:
        """Record a package as the installation of its extension. Executes none of its code.

        ``configuration`` None keeps that of an existing installation.
        """
        await self._ready()
        stored = await self._blocking(self._packages.add, wheel)
        manifest = stored.source.manifest
        check_runtime_version(manifest, ray_ext.__version__)
        refuse_unlanded(manifest)
        _check_grant(stored.source.manifest, grant, source)
        async with self._lock(manifest.id):
            old = await self._blocking(self._store.installation, manifest.id)
            if configuration is None:
                configuration = old.configuration if old is not None else {}
            values = validate_configuration(stored.source.configuration_schema, configuration)
            await self._check_not_running(stored, old, values, source)
            release = Release(
                extension=manifest.id,
                version=manifest.version,
                sha256=stored.sha256,
                manifest=stored.source.text.encode(),
                source=source,
            )
            installation = await self._blocking(self._store.install, release, values, grant)
        return await self._view(installation)

    async def _check_not_running(
        self, stored: StoredPackage, old: Installation | None, configuration: dict[str, Any], source: str
    ) -> None:
        if old is None or not self._fleet.is_busy(old.extension):
            return
        offered = stored.source.manifest.version
        if old.version == offered and old.configuration == configuration:
            return
        changed = "version" if old.version != offered else "configuration"
        raise InstallationConflict(
            f"{old.extension} {old.version} is loaded; its {changed} cannot change while it runs",
            where=f"installed: {old.version}; offered: {offered} from {source}",
            fix=f"unload it first: ray-ext unload {old.extension}",
            details={"id": old.extension, "installed": old.version, "offered": offered},
        )

    async def load(self, extension: str) -> ExtensionView:
        """Start the extension's instance; returns when it takes calls. An extension that is loaded stays as it is."""
        await self._ready()
        async with self._lock(extension):
            installation = await self._installation(extension)
            if not self._fleet.is_live(extension):
                await self._blocking(self._store.set_desired, extension, "loaded")
                try:
                    await self._fleet.start(extension)
                except RayExtError:
                    await self._blocking(self._store.set_desired, extension, "unloaded")
                    await self._fleet.stop(extension, 0.0)
                    raise
            installation = await self._installation(extension)
        return await self._view(installation)

    async def unload(self, extension: str, grace_s: float) -> ExtensionView:
        """End the instance: no new calls, running ones get ``grace_s`` seconds, then ``on_unload``."""
        await self._ready()
        await self._installation(extension)
        async with self._lock(extension):
            await self._blocking(self._store.set_desired, extension, "unloaded")
            await self._fleet.stop(extension, grace_s)
            installation = await self._installation(extension)
        return await self._view(installation)

    async def list_extensions(self) -> list[ExtensionView]:
        """Every installation, by id."""
        await self._ready()
        return [await self._view(each) for each in await self._blocking(self._store.list_installations)]

    async def show(self, extension: str) -> ExtensionView:
        """One installation with its instance's figures."""
        await self._ready()
        return await self._view(await self._installation(extension), is_detailed=True)

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
            nodes=await self._nodes(),
            extensions=await self.list_extensions(),
        )

    async def _nodes(self) -> list[NodeStatus]:
        try:
            return [await asyncio.wait_for(_await(self._node_agent.status.remote()), _NODE_S)]
        except (ray.exceptions.RayError, TimeoutError):
            return []

    async def route(self, extension: str, newer_than: int, wait_s: float) -> Route:
        """The route to the extension's instance of a generation above ``newer_than``.

        Waits up to ``wait_s`` seconds for one that is starting. Raises ExtensionNotFound, ExtensionNotLoaded, or
        ExtensionCrashed with the last cause when there is none in time.
        """
        await self._ready()
        if (route := self._fleet.route(extension, newer_than)) is not None:
            return route
        installation = await self._installation(extension)
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
        await self._fleet.close(grace_s)
        ray.kill(self._node_agent)
        await self._blocking(self._store.close)

    # ---- views

    async def _installation(self, extension: str) -> Installation:
        found = await self._blocking(self._store.installation, extension)
        if found is None:
            known = [each.extension for each in await self._blocking(self._store.list_installations)]
            raise ExtensionNotFound(
                f"no extension {extension[:200]!r} is installed",
                fix=f"installed: {', '.join(known)}" if known else "install one: ray-ext install FOLDER",
                details={"installed": known},
            )
        return found

    async def _view(self, installation: Installation, *, is_detailed: bool = False) -> ExtensionView:
        release = await self._blocking(self._store.release, installation.extension, installation.version)
        assert release is not None, "the store's foreign key binds every installation to its release"
        source = await self._blocking(self._source, release.sha256)
        manifest = source.manifest
        state, reason = self._fleet.state(manifest.id, installation.desired)
        route = self._fleet.route(manifest.id, 0)
        return ExtensionView(
            id=manifest.id,
            version=manifest.version,
            sha256=release.sha256,
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
            source=release.source,
            created_at=installation.created_at,
            updated_at=installation.updated_at,
            configuration=redact(source.configuration_schema, installation.configuration),
            methods=self._fleet.methods(manifest.id),
            last_exit=await self._blocking(self._store.last_tombstone, manifest.id),
            instance=await self._fleet.instance_status(manifest.id) if is_detailed else None,
        )

    def _source(self, sha256: str) -> ManifestSource:
        return read_wheel(self._packages.wheel(sha256))


async def _await(reference: Awaitable[Any]) -> Any:
    return await reference


def _check_grant(manifest: Manifest, grant: str, source: str) -> None:
    if manifest.isolation == "trusted" and grant != "requested":
        raise GrantRequired(
            f'{manifest.id} asks for isolation = "trusted": its code would run inside its host, without confinement',
            where=source,
            fix='grant exactly that with grant="requested" (CLI: --grant requested), or set isolation = "strict"',
            details={"missing": ["isolation: trusted"]},
        )
