"""What the control API's application asks, answered by the registry, the node agents and the extensions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

import ray_ext
from ray_ext.actors.hosts import awaited
from ray_ext.calling.handle import Method
from ray_ext.calling.names import NODE_AGENT_PREFIX
from ray_ext.calling.registry_client import RegistryClient, registry_client
from ray_ext.control.commands import Command, PlanView
from ray_ext.control.differences import differences
from ray_ext.control.views import (
    ActorView,
    ControlView,
    ExtensionView,
    News,
    NodeStatus,
    OperationView,
    ReleaseView,
    RuntimeView,
    StatusView,
)
from ray_ext.errors import RayExtError
from ray_ext.home import Home
from ray_ext.runtime_record import RuntimeRecord, read_record
from ray_ext.store.records import AuditEntry

__all__ = ["RuntimeBackend"]

#: How long ``status`` waits for each part of the runtime, in seconds.
_STATUS_S = 3.0


class RuntimeBackend:
    """Fulfils :class:`ray_ext.control.backend.Backend`. Belongs to one event loop; ``control`` tells of its actor."""

    def __init__(self, home: Home, namespace: str, control: Callable[[], ControlView]) -> None:
        self._home = home
        self._namespace = namespace
        self._registry = registry_client(namespace)
        self._hasty = RegistryClient(namespace, patience_s=_STATUS_S)
        self.control = control

    # ---- the runtime

    async def status(self) -> StatusView:
        """All that is known of the runtime; answers in a few seconds also when the registry does not."""
        record, (registry, runtime), agents = await asyncio.gather(
            asyncio.to_thread(read_record, self._home), self._ask_registry(), self._ask_agents()
        )
        control = self.control()
        actors = [
            _keeper(record),
            registry,
            *agents,
            ActorView(name="control", state="answers", pid=control.pid, detail=control.listen),
        ]
        return StatusView(
            version=ray_ext.__version__,
            kind="" if record is None else record.kind,
            home=str(self._home.root),
            logs=str(self._home.logs),
            namespace=self._namespace,
            address=ray.get_runtime_context().gcs_address,
            dashboard=f"http://{record.dashboard}" if record is not None and record.dashboard else "",
            control=control,
            actors=actors,
            runtime=runtime,
            differences=differences(actors, runtime),
        )

    async def _ask_registry(self) -> tuple[ActorView, RuntimeView | None]:
        try:
            async with asyncio.timeout(_STATUS_S):
                runtime: RuntimeView = await self._hasty.call_async("status")
        except (RayExtError, TimeoutError) as error:
            reason = error.what if isinstance(error, RayExtError) else f"no answer within {_STATUS_S:g} s"
            return ActorView(name="registry", state="away", pid=None, detail=reason.splitlines()[0]), None
        detail = f"writer epoch {runtime.writer_epoch}"
        return ActorView(name="registry", state="answers", pid=runtime.registry_pid, detail=detail), runtime

    async def _ask_agents(self) -> list[ActorView]:
        names = await asyncio.to_thread(_node_agents, self._namespace)
        if not names:
            return [ActorView(name="node agent", state="away", pid=None, detail="there is none")]
        return list(await asyncio.gather(*(self._ask_agent(name) for name in names)))

    async def _ask_agent(self, name: str) -> ActorView:
        shown = f"node agent {name.removeprefix(NODE_AGENT_PREFIX)[:8]}"
        try:
            async with asyncio.timeout(_STATUS_S):
                agent = await asyncio.to_thread(ray.get_actor, name, self._namespace)
                status: NodeStatus = await awaited(agent.status.remote())
        except (ray.exceptions.RayError, ValueError, TimeoutError) as error:
            reason = str(error).splitlines()[0] if str(error) else f"no answer within {_STATUS_S:g} s"
            return ActorView(name=shown, state="away", pid=None, detail=reason)
        detail = "extensions cannot be confined here" if status.zygote_pid is None else f"zygote {status.zygote_pid}"
        return ActorView(name=shown, state="answers", pid=status.pid, detail=detail)

    # ---- extensions

    async def list_extensions(self) -> list[ExtensionView]:
        """Every installation, by id."""
        views: list[ExtensionView] = await self._registry.call_async("list_extensions")
        return views

    async def show(self, extension: str) -> ExtensionView:
        """One installation with its instance's figures; raises ExtensionNotFound."""
        view: ExtensionView = await self._registry.call_async("show", extension)
        return view

    async def call(
        self, extension: str, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout_s: float | None
    ) -> Any:
        """Call an exported method; cancelling this cancels the call."""
        return await Method(self._namespace, extension, method, timeout_s)(*args, **kwargs)

    # ---- operations

    async def plan(self, command: Command) -> PlanView:
        """What the command would do; changes nothing."""
        view: PlanView = await self._registry.call_async("plan", command)
        return view

    async def perform(self, command: Command, operation: str) -> ExtensionView | None:
        """Carry the command out; sent again when the registry is lost meanwhile, which undoes it and begins anew."""
        view: ExtensionView | None = await self._registry.call_async("perform", command, operation)
        return view

    async def operation(self, operation: str) -> OperationView | None:
        """An operation that has begun, or has ended; None for one that the registry does not know (any more)."""
        view: OperationView | None = await self._registry.call_async("operation", operation)
        return view

    async def operations(self, limit: int) -> list[OperationView]:
        """The last operations, the newest first."""
        views: list[OperationView] = await self._registry.call_async("list_operations", limit)
        return views

    async def news(self, operation: str, after: str, wait_s: float) -> tuple[list[News], bool]:
        """What an operation has told since the news with the id ``after``, and whether it is over."""
        news: tuple[list[News], bool] = await self._registry.call_async("news", operation, after, wait_s)
        return news

    async def cancel(self, operation: str) -> bool:
        """End an operation at work, undoing what it did; False where it is not at work."""
        is_cancelled: bool = await self._registry.call_async("cancel", operation)
        return is_cancelled

    # ---- releases and upkeep

    async def releases(self, extension: str | None) -> list[ReleaseView]:
        """The known releases."""
        views: list[ReleaseView] = await self._registry.call_async("list_releases", extension)
        return views

    async def register(self, wheel: bytes, source: str, actor: str, operation: str) -> ReleaseView:
        """Make a package's release known without installing it."""
        view: ReleaseView = await self._registry.call_async("register", wheel, source, actor, operation)
        return view

    async def yank(self, extension: str, version: str, reason: str | None, actor: str, operation: str) -> None:
        """Keep plans from choosing a release, and why; None takes that back."""
        await self._registry.call_async("yank", extension, version, reason, actor, operation)

    async def forget(self, extension: str, version: str, actor: str, operation: str) -> None:
        """Know a release no longer."""
        await self._registry.call_async("forget", extension, version, actor, operation)

    async def audit(self, extension: str | None, limit: int) -> list[AuditEntry]:
        """Who did what, the newest first."""
        entries: list[AuditEntry] = await self._registry.call_async("audit", extension, limit)
        return entries

    async def collect(self, actor: str, operation: str) -> int:
        """Remove what nothing needs; the bytes freed."""
        freed: int = await self._registry.call_async("collect", actor, operation)
        return freed


def _keeper(record: RuntimeRecord | None) -> ActorView:
    if record is None:
        return ActorView(name="keeper", state="away", pid=None, detail="no process keeps this runtime")
    is_there = os.path.exists(f"/proc/{record.pid}")
    return ActorView(
        name="keeper",
        state="answers" if is_there else "away",
        pid=record.pid,
        detail="of ray-ext up" if record.kind == "up" else "the process that embeds the runtime",
    )


def _node_agents(namespace: str) -> list[str]:
    named = ray.util.list_named_actors(all_namespaces=True)
    return sorted(
        each["name"] for each in named if each["namespace"] == namespace and each["name"].startswith(NODE_AGENT_PREFIX)
    )
