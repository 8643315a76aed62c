"""Manifests: what an extension is, needs and asks for, read and checked without importing its code (design §4).

The names resolve on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_ext.manifests.configuration import validate_configuration as validate_configuration
    from ray_ext.manifests.json_schema import manifest_json_schema as manifest_json_schema
    from ray_ext.manifests.landed import check_runtime_version as check_runtime_version
    from ray_ext.manifests.landed import refuse_unlanded as refuse_unlanded
    from ray_ext.manifests.metadata import metadata_of as metadata_of
    from ray_ext.manifests.model import Manifest as Manifest
    from ray_ext.manifests.problems import Problem as Problem
    from ray_ext.manifests.reading import ManifestSource as ManifestSource
    from ray_ext.manifests.reading import parse_manifest as parse_manifest
    from ray_ext.manifests.reading import read_folder as read_folder
    from ray_ext.manifests.schema_check import check_schema as check_schema
    from ray_ext.manifests.secret_values import redact as redact
    from ray_ext.manifests.secret_values import secret_paths as secret_paths
    from ray_ext.manifests.secret_values import secret_texts as secret_texts
    from ray_ext.manifests.wheel_reading import read_wheel as read_wheel

_PUBLIC = {
    "Manifest": "model",
    "ManifestSource": "reading",
    "Problem": "problems",
    "check_runtime_version": "landed",
    "check_schema": "schema_check",
    "manifest_json_schema": "json_schema",
    "metadata_of": "metadata",
    "parse_manifest": "reading",
    "read_folder": "reading",
    "read_wheel": "wheel_reading",
    "redact": "secret_values",
    "refuse_unlanded": "landed",
    "secret_paths": "secret_values",
    "secret_texts": "secret_values",
    "validate_configuration": "configuration",
}


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_PUBLIC)
