"""What the registry tells clients: plain, picklable views of its state."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ray_ext.actors.node_agent import NodeStatus
from ray_ext.actors.spec import InstanceStatus
from ray_ext.store.store import Tombstone

__all__ = ["ExtensionView", "RuntimeView"]


class ExtensionView(Struct, frozen=True, kw_only=True):
    """One installation.

    ``desired`` is what the operator asked for (``loaded``, ``unloaded``); ``state`` what is: ``loaded``, ``unloaded``,
    ``loading``, ``restarting`` or ``failed``, and ``reason`` why they differ. ``configuration`` shows secrets as
    ``<secret>``. ``instance`` is there with ``show`` only.
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
    last_exit: Tombstone | None = None
    instance: InstanceStatus | None = None


class RuntimeView(Struct, frozen=True, kw_only=True):
    """The runtime as a whole; ``nodes`` are those whose agent answers."""

    version: str
    namespace: str
    home: str
    registry_pid: int
    writer_epoch: int
    started_at: float
    nodes: list[NodeStatus]
    extensions: list[ExtensionView]
