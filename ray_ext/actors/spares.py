"""Spare hosts: actors started ahead, so that loading does not wait for a worker process."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Any

import ray

from ray_ext.manifests.model import Resources

__all__ = ["SPARE_PREFIX", "Spares"]

_log = logging.getLogger(__name__)

#: Ray names an actor once and for all, so a spare host keeps this name when it is given its extension.
SPARE_PREFIX = "host/spare/"
#: How long after a failure the next attempt is made, in seconds.
_PAUSE_S = 10.0
_DEFAULT = Resources()


class Spares:
    """Keeps ``count`` hosts of the default resource profile ready. Belongs to the registry's event loop.

    ``create`` makes a host actor of a name with the default resources.
    """

    def __init__(self, count: int, create: Callable[[str], Any]) -> None:
        self.count = count
        self._create = create
        self._ready: list[tuple[str, Any]] = []
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
        """A ready host by name and handle, or None; its place is filled again."""
        taken = self._ready.pop() if self._ready else None
        self.fill()
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
                await actor.ping.remote()
            except ray.exceptions.RayError as error:
                _log.warning("a spare host could not be started: %s", error)
                await asyncio.sleep(_PAUSE_S)
            else:
                self._ready.append((name, actor))

    def close(self) -> None:
        """Start no more; the hosts are ended by their owner."""
        self.count = 0
        if self._filling is not None:
            self._filling.cancel()
        self._ready.clear()
