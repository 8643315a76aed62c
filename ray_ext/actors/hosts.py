"""The host actors of a runtime in Ray: created, opened, found by name, and ended. The fleet decides which and when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_ext.actors.host import MAX_CONCURRENCY, Host
from ray_ext.actors.spec import Exit, InstanceSpec
from ray_ext.calling.names import CONTROL
from ray_ext.errors import ExtensionCrashed, InsufficientResources, RayExtError
from ray_ext.manifests.model import Resources
from ray_ext.wire.messages import ExportedMethod

__all__ = ["Hosts", "awaited", "end_host", "exit_of", "open_host"]

_log = logging.getLogger(__name__)

#: What a host itself needs beside its guest, for Ray's scheduler.
_HOST_MEMORY_BYTES = 64 * 1024 * 1024
#: How long Ray may take to place a host, in seconds.
_PLACEMENT_S = 30.0
_DEFAULT = Resources()

T = TypeVar("T")


class Hosts:
    """The hosts of one namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def create(self, name: str, resources: Resources = _DEFAULT) -> Any:
        """Start a host without an instance; returns its handle at once."""
        return (
            ray.remote(concurrency_groups={CONTROL: 64})(Host)
            .options(
                name=name,
                namespace=self._namespace,
                lifetime="detached",
                num_cpus=resources.cpus,
                memory=resources.memory_bytes + _HOST_MEMORY_BYTES,
                resources=dict(resources.custom),
                label_selector=dict(resources.labels) or None,
                max_restarts=0,
                max_concurrency=MAX_CONCURRENCY,
                # Packages, data and logs are folders of this node.
                scheduling_strategy=NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False),
            )
            .remote()
        )

    def find(self, name: str) -> Any:
        """The host of this name; raises ValueError when there is none."""
        return ray.get_actor(name, namespace=self._namespace)

    def names(self) -> list[str]:
        """Every host that there is, spare ones too."""
        named = ray.util.list_named_actors(all_namespaces=True)
        return [
            each["name"] for each in named if each["namespace"] == self._namespace and each["name"].startswith("host/")
        ]

    def end(self, name: str) -> None:
        """End the host of this name; one that is gone stays so."""
        try:
            actor = self.find(name)
        except ValueError:
            return
        end_host(actor)


async def open_host(actor: Any, spec: InstanceSpec, resources: Resources) -> list[ExportedMethod]:
    """Give a host its instance; returns what that exports. Raises what refused it."""
    extension = spec.metadata.id
    opening = asyncio.ensure_future(awaited(actor.open.remote(spec)))
    placed = asyncio.ensure_future(awaited(actor.ping.remote()))
    try:
        await asyncio.wait({opening, placed}, timeout=_PLACEMENT_S, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done() and not placed.done():
            raise _unplaced(extension, resources)
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
        raise _unplaced(extension, resources) from None
    except ray.exceptions.RayError as error:
        raise ExtensionCrashed(
            f"the host of {extension} was lost while it started: {error}", where=extension
        ) from error
    finally:
        opening.cancel()
        placed.cancel()


def _unplaced(extension: str, asked: Resources) -> InsufficientResources:
    free = ray.available_resources()
    memory_bytes = asked.memory_bytes + _HOST_MEMORY_BYTES
    return InsufficientResources(
        f"Ray found no place for {extension}, which asks for {asked.cpus:g} CPUs and {memory_bytes} bytes",
        where=extension,
        fix="unload something, add a node, or lower [resources] in extension.toml",
        details={
            "asked": f"cpus={asked.cpus:g}, memory={memory_bytes}, {dict(asked.custom)}",
            "available": f"cpus={free.get('CPU', 0):g}, memory={int(free.get('memory', 0))}",
        },
    )


async def exit_of(actor: Any) -> Exit:
    """Wait until a host's instance has ended, or the host with it; returns how."""
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


def end_host(actor: Any) -> None:
    """End a host at once; its guest ends with it."""
    try:
        ray.kill(actor)
    except (ValueError, ray.exceptions.RayError) as error:
        _log.debug("a host was gone before it was ended: %s", error)


async def awaited(reference: Awaitable[T]) -> T:
    """The value of an ObjectRef, as a coroutine: what asyncio's functions take."""
    return await reference
