"""What an operator may ask a plan for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = ["Install", "Load", "Remove", "Request", "Unload", "Upgrade"]


@dataclass(frozen=True, kw_only=True)
class Install:
    """Install this version, with what it needs; it is among the known releases. ``load``: and load them all."""

    verb: ClassVar[str] = "install"
    id: str
    version: str
    load: bool = True


@dataclass(frozen=True, kw_only=True)
class Load:
    """Load what is installed, after all that it needs."""

    verb: ClassVar[str] = "load"
    id: str


@dataclass(frozen=True, kw_only=True)
class Unload:
    """Unload it; ``is_cascading``: and those that need it, before it."""

    verb: ClassVar[str] = "unload"
    id: str
    is_cascading: bool = False


@dataclass(frozen=True, kw_only=True)
class Remove:
    """Remove the installation. ``is_cascading``: and those that need it; ``is_purging``: and the data of all these."""

    verb: ClassVar[str] = "remove"
    id: str
    is_cascading: bool = False
    is_purging: bool = False


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """Change the installed version to this one, up or down; None: to the best that fits."""

    verb: ClassVar[str] = "upgrade"
    id: str
    version: str | None = None


Request = Install | Load | Unload | Remove | Upgrade
