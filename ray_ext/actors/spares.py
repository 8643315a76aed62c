"""Spare hosts: actors started ahead, so that loading does not wait for a worker process."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import select
from collections.abc import Callable
from typing import Any, NamedTuple

import ray

from ray_ext.manifests.model import Resources

__all__ = ["SPARE_PREFIX", "Spares"]

_log = logging.getLogger(__name__)

#: Ray names an actor once and for all, so a spare host keeps this name when it is given its extension.
SPARE_PREFIX = "host/spare/"
#: How long after a failure the next attempt is made, in seconds.
_PAUSE_S = 10.0
#: How long after a host was taken its successor is started, in seconds: on two processors, a load beside the start of a
#: process took 0.15 to 0.32 s, and alone 0.09 to 0.12 s (benchmarks/load.py).
_LOAD_S = 0.5
_DEFAULT = Resources()


class _Spare(NamedTuple):
    name: str
    actor: Any
    #: Of its process, which runs on this node: Ray is slower to notice a death.
    pidfd: int

    @property
    def is_dead(self) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))


class Spares:
    """Keeps ``count`` hosts of the default resource profile ready. Belongs to the registry's event loop.

    ``create`` makes a host actor of a name with the default resources, on this node.
    """

    def __init__(self, count: int, create: Callable[[str], Any]) -> None:
        self.count = count
        self._create = create
        self._ready: list[_Spare] = []
        self._filling: asyncio.Task[None] | None = None

    @property
    def ready(self) -> int:
        """How many are ready now."""
        return len(self._ready)

    @staticmethod
    def fits(resources: Resources) -> bool:
        """Whether a spare host has just these resources."""
        return (resources.cpus, resources.memory_bytes, dict(resources.custom), dict(resources.labels)) == (
            _DEFAULT.cpus,
            _DEFAULT.memory_bytes,
            {},
            {},
        )

    def take(self) -> tuple[str, Any] | None:
        """A ready host that lives, by name and handle, or None; its place is filled again after the load."""
        taken = None
        while self._ready and taken is None:
            spare = self._ready[-1]
            if not spare.is_dead:
                taken = spare.name, spare.actor
            self._let_go(spare)
        asyncio.get_running_loop().call_later(_LOAD_S, self.fill)
        return taken

    def fill(self) -> None:
        """Start what is missing, in the background."""
        if self._filling is None or self._filling.done():
            self._filling = asyncio.create_task(self._fill())

    async def _fill(self) -> None:
        while len(self._ready) < self.count:
            name = f"{SPARE_PREFIX}{secrets.token_hex(4)}"
            actor = self._create(name)
            try:
                spare = _Spare(name, actor, os.pidfd_open(await actor.__ray_call__.remote(_pid)))
            except (ray.exceptions.RayError, OSError) as error:
                _log.warning("a spare host could not be started: %s", error)
                await asyncio.sleep(_PAUSE_S)
            else:
                self._ready.append(spare)
                asyncio.get_running_loop().add_reader(spare.pidfd, self._on_death, spare)

    def _on_death(self, spare: _Spare) -> None:
        _log.warning("%s is gone and is replaced", spare.name)
        self._let_go(spare)
        self.fill()

    def _let_go(self, spare: _Spare) -> None:
        self._ready.remove(spare)
        asyncio.get_running_loop().remove_reader(spare.pidfd)
        os.close(spare.pidfd)

    def close(self) -> None:
        """Start no more; the hosts are ended by their owner."""
        self.count = 0
        if self._filling is not None:
            self._filling.cancel()
        for spare in list(self._ready):
            self._let_go(spare)


def _pid(host: object) -> int:
    return os.getpid()
