"""The node agent: one per node, owns what the node's hosts share: the zygote, and environments of Python packages."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import ray
from msgspec import Struct
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_ext.actors.system_log import record_system_log
from ray_ext.calling.names import node_agent_name
from ray_ext.control.commands import PythonSources
from ray_ext.control.views import NodeStatus
from ray_ext.home import Home
from ray_ext.packages.environments import EnvironmentCache, Lock, Progress, Report, Sources
from ray_ext.sandbox.layer import guest_layer
from ray_ext.sandbox.machine import guarantees
from ray_ext.sandbox.nursery import Nursery

__all__ = ["Environment", "NodeAgent", "ensure_node_agent"]

_log = logging.getLogger(__name__)

#: How long a zygote that dies at once is left alone, in seconds: doubled each time, up to the limit.
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
#: A zygote that lived so long was well.
_WELL_AFTER_S = 10.0
#: What the zygote inherits of the agent's environment: the mark by which a runtime's processes are found.
_MARK = "RAY_EXT_BOOT"


class Environment(Struct, frozen=True, kw_only=True):
    """An environment that is there, just verified."""

    lock: Lock
    path: str


class NodeAgent:
    """The actor class. Everything begins in the constructor, which is all that Ray runs after a restart."""

    def __init__(self, home: str) -> None:
        self._home = Home(Path(home))
        record_system_log(self._home, "node-agent")
        self._restarts = 0
        self._layer = guest_layer(self._home.layers)
        self._environments = EnvironmentCache(self._home.environments)
        self._nursery: Nursery | None = None
        if not guarantees().missing:
            self._nursery = self._open_nursery()
            # A zygote's death is seen at once, whatever this actor's event loop is doing.
            threading.Thread(target=self._watch, args=(self._nursery,), name="zygote watch", daemon=True).start()
        zygote = "no zygote: extensions cannot be confined" if self._nursery is None else f"zygote {self._nursery.pid}"
        _log.info("the node agent has started as process %d, with %s", os.getpid(), zygote)

    def _open_nursery(self) -> Nursery:
        log = self._home.logs / "system" / "zygote.log"
        log.parent.mkdir(mode=0o700, exist_ok=True)
        mark = {_MARK: os.environ[_MARK]} if _MARK in os.environ else {}
        return Nursery(self._home.run, self._layer, log, mark)

    def _watch(self, nursery: Nursery) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            started = time.monotonic()
            select.select([nursery.pidfd], [], [])
            pause = _FIRST_PAUSE_S if time.monotonic() - started > _WELL_AFTER_S else pause
            status = nursery.replace()
            self._restarts += 1
            _log.warning("the zygote ended with status %d and was replaced by process %d", status, nursery.pid)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def status(self) -> NodeStatus:
        """The figures now."""
        return NodeStatus(
            pid=os.getpid(),
            layer=str(self._layer),
            zygote=None if self._nursery is None else str(self._nursery.address),
            zygote_pid=None if self._nursery is None else self._nursery.pid,
            zygote_restarts=self._restarts,
        )

    # ---- environments

    async def provide(
        self, requirements: list[str], lock: Lock | None, sources: PythonSources
    ) -> AsyncIterator[Progress | Environment]:
        """Resolve ``requirements``, unless ``lock`` says to what, and build the environment where it is missing.

        Yields progress, and the environment last. Raises EnvironmentFailed.
        """
        loop = asyncio.get_running_loop()
        news: asyncio.Queue[Progress | None] = asyncio.Queue()

        def report(progress: Progress) -> None:
            loop.call_soon_threadsafe(news.put_nowait, progress)

        working = asyncio.create_task(asyncio.to_thread(self._provide, requirements, lock, sources, report))
        working.add_done_callback(lambda _: news.put_nowait(None))
        while (each := await news.get()) is not None:
            yield each
        yield await working

    def _provide(
        self, requirements: list[str], lock: Lock | None, sources: PythonSources, report: Report
    ) -> Environment:
        places = Sources(find_links=tuple(map(Path, sources.find_links)), index_url=sources.index_url)
        if lock is None or not lock.is_for_this_python:
            lock = self._environments.lock(requirements, places, report=report)
        return Environment(lock=lock, path=str(self._environments.build(lock, places, report=report)))

    async def collect(self, keep: list[str], *, is_thorough: bool) -> int:
        """Remove the environments whose digest is not in ``keep``; returns the bytes freed.

        ``is_thorough``: and what was downloaded to build environments, which would make the next build faster.
        """
        gone = await asyncio.to_thread(self._environments.collect, keep, with_downloads=is_thorough)
        return sum(each.size_bytes for each in gone)


async def ensure_node_agent(home: Home, namespace: str) -> Any:
    """The agent of this process's node; started when there is none."""
    node_id = ray.get_runtime_context().get_node_id()
    agent = (
        ray.remote(NodeAgent)
        .options(
            name=node_agent_name(node_id),
            namespace=namespace,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
        )
        .remote(str(home.root))
    )
    await agent.status.remote()
    return agent
