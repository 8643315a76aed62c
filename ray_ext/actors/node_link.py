"""The registry's link to the node agent, which outlives the agent's deaths."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import ray
from msgspec import Struct

from ray_ext.actors.node_agent import Environment, ensure_node_agent
from ray_ext.control.commands import PythonSources
from ray_ext.control.views import NodeStatus
from ray_ext.errors import RayExtError, RuntimeUnreachable
from ray_ext.home import Home
from ray_ext.packages.environments import Lock, Progress

__all__ = ["NodeLink", "StoredLock"]

#: How long an agent that died may stay away, in seconds.
_PATIENCE_S = 30.0
_PAUSE_S = 0.2
#: How long an agent may take to say how it is, in seconds.
_STATUS_S = 5.0

T = TypeVar("T")


class StoredLock(Struct, frozen=True, kw_only=True):
    """What the store keeps of an installation's Python packages: which, and where they can be had again."""

    lock: Lock
    sources: PythonSources

    @property
    def encoded(self) -> str:
        """As JSON."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def decoded(cls, text: str) -> StoredLock:
        """From JSON."""
        return msgspec.json.decode(text, type=cls)


class NodeLink:
    """The agent of the registry's own node."""

    def __init__(self, home: Home, namespace: str) -> None:
        self._home = home
        self._namespace = namespace
        self._agent: Any = None
        self._layer = ""
        self._zygote: str | None = None

    async def open(self) -> None:
        """Find the agent, or start it."""
        self._agent = await ensure_node_agent(self._home, self._namespace)
        status: NodeStatus = await self._agent.status.remote()
        self._layer, self._zygote = status.layer, status.zygote

    def close(self) -> None:
        """End the agent; its zygote ends with it."""
        if self._agent is not None:
            ray.kill(self._agent)

    @property
    def layer(self) -> str:
        """What guests on that node import of ray_ext."""
        return self._layer

    @property
    def zygote(self) -> str | None:
        """The socket of the node's zygote."""
        return self._zygote

    async def status(self) -> NodeStatus | None:
        """The agent's figures; None while it is away."""
        try:
            status: NodeStatus = await asyncio.wait_for(_await(self._agent.status.remote()), _STATUS_S)
        except (ray.exceptions.RayError, TimeoutError):
            return None
        return status

    async def provide(
        self,
        requirements: list[str],
        lock: Lock | None,
        sources: PythonSources,
        tell: Callable[[Progress], None],
    ) -> Environment:
        """The environment of these requirements, built where it is missing. Raises EnvironmentFailed."""

        async def attempt() -> Environment:
            async for reference in self._agent.provide.options(num_returns="streaming").remote(
                requirements, lock, sources
            ):
                news: Progress | Environment = await reference
                if isinstance(news, Environment):
                    return news
                tell(news)
            raise RuntimeError("the node agent told no end")

        return await self._patiently(attempt)

    async def collect(self, keep: list[str], *, is_thorough: bool) -> int:
        """Remove the environments whose digest is not in ``keep``; returns the bytes freed."""

        async def attempt() -> int:
            freed: int = await self._agent.collect.remote(keep, is_thorough=is_thorough)
            return freed

        return await self._patiently(attempt)

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Ask again while the agent is away: what it is asked for can be done twice."""
        patience_s = _PATIENCE_S
        while True:
            begun = time.monotonic()
            try:
                return await attempt()
            except ray.exceptions.RayTaskError as error:
                cause = error.cause
                raise (cause if isinstance(cause, RayExtError) else error) from None
            except ray.exceptions.RayActorError as error:
                # A build may outlast that before the agent dies of it; the third such death is one too many.
                patience_s -= _PAUSE_S + min(time.monotonic() - begun, _PATIENCE_S / 3)
                if patience_s < 0:
                    raise RuntimeUnreachable(
                        f"the node agent does not answer: {error}",
                        fix="see whether the runtime is well: ray-ext status",
                    ) from error
                await asyncio.sleep(_PAUSE_S)


async def _await(reference: Awaitable[Any]) -> Any:
    return await reference
