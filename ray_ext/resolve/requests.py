"""What an operator may ask a plan for."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

__all__ = ["Install", "Load", "Remove", "Request", "Unload", "Upgrade"]


class Install(Struct, frozen=True, kw_only=True, tag_field="verb", tag="install"):
    """Install this version, with what it needs; it is among the known releases. ``load``: and load them all."""

    verb: ClassVar[str] = "install"
    id: str
    version: str
    load: bool = True


class Load(Struct, frozen=True, kw_only=True, tag_field="verb", tag="load"):
    """Load what is installed, after all that it needs."""

    verb: ClassVar[str] = "load"
    id: str


class Unload(Struct, frozen=True, kw_only=True, tag_field="verb", tag="unload"):
    """Unload it; ``is_cascading``: and those that need it, before it."""

    verb: ClassVar[str] = "unload"
    id: str
    is_cascading: bool = False


class Remove(Struct, frozen=True, kw_only=True, tag_field="verb", tag="remove"):
    """Remove the installation. ``is_cascading``: and those that need it; ``is_purging``: and the data of all these."""

    verb: ClassVar[str] = "remove"
    id: str
    is_cascading: bool = False
    is_purging: bool = False


class Upgrade(Struct, frozen=True, kw_only=True, tag_field="verb", tag="upgrade"):
    """Change the installed version to this one, up or down; None: to the best that fits."""

    verb: ClassVar[str] = "upgrade"
    id: str
    version: str | None = None


Request = Install | Load | Unload | Remove | Upgrade
