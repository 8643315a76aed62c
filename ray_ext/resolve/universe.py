"""What resolution and plans know: the releases of the registry, and what is installed and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Installed", "KnownRelease", "Universe"]


@dataclass(frozen=True, kw_only=True)
class KnownRelease:
    """A release, as far as choosing it goes.

    ``dependencies`` and ``optional_dependencies`` map ids of extensions to PEP 440 ranges (empty: any version);
    ``requires_runtime`` is such a range of ray_ext itself. ``requirements`` are the Python packages that it needs
    (PEP 508). A yanked release stays where it is installed and is chosen only when it is asked for by its version.
    """

    id: str
    version: str
    sha256: str
    requires_runtime: str = ""
    dependencies: Mapping[str, str] = field(default_factory=dict)
    optional_dependencies: Mapping[str, str] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    is_yanked: bool = False


@dataclass(frozen=True, kw_only=True)
class Installed:
    """An installation. ``is_wanted``: it should be loaded; ``is_loaded``: an instance serves, or is starting."""

    id: str
    version: str
    is_wanted: bool = False
    is_loaded: bool = False


@dataclass(frozen=True, kw_only=True)
class Universe:
    """A snapshot. Every installed version is among ``releases``; ``revision`` names the state of the store."""

    runtime_version: str
    releases: Mapping[str, tuple[KnownRelease, ...]]
    installed: Mapping[str, Installed]
    revision: int = 0
