"""What the registry tells clients: plain, picklable views of its state."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from ray_ext.store.records import ListedRelease, Tombstone

__all__ = [
    "ActorView",
    "ControlView",
    "ErrorView",
    "ExtensionView",
    "InstanceStatus",
    "News",
    "NodeStatus",
    "OperationView",
    "ReleaseView",
    "RuntimeView",
    "StatusView",
    "release_view",
]


class InstanceStatus(Struct, frozen=True, kw_only=True):
    """A running instance, as ``show`` and ``status`` print it."""

    generation: int
    host_pid: int
    guest_pid: int | None
    stub_pid: int | None
    level: str
    methods: dict[str, str]
    accepted: int
    completed: int
    failed: int
    refused: int
    unknown: int
    pending: int
    beat_age_s: float | None
    loop_lag_s: float | None


class NodeStatus(Struct, frozen=True, kw_only=True):
    """A node agent's figures. ``layer`` is what guests import of ray_ext, ``zygote`` the socket of its zygote;
    that and ``zygote_pid`` are None where extensions cannot be confined."""

    pid: int
    layer: str
    zygote: str | None
    zygote_pid: int | None
    zygote_restarts: int


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
    """The runtime as a whole; ``nodes`` are those whose agent answers, ``spare_hosts`` how many are ready
    of those that are to be."""

    version: str
    namespace: str
    home: str
    registry_pid: int
    writer_epoch: int
    started_at: float
    nodes: list[NodeStatus]
    spare_hosts: int
    spare_hosts_wanted: int = 0
    extensions: list[ExtensionView]


class ErrorView(Struct, frozen=True, kw_only=True):
    """A :class:`ray_ext.errors.RayExtError` by its parts."""

    code: str
    what: str
    where: str = ""
    fix: str = ""
    details: dict[str, Any] = {}


class News(Struct, frozen=True):
    """One line of an operation's progress, for people. ``id`` is ``<writer epoch>-<number>``; numbers count upwards
    from 1 in each writer epoch, for a registry that was restarted begins the operation anew."""

    id: str
    text: str


class OperationView(Struct, frozen=True, kw_only=True):
    """An operation. ``state``: ``running``; ``done``; ``failed`` (``error`` says why; what it had done was undone);
    ``interrupted`` (its registry died, it was undone, and nobody has sent it again). ``steps`` are those of its plan,
    empty before there is one; ``step`` is how many are done."""

    id: str
    verb: str
    extension: str
    state: Literal["running", "done", "failed", "interrupted"]
    steps: list[str] = []
    step: int = 0
    error: ErrorView | None = None
    created_at: float
    updated_at: float


class ActorView(Struct, frozen=True, kw_only=True):
    """A part of the runtime: the keeper, the registry, a node agent, control. ``detail`` is for people."""

    name: str
    state: Literal["answers", "away"]
    pid: int | None
    detail: str = ""


class ControlView(Struct, frozen=True, kw_only=True):
    """The control actor itself; ``listen`` is where it listens beside its socket, empty if nowhere."""

    version: str
    pid: int
    started_at: float
    home: str
    listen: str = ""


class StatusView(Struct, frozen=True, kw_only=True):
    """All that is known of the runtime. ``runtime`` is None while the registry is away. ``differences`` says, line by
    line, where what is differs from what should be, and why; empty where all is well. ``kind`` is ``up`` or
    ``embedded``; ``dashboard`` is a URL, or empty."""

    version: str
    kind: str
    home: str
    logs: str
    namespace: str
    address: str
    dashboard: str
    control: ControlView | None
    actors: list[ActorView]
    runtime: RuntimeView | None
    differences: list[str]
