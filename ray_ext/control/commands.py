"""What a client asks the registry to do, and what it is answered: plain, picklable records."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from ray_ext.resolve.plans import Plan

__all__ = ["Command", "PlanView", "PythonSources", "Verb"]

Verb = Literal["install", "load", "unload", "remove", "upgrade"]


class PythonSources(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where Python packages come from; see :class:`ray_ext.packages.environments.Sources`. Paths are absolute."""

    find_links: tuple[str, ...] = ()
    index_url: str | None = None


class Command(Struct, frozen=True, kw_only=True):
    """One operation on one extension, as the operator wants it.

    ``wheel`` and ``source`` are the package that ``install`` and ``upgrade`` may bring along, and where it came from;
    without one they choose among the known releases. ``version`` None is the best that fits. ``configuration`` None
    keeps what is configured, or takes the schema's defaults. ``plan`` is the hash of the plan that the operator has
    seen: any other is refused. ``wait_s`` is how long another operation is waited for. ``actor`` is who asks, for the
    audit trail.
    """

    verb: Verb
    extension: str = ""
    version: str | None = None
    wheel: bytes | None = None
    source: str = ""
    configuration: dict[str, Any] | None = None
    grant: str | None = None
    load: bool = True
    is_cascading: bool = False
    is_purging: bool = False
    grace_s: float = 10.0
    sources: PythonSources = PythonSources()
    plan: str | None = None
    wait_s: float = 60.0
    actor: str = ""


class PlanView(Struct, frozen=True, kw_only=True):
    """A plan as clients see it. ``hash`` names it with all that it was made from: package, configuration, grant."""

    plan: Plan
    hash: str
    text: str
