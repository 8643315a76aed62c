"""What the store takes and gives: plain, frozen records. All times are Unix seconds, set by the store."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

__all__ = [
    "AuditEntry",
    "Claim",
    "Installation",
    "ListedRelease",
    "Operation",
    "Release",
    "ReleaseFacts",
    "StoredRoute",
    "Tombstone",
]


class Release(Struct, frozen=True, kw_only=True):
    """A package that the registry knows. ``manifest`` is its text, ``source`` where it came from.

    The rest is the store's: ``yanked_reason`` is None unless the release was yanked.
    """

    extension: str
    version: str
    sha256: str
    manifest: bytes
    source: str
    created_at: float = 0.0
    updated_at: float = 0.0
    yanked_reason: str | None = None


class ReleaseFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What planning needs to know of a manifest: its ranges of ray_ext and of other extensions, and the Python packages
    that it requires (PEP 508)."""

    requires_runtime: str = ""
    dependencies: dict[str, str] = {}
    optional_dependencies: dict[str, str] = {}
    requirements: tuple[str, ...] = ()


class ListedRelease(Struct, frozen=True, kw_only=True):
    """A release with its facts, without its manifest."""

    extension: str
    version: str
    sha256: str
    source: str
    facts: ReleaseFacts
    yanked_reason: str | None
    created_at: float
    updated_at: float


class Claim(Struct, frozen=True):
    """Something that one extension alone may have: a topic's or an endpoint's name."""

    kind: Literal["topic", "endpoint"]
    name: str


class Installation(Struct, frozen=True, kw_only=True):
    """A release chosen for this runtime. ``desired`` is ``loaded`` or ``unloaded``; ``lock`` its hash-locked Python
    requirements, None where it has none."""

    extension: str
    version: str
    configuration: dict[str, Any]
    grant: str
    desired: str
    last_generation: int
    created_at: float
    updated_at: float
    lock: str | None = None


class StoredRoute(Struct, frozen=True, kw_only=True):
    """A route as stored; ``route`` is its encoded form."""

    extension: str
    generation: int
    epoch: int
    host: str
    route: bytes


class Tombstone(Struct, frozen=True, kw_only=True):
    """How a generation ended."""

    extension: str
    generation: int
    kind: str
    cause: str
    ended_at: float


class Operation(Struct, frozen=True, kw_only=True):
    """A plan at work, or done. ``step`` is how far it came; ``outcome`` is None until it is finished.

    ``before`` is the snapshot that undoes it; a finished operation has none (``b""``).
    """

    operation: str
    verb: str
    subject: str
    plan: bytes
    before: bytes
    step: int
    outcome: str | None
    detail: dict[str, Any]
    created_at: float
    updated_at: float


class AuditEntry(Struct, frozen=True, kw_only=True):
    """Who (``actor``) did what (``verb``) with which ``outcome``, and as part of which operation, if any.

    Never holds a secret: of a configuration, ``detail`` names the keys.
    """

    actor: str
    verb: str
    outcome: str
    operation: str | None = None
    extension: str | None = None
    version: str | None = None
    detail: dict[str, Any] = {}
    at: float = 0.0
