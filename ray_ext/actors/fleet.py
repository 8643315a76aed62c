"""The fleet: every host of this runtime, started, watched, replaced and ended by the registry."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_ext.actors.home import Home
from ray_ext.actors.host import MAX_CONCURRENCY, Host
from ray_ext.actors.names import CONTROL, host_name
from ray_ext.actors.node_link import NodeLink, StoredLock
from ray_ext.actors.spares import Spares
from ray_ext.actors.spec import Exit, InstanceSpec, InstanceStatus
from ray_ext.errors import ExtensionCrashed, InsufficientResources, RayExtError
from ray_ext.manifests import ManifestSource, read_wheel
from ray_ext.manifests.metadata import metadata_of
from ray_ext.manifests.model import Resources
from ray_ext.packages import PackageCache
from ray_ext.routing.ledger import Limits
from ray_ext.routing.routes import Route, decode_route, encode_route
from ray_ext.store.store import Installation, Store, StoredRoute, Tombstone
from ray_ext.supervise.restart import RestartPolicy
from ray_ext.wire import values
from ray_ext.wire.messages import ExportedMethod

__all__ = ["Fleet"]

_log = logging.getLogger(__name__)

#: What a host itself needs beside its guest, for Ray's scheduler.
HOST_MEMORY_BYTES = 64 * 1024 * 1024
#: How long Ray may take to place a host, in seconds.
_PLACEMENT_S = 30.0
_ADOPTION_S = 10.0


class _Blocking(Protocol):
    async def __call__(self, work: Callable[..., Any], *args: Any) -> Any: ...


class _Live:
    """A host that serves."""

    def __init__(self, route: Route, actor: Any, methods: list[ExportedMethod]) -> None:
        self.route = route
        self.actor = actor
        self.methods = {method.name: method.signature for method in methods}
        self.watch: asyncio.Task[None] | None = None


class Fleet:
    """Belongs to the registry's event loop."""

    def __init__(
        self,
        home: Home,
        namespace: str,
        store: Store,
        packages: PackageCache,
        node: NodeLink,
        blocking: _Blocking,
        *,
        spares: int,
    ) -> None:
        self._home = home
        self._namespace = namespace
        self._store = store
        self._packages = packages
        self._node = node
        self._blocking = blocking
        self._live: dict[str, _Live] = {}
        self._policies: dict[str, RestartPolicy] = {}
        self._restarts: dict[str, asyncio.Task[None]] = {}
        self._reasons: dict[str, str] = {}
        self._starting: set[str] = set()
        self._changed = asyncio.Event()
        self._is_closing = False
        self._epoch = 0
        self.spares = Spares(spares, self._create_spare)

    # ---- what is

    def is_live(self, extension: str) -> bool:
        """Whether an instance serves."""
        return extension in self._live

    def is_busy(self, extension: str) -> bool:
        """Whether an instance serves, or one is being started."""
        return extension in self._live or extension in self._starting or extension in self._restarts

    def busy(self) -> set[str]:
        """Every extension of which that is true."""
        return {*self._live, *self._starting, *self._restarts}

    def route(self, extension: str, newer_than: int) -> Route | None:
        """The route, when its generation is above ``newer_than``."""
        live = self._live.get(extension)
        return live.route if live is not None and live.route.generation > newer_than else None

    def methods(self, extension: str) -> dict[str, str]:
        """What the instance exports, with signatures."""
        live = self._live.get(extension)
        return {} if live is None else live.methods

    def state(self, extension: str, desired: str) -> tuple[str, str]:
        """The actual state, and why it differs from the desired one."""
        if extension in self._live:
            return "loaded", ""
        if extension in self._restarts:
            return "restarting", self._reasons.get(extension, "")
        if extension in self._starting:
            return "loading", ""
        return ("unloaded", "") if desired == "unloaded" else ("failed", self._reasons.get(extension, ""))

    async def instance_status(self, extension: str) -> InstanceStatus | None:
        """The live instance's figures, from its host."""
        live = self._live.get(extension)
        if live is None:
            return None
        try:
            status: InstanceStatus = await asyncio.wait_for(live.actor.status.remote(), 5.0)
        except (ray.exceptions.RayError, TimeoutError):
            return None
        return status

    async def wait_for_route(self, extension: str, newer_than: int, wait_s: float) -> Route:
        """The next route above ``newer_than``; raises ExtensionCrashed when none comes in time."""
        try:
            async with asyncio.timeout(wait_s):
                while (route := self.route(extension, newer_than)) is None:
                    await self._changed.wait()
        except TimeoutError:
            reason = self._reasons.get(extension) or "it is still starting"
            raise ExtensionCrashed(
                f"{extension} has no running instance: {reason}",
                where=extension,
                fix=f"see its log: ray-ext logs {extension}",
                details={"cause": reason},
            ) from None
        return route

    async def table_after(self, epoch: int, wait_s: float) -> tuple[int, list[Route]]:
        """The routing table and its epoch, when that is above ``epoch`` or ``wait_s`` seconds have passed."""
        try:
            async with asyncio.timeout(wait_s):
                while self._epoch <= epoch:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self._epoch, [live.route for live in self._live.values()]

    async def _next_epoch(self) -> int:
        epoch: int = await self._blocking(self._store.next_epoch)
        return epoch

    def _notify(self, epoch: int) -> None:
        """The table has changed, which nobody may see under its new epoch before."""
        self._epoch = max(self._epoch, epoch)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # ---- start

    async def start(self, extension: str) -> None:
        """Start a new generation and route to it; raises what refused it. One attempt of supervision gives way."""
        await self._end_restart(extension)
        self._starting.add(extension)
        try:
            await self._start(extension)
        except RayExtError as error:
            self._reasons[extension] = error.what
            raise
        finally:
            self._starting.discard(extension)

    async def _start(self, extension: str) -> None:
        installation: Installation = await self._blocking(self._store.installation, extension)
        release = await self._blocking(self._store.release, extension, installation.version)
        source, code = await self._blocking(self._code, release.sha256)
        code_paths = [str(code), *await self._environment(installation)]
        generation: int = await self._blocking(self._store.next_generation, extension)
        spec = self._spec(source, code_paths, installation, generation)
        name, actor = self._host(source.manifest.resources, extension, generation)
        try:
            methods = await self._open(extension, source, actor, spec)
        except BaseException:
            ray.kill(actor)
            raise
        manifest = source.manifest
        route = Route(
            extension=extension,
            version=manifest.version,
            generation=generation,
            epoch=await self._next_epoch(),
            host=name,
            is_trusted=spec.is_trusted,
            payload_limit=Limits.for_memory(spec.memory_bytes).payload_bytes,
            methods={method.name: method.idempotent for method in methods},
        )
        await self._blocking(self._store.put_route, _stored(route))
        self._go_live(_Live(route, actor, methods))

    def _code(self, sha256: str) -> tuple[ManifestSource, object]:
        return read_wheel(self._packages.wheel(sha256)), self._packages.unpacked(sha256)

    async def _environment(self, installation: Installation) -> list[str]:
        """The folder of its Python packages; built again if it was damaged or removed."""
        if installation.lock is None:
            return []
        stored = StoredLock.decoded(installation.lock)
        environment = await self._node.provide(
            [],
            stored.lock,
            stored.sources,
            lambda news: _log.info("%s: %s: %s", installation.extension, *(news.stage, news.text)),
        )
        return [environment.path]

    def _spec(
        self, source: ManifestSource, code_paths: list[str], installation: Installation, generation: int
    ) -> InstanceSpec:
        manifest = source.manifest
        return InstanceSpec(
            metadata=metadata_of(manifest),
            generation=generation,
            entry_point=manifest.entry_point,
            is_trusted=manifest.isolation == "trusted",
            code_paths=tuple(code_paths),
            env_vars=dict(manifest.runtime_env.env_vars),
            config=values.encode_value(installation.configuration),
            data_dir=str(self._home.data_dir(manifest.id)),
            log_file=str(self._home.log_file(manifest.id)),
            layer=self._node.layer,
            zygote=self._node.zygote,
            memory_bytes=manifest.resources.memory_bytes,
        )

    def _host(self, resources: Resources, extension: str, generation: int) -> tuple[str, Any]:
        """A host without an instance, by name and handle: a spare one where it fits."""
        spare = self.spares.take() if Spares.fits(resources) else None
        if spare is not None:
            return spare
        name = host_name(extension, generation)
        return name, self._create(name, resources)

    def _create_spare(self, name: str) -> Any:
        return self._create(name, Resources())

    def _create(self, name: str, resources: Resources) -> Any:
        return (
            ray.remote(concurrency_groups={CONTROL: 64})(Host)
            .options(
                name=name,
                namespace=self._namespace,
                lifetime="detached",
                num_cpus=resources.cpus,
                memory=resources.memory_bytes + HOST_MEMORY_BYTES,
                resources=dict(resources.custom),
                label_selector=dict(resources.labels) or None,
                max_restarts=0,
                max_concurrency=MAX_CONCURRENCY,
                # Packages, data and logs are folders of this node.
                scheduling_strategy=NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False),
            )
            .remote()
        )

    async def _open(
        self, extension: str, source: ManifestSource, actor: Any, spec: InstanceSpec
    ) -> list[ExportedMethod]:
        opening = asyncio.ensure_future(_await(actor.open.remote(spec)))
        placed = asyncio.ensure_future(_await(actor.ping.remote()))
        try:
            await asyncio.wait({opening, placed}, timeout=_PLACEMENT_S, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done() and not placed.done():
                raise self._unplaced(extension, source)
            methods: list[ExportedMethod] = await opening
            return methods
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, RayExtError):
                raise cause from None
            raise ExtensionCrashed(
                f"the host of {extension} failed to start: {type(cause).__name__}: {cause}", where=extension
            ) from error
        except ray.exceptions.ActorUnschedulableError:
            raise self._unplaced(extension, source) from None
        except ray.exceptions.RayError as error:
            raise ExtensionCrashed(
                f"the host of {extension} was lost while it started: {error}", where=extension
            ) from error
        finally:
            opening.cancel()
            placed.cancel()

    def _unplaced(self, extension: str, source: ManifestSource) -> InsufficientResources:
        asked = source.manifest.resources
        free = ray.available_resources()
        return InsufficientResources(
            f"Ray found no place for {extension}, which asks for {asked.cpus:g} CPUs and "
            f"{asked.memory_bytes + HOST_MEMORY_BYTES} bytes",
            where=extension,
            fix="unload something, add a node, or lower [resources] in extension.toml",
            details={
                "asked": f"cpus={asked.cpus:g}, memory={asked.memory_bytes + HOST_MEMORY_BYTES}, {dict(asked.custom)}",
                "available": f"cpus={free.get('CPU', 0):g}, memory={int(free.get('memory', 0))}",
            },
        )

    def _go_live(self, live: _Live) -> None:
        extension = live.route.extension
        self._live[extension] = live
        self._reasons.pop(extension, None)
        live.watch = asyncio.create_task(self._watch(live))
        self._notify(live.route.epoch)

    # ---- watch and restart

    async def _watch(self, live: _Live) -> None:
        gone = await _exit_of(live.actor)
        await self._bury(live, gone)
        if self._is_closing:
            return
        extension = live.route.extension
        _log.warning("%s generation %d is gone: %s (%s)", extension, live.route.generation, gone.kind, gone.cause)
        self._reasons[extension] = f"{gone.kind}: {gone.cause}"
        self.restart(extension)

    async def _bury(self, live: _Live, gone: Exit) -> None:
        extension = live.route.extension
        if self._live.get(extension) is live:
            del self._live[extension]
        self._notify(await self._next_epoch())
        await self._blocking(
            self._store.retire,
            Tombstone(
                extension=extension,
                generation=live.route.generation,
                kind=gone.kind,
                cause=gone.cause,
                ended_at=time.time(),
            ),
        )
        # The host keeps unacknowledged replies for its callers a little longer; then it goes.
        asyncio.get_running_loop().call_later(5.0, _kill_quietly, live.actor)

    async def _restart(self, extension: str) -> None:
        policy = self._policies.setdefault(extension, RestartPolicy())
        try:
            while True:
                await asyncio.sleep(policy.delay_after_loss(time.monotonic()))
                try:
                    await self.start(extension)
                except RayExtError as error:
                    _log.warning("%s could not be restarted: %s", extension, error)
                else:
                    return
        finally:
            self._restarts.pop(extension, None)

    # ---- stop

    async def stop(self, extension: str, grace_s: float) -> None:
        """End the instance, and any attempt to start one."""
        await self._end_restart(extension)
        live = self._live.pop(extension, None)
        self._reasons.pop(extension, None)
        if live is None:
            return
        if live.watch is not None:
            live.watch.cancel()
        self._notify(self._epoch)
        gone = Exit(kind="host-lost", cause="it did not answer while it was unloaded")
        try:
            gone = await asyncio.wait_for(_await(live.actor.stop.remote(grace_s)), 2 * grace_s + 15.0)
        except (ray.exceptions.RayError, TimeoutError) as error:
            _log.warning("%s did not stop in order: %s", extension, error)
        await self._bury(live, gone)

    async def _end_restart(self, extension: str) -> None:
        restart = self._restarts.pop(extension, None)
        if restart is not None and restart is not asyncio.current_task():
            restart.cancel()
            await asyncio.wait({restart})

    async def close(self, grace_s: float) -> None:
        """End every instance, and every spare host."""
        self._is_closing = True
        self.spares.close()
        await asyncio.gather(*(self.stop(extension, grace_s) for extension in {*self._live, *self._restarts}))
        for actor in self._hosts():
            _kill_quietly(actor)

    # ---- after a start of the registry

    async def reconcile(self) -> None:
        """Make the hosts that run and the store agree."""
        self._epoch = await self._next_epoch()
        stored: list[StoredRoute] = await self._blocking(self._store.list_routes)
        installed = {each.extension: each for each in await self._blocking(self._store.list_installations)}
        await asyncio.gather(*(self._adopt(each, installed.get(each.extension)) for each in stored))
        known = {live.route.host for live in self._live.values()}
        for name in self._host_names():
            if name not in known:
                _log.warning("ending %s, which the store does not know", name)
                _kill_quietly(ray.get_actor(name, namespace=self._namespace))
        for extension, installation in installed.items():
            if installation.desired == "loaded" and extension not in self._live:
                self.restart(extension)
        self.spares.fill()

    def restart(self, extension: str) -> None:
        """Start it in the background, again and again until it runs."""
        self._restarts[extension] = asyncio.create_task(self._restart(extension))

    async def _adopt(self, stored: StoredRoute, installation: Installation | None) -> None:
        route = decode_route(stored.route)
        try:
            if installation is None or (installation.version, installation.desired) != (route.version, "loaded"):
                raise ValueError("an operation was undone")
            actor = ray.get_actor(stored.host, namespace=self._namespace)
            methods = await asyncio.wait_for(_await(actor.ping.remote()), _ADOPTION_S)
        except (ValueError, ray.exceptions.RayError, TimeoutError) as error:
            cause = f"it was gone, or to go, when the registry started ({error})"
            await self._blocking(
                self._store.retire,
                Tombstone(
                    extension=stored.extension,
                    generation=stored.generation,
                    kind="host-lost",
                    cause=cause,
                    ended_at=time.time(),
                ),
            )
            return
        self._go_live(_Live(route, actor, methods or []))

    def _host_names(self) -> list[str]:
        named = ray.util.list_named_actors(all_namespaces=True)
        return [
            each["name"] for each in named if each["namespace"] == self._namespace and each["name"].startswith("host/")
        ]

    def _hosts(self) -> list[Any]:
        return [ray.get_actor(name, namespace=self._namespace) for name in self._host_names()]


async def _await(reference: Awaitable[Any]) -> Any:
    return await reference


async def _exit_of(actor: Any) -> Exit:
    while True:
        try:
            gone: Exit = await actor.wait_exit.remote()
        except ray.exceptions.ActorUnavailableError:
            await asyncio.sleep(0.2)
        except ray.exceptions.RayActorError as error:
            return Exit(kind="host-lost", cause=str(error).strip().splitlines()[0])
        except ray.exceptions.RayError as error:
            return Exit(kind="host-lost", cause=f"{type(error).__name__}: {error}")
        else:
            return gone


def _kill_quietly(actor: Any) -> None:
    try:
        ray.kill(actor)
    except (ValueError, ray.exceptions.RayError) as error:
        _log.debug("a host was gone before it was ended: %s", error)


def _stored(route: Route) -> StoredRoute:
    return StoredRoute(
        extension=route.extension,
        generation=route.generation,
        epoch=route.epoch,
        host=route.host,
        route=encode_route(route),
    )
