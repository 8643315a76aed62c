"""ray_ext: an extension runtime on Ray.

The public names are resolved on first use, so that ``import ray_ext`` imports neither Ray nor pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_ext.client.runtime import Runtime as Runtime
    from ray_ext.client.runtime import connect as connect
    from ray_ext.sdk.extension import Extension as Extension
    from ray_ext.sdk.extension import exported as exported

__version__ = "0.1.0"

_PUBLIC = {
    "Extension": "ray_ext.sdk.extension",
    "Runtime": "ray_ext.client.runtime",
    "connect": "ray_ext.client.runtime",
    "exported": "ray_ext.sdk.extension",
}


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        value: object = getattr(import_module(_PUBLIC[name]), name)
    else:
        errors = import_module("ray_ext.errors")
        if name not in errors.__all__:
            raise AttributeError(f"module 'ray_ext' has no attribute {name!r}")
        value = getattr(errors, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*_PUBLIC, *import_module("ray_ext.errors").__all__, "__version__"})
