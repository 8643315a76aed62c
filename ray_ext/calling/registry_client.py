"""Calls to the registry that outlive it: each is sent again while the registry is being restarted."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import ray

from ray_ext.calling.names import REGISTRY_NAME
from ray_ext.errors import RayExtError, RuntimeUnreachable

__all__ = ["RegistryClient", "registry_client"]

#: How long a registry may be away, unless the caller says otherwise, in seconds.
PATIENCE_S = 60.0
_PAUSE_S = 0.2


class RegistryClient:
    """The registry of one namespace. Every operation of the registry is idempotent, so sending twice is harmless.

    ``patience_s`` is how long it may be away before a call gives up, in seconds.
    """

    def __init__(self, namespace: str, *, patience_s: float = PATIENCE_S) -> None:
        self.namespace = namespace
        self._patience_s = patience_s
        self._actor: Any = None

    def submit(self, method: str, *args: object) -> Any:
        """The ObjectRef of one attempt; raises ValueError when there is no registry."""
        if self._actor is None:
            self._actor = ray.get_actor(REGISTRY_NAME, namespace=self.namespace)
        return getattr(self._actor, method).remote(*args)

    def call(self, method: str, *args: object) -> Any:
        """The operation's result; raises its error, or RuntimeUnreachable."""
        give_up = None
        while True:
            try:
                return ray.get(self.submit(method, *args))
            except Exception as error:  # noqa: BLE001 - sorted by _judge, which re-raises what is not the registry's absence
                give_up = self._judge(error, give_up)
            time.sleep(_PAUSE_S)

    async def call_async(self, method: str, *args: object) -> Any:
        """The same, awaited."""
        give_up = None
        loop = asyncio.get_running_loop()
        while True:
            try:
                if self._actor is None:
                    # Asking for an actor by name blocks on Ray's control store.
                    self._actor = await loop.run_in_executor(None, self._find)
                return await self.submit(method, *args)
            except Exception as error:  # noqa: BLE001 - sorted by _judge, which re-raises what is not the registry's absence
                give_up = self._judge(error, give_up)
            await asyncio.sleep(_PAUSE_S)

    def _find(self) -> Any:
        return ray.get_actor(REGISTRY_NAME, namespace=self.namespace)

    def _judge(self, error: Exception, give_up: float | None) -> float:
        """When to give up, if another attempt makes sense; raises otherwise. Time runs from the first failure."""
        if isinstance(error, ray.exceptions.RayTaskError):
            cause = error.cause
            raise (cause if isinstance(cause, RayExtError) else error) from None
        if not isinstance(error, (ray.exceptions.RayActorError, ray.exceptions.ActorUnavailableError, ValueError)):
            raise error
        if give_up is None:
            give_up = time.monotonic() + self._patience_s
        if time.monotonic() > give_up or not ray.is_initialized():
            raise RuntimeUnreachable(
                f"the registry of {self.namespace} does not answer: {error}",
                fix="see whether the runtime is up: ray-ext status",
            ) from error
        if not isinstance(error, ray.exceptions.ActorUnavailableError):
            self._actor = None
        return give_up


_clients: dict[str, RegistryClient] = {}


def registry_client(namespace: str) -> RegistryClient:
    """This process's client of a namespace's registry."""
    return _clients.setdefault(namespace, RegistryClient(namespace))


def forget_registry(namespace: str) -> None:
    """Drop what is cached, because the Ray connection ends."""
    _clients.pop(namespace, None)
