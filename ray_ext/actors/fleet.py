"""The fleet: every host of this runtime, started, watched, replaced and ended by the registry."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import ray

from ray_ext.actors.hosts import Hosts, awaited, end_host, exit_of, open_host
from ray_ext.actors.node_link import NodeLink, StoredLock
from ray_ext.actors.spares import Spares
from ray_ext.actors.spec import Exit, InstanceSpec
from ray_ext.calling.names import host_name
from ray_ext.control.views import InstanceStatus
from ray_ext.errors import ExtensionCrashed, RayExtError
from ray_ext.home import Home
from ray_ext.manifests import ManifestSource, read_wheel, secret_texts
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

_ADOPTION_S = 10.0
#: How long what is started by supervision waits for what it depends on, in seconds.
_DEPENDENCIES_S = 60.0


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
        self._hosts = Hosts(namespace)
        self.spares = Spares(spares, self._hosts.create)

    # ---- what is

    def live(self) -> set[str]:
        """The extensions of which an instance serves."""
        return set(self._live)

    def busy(self) -> set[str]:
        """The same, and those that supervision is about to start."""
        return {*self._live, *self._restarts}

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
        """Start a new generation and route to it; raises what refused it."""
        self._starting.add(extension)
        try:
            await self.stop(extension, 0.0)  # the attempt, or instance, of supervision gives way
            await self._start(extension)
        finally:
            self._starting.discard(extension)

    async def _start(self, extension: str) -> None:
        try:
            await self._start_generation(extension)
        except RayExtError as error:
            self._reasons[extension] = error.what
            raise

    async def _start_generation(self, extension: str) -> None:
        installation: Installation = await self._blocking(self._store.installation, extension)
        release = await self._blocking(self._store.release, extension, installation.version)
        source, code = await self._blocking(self._code, release.sha256)
        code_paths = [str(code), *await self._environment(installation)]
        generation: int = await self._blocking(self._store.next_generation, extension)
        spec = self._spec(source, code_paths, installation, generation)
        name, actor = self._host(source.manifest.resources, extension, generation)
        try:
            methods = await open_host(actor, spec, source.manifest.resources)
            route = await self._publish(spec, name, methods)
        except BaseException:
            end_host(actor)
            raise
        self._go_live(_Live(route, actor, methods))
        _log.info("%s %s is loaded as generation %d", extension, installation.version, generation)

    async def _publish(self, spec: InstanceSpec, host: str, methods: list[ExportedMethod]) -> Route:
        route = Route(
            extension=spec.metadata.id,
            version=spec.metadata.version,
            generation=spec.generation,
            epoch=await self._next_epoch(),
            host=host,
            is_trusted=spec.is_trusted,
            payload_limit=Limits.for_memory(spec.memory_bytes).payload_bytes,
            methods={method.name: method.idempotent for method in methods},
        )
        try:
            await self._blocking(self._store.put_route, _stored(route))
        except BaseException:
            # Given up, but perhaps written: the store must not route to a host that is ended.
            await self._retire(route, Exit(kind="stopped", cause="its start was given up"))
            raise
        return route

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
            secrets=secret_texts(source.configuration_schema, installation.configuration),
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
        return name, self._hosts.create(name, resources)

    def _go_live(self, live: _Live) -> None:
        extension = live.route.extension
        self._live[extension] = live
        self._reasons.pop(extension, None)
        live.watch = asyncio.create_task(self._watch(live))
        self._notify(live.route.epoch)

    # ---- watch and restart

    async def _watch(self, live: _Live) -> None:
        gone = await exit_of(live.actor)
        extension = live.route.extension
        _log.warning("%s generation %d is gone: %s (%s)", extension, live.route.generation, gone.kind, gone.cause)
        # At once, in one turn of the loop: whoever stops the extension finds an instance, or its restart.
        del self._live[extension]
        if not self._is_closing:
            self._reasons[extension] = f"{gone.kind}: {gone.cause}"
            self.restart(extension)
        await self._bury(live, gone)

    async def _bury(self, live: _Live, gone: Exit) -> None:
        if gone.kind == "stopped":
            _log.info("%s generation %d ended: %s", live.route.extension, live.route.generation, gone.cause)
        # The host keeps unacknowledged replies for its callers a little longer; then it goes.
        asyncio.get_running_loop().call_later(5.0, end_host, live.actor)
        self._notify(await self._next_epoch())
        await self._retire(live.route, gone)

    async def _retire(self, route: Route | StoredRoute, gone: Exit) -> None:
        await self._blocking(
            self._store.retire,
            Tombstone(
                extension=route.extension,
                generation=route.generation,
                kind=gone.kind,
                cause=gone.cause,
                ended_at=time.time(),
            ),
        )

    async def _restart(self, extension: str) -> None:
        policy = self._policies.setdefault(extension, RestartPolicy())
        while self._restarts.get(extension) is asyncio.current_task():
            await asyncio.sleep(policy.delay_after_loss(time.monotonic()))
            try:
                await self._wait_for_dependencies(extension)
                _log.info("starting %s", extension)
                await self._start(extension)
            except Exception:  # noqa: BLE001 - whatever it was, a full disk say: the next attempt may fare better
                _log.exception("%s could not be restarted", extension)
            else:
                del self._restarts[extension]
                return

    async def _wait_for_dependencies(self, extension: str) -> None:
        """Until those of its dependencies run that are being started, too; for a while."""
        installation = await self._blocking(self._store.installation, extension)
        releases = await self._blocking(self._store.list_releases, extension)
        needed = {need for each in releases if each.version == installation.version for need in each.facts.dependencies}
        try:
            async with asyncio.timeout(_DEPENDENCIES_S):
                while missing := sorted(needed & self._restarts.keys()):
                    self._reasons[extension] = f"it waits for {', '.join(missing)}"
                    await self._changed.wait()
        except TimeoutError:
            _log.warning("%s is started without %s", extension, ", ".join(missing))

    # ---- stop

    async def stop(self, extension: str, grace_s: float, *, is_returning: bool = False) -> None:
        """End the instance, and any attempt to start one. ``is_returning``: :meth:`start` follows."""
        if is_returning:
            self._starting.add(extension)
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
            gone = await asyncio.wait_for(awaited(live.actor.stop.remote(grace_s)), 2 * grace_s + 15.0)
        except (ray.exceptions.RayError, TimeoutError) as error:
            _log.warning("%s did not stop in order: %s", extension, error)
        await self._bury(live, gone)

    async def _end_restart(self, extension: str) -> None:
        restart = self._restarts.pop(extension, None)
        if restart is not None:
            restart.cancel()
            await asyncio.wait({restart})

    async def close(self, grace_s: float) -> None:
        """End every instance, and every spare host."""
        self._is_closing = True
        self.spares.close()
        stops = [self.stop(extension, grace_s) for extension in self.busy()]
        for ended in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(ended, BaseException):
                _log.error("an instance did not end in order: %s", ended)
        for name in self._hosts.names():
            self._hosts.end(name)

    # ---- after a start of the registry

    async def reconcile(self, undone: Collection[str]) -> None:
        """Make the hosts that run and the store agree; no host is adopted of the extensions in ``undone``."""
        self._epoch = await self._next_epoch()
        installed = await self._installed()
        stored: list[StoredRoute] = await self._blocking(self._store.list_routes)
        await asyncio.gather(*(self._adopt(each, installed.get(each.extension), undone) for each in stored))
        known = {live.route.host for live in self._live.values()}
        for name in self._hosts.names():
            if name not in known:
                _log.warning("ending %s, which the store does not know", name)
                self._hosts.end(name)
        self._start_missing(installed)
        self.spares.fill()

    async def follow(self, undone: Collection[str]) -> None:
        """Stop what the store does not want, and the instances of ``undone``; start what it wants in the background."""
        installed = await self._installed()
        for extension, live in list(self._live.items()):
            if extension in undone or not _is_wanted(live.route, installed.get(extension)):
                await self.stop(extension, 0.0)
        self._start_missing(installed)

    async def _installed(self) -> dict[str, Installation]:
        return {each.extension: each for each in await self._blocking(self._store.list_installations)}

    def _start_missing(self, installed: Mapping[str, Installation]) -> None:
        busy = self.busy()
        for extension, installation in installed.items():
            if installation.desired == "loaded" and extension not in busy:
                self.restart(extension)

    def restart(self, extension: str) -> None:
        """Start it in the background, again and again until it runs."""
        self._restarts[extension] = asyncio.create_task(self._restart(extension))

    async def _adopt(self, stored: StoredRoute, installation: Installation | None, undone: Collection[str]) -> None:
        route = decode_route(stored.route)
        if stored.extension in self._live:
            return  # adopted by an earlier attempt to start the registry
        try:
            if stored.extension in undone or not _is_wanted(route, installation):
                raise ValueError("an operation was undone")
            actor = self._hosts.find(stored.host)
            methods = await asyncio.wait_for(awaited(actor.ping.remote()), _ADOPTION_S)
        except (ValueError, ray.exceptions.RayError, TimeoutError) as error:
            cause = f"it was gone, or to go, when the registry started ({error})"
            await self._retire(stored, Exit(kind="host-lost", cause=cause))
            return
        self._go_live(_Live(route, actor, methods or []))
        _log.info("%s generation %d was found running", route.extension, route.generation)


def _is_wanted(route: Route, installation: Installation | None) -> bool:
    return installation is not None and (installation.version, installation.desired) == (route.version, "loaded")


def _stored(route: Route) -> StoredRoute:
    return StoredRoute(
        extension=route.extension,
        generation=route.generation,
        epoch=route.epoch,
        host=route.host,
        route=encode_route(route),
    )
