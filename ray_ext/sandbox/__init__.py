"""Confinement: what an extension's process may do, and how the host makes sure of it.

The names below belong to the host and are resolved on first use: a guest imports this package as well.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_ext.sandbox.guest import Guest as Guest
    from ray_ext.sandbox.layer import guest_layer as guest_layer
    from ray_ext.sandbox.machine import Confinement as Confinement
    from ray_ext.sandbox.machine import guarantees as guarantees
    from ray_ext.sandbox.spawn import GuestSpec as GuestSpec
    from ray_ext.sandbox.spawn import spawn_guest as spawn_guest

__all__ = ["Confinement", "Guest", "GuestSpec", "guarantees", "guest_layer", "spawn_guest"]

_PUBLIC = {
    "Confinement": "ray_ext.sandbox.machine",
    "Guest": "ray_ext.sandbox.guest",
    "GuestSpec": "ray_ext.sandbox.spawn",
    "guarantees": "ray_ext.sandbox.machine",
    "guest_layer": "ray_ext.sandbox.layer",
    "spawn_guest": "ray_ext.sandbox.spawn",
}


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ray_ext.sandbox' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(_PUBLIC)
