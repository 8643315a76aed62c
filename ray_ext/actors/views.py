"""What the registry tells clients: plain, picklable views of its state."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ray_ext.actors.node_agent import NodeStatus
from ray_ext.actors.spec import InstanceStatus
from ray_ext.store.store import ListedRelease, Tombstone

__all__ = ["ExtensionView", "ReleaseView", "RuntimeView", "release_view"]


class ExtensionView(Struct, frozen=True, kw_only=True):
    """One installation.

    ``desired`` is what the operator asked for (``loaded``, ``unloaded``); ``state`` what is: ``loaded``, ``unloaded``,
    ``loading``, ``restarting`` or ``failed``, and ``reason`` why they differ. ``configuration`` shows secrets as
    ``<secret>``. ``python_packages`` are the locked ones, as
    ``name==version``. ``instance`` is there with ``show`` only.
    """

    id: str
    version: str
    sha256: str
    name: str
    description: str
    category: str
    isolation: str
    desired: str
    state: str
    reason: str
    generation: int | None
    cpus: float
    memory_bytes: int
    grant: str
    source: str
    created_at: float
    updated_at: float
    configuration: dict[str, Any]
    methods: dict[str, str]
    dependencies: dict[str, str] = {}
    python_packages: list[str] = []
    last_exit: Tombstone | None = None
    instance: InstanceStatus | None = None


class ReleaseView(Struct, frozen=True, kw_only=True):
    """A release that the registry knows. ``yanked`` is why plans do not choose it; empty: they may."""

    id: str
    version: str
    sha256: str
    source: str
    requires_runtime: str
    dependencies: dict[str, str]
    optional_dependencies: dict[str, str]
    requirements: list[str]
    yanked: str
    created_at: float


def release_view(listed: ListedRelease) -> ReleaseView:
    """What clients see of it."""
    facts = listed.facts
    return ReleaseView(
        id=listed.extension,
        version=listed.version,
        sha256=listed.sha256,
        source=listed.source,
        requires_runtime=facts.requires_runtime,
        dependencies=facts.dependencies,
        optional_dependencies=facts.optional_dependencies,
        requirements=list(facts.requirements),
        yanked=listed.yanked_reason or "",
        created_at=listed.created_at,
    )


class RuntimeView(Struct, frozen=True, kw_only=True):
    """The runtime as a whole; ``nodes`` are those whose agent answers, ``spare_hosts`` how many are ready."""

    version: str
    namespace: str
    home: str
    registry_pid: int
    writer_epoch: int
    started_at: float
    nodes: list[NodeStatus]
    spare_hosts: int
    extensions: list[ExtensionView]
