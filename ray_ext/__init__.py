"""ray_ext: an extension runtime on Ray.

The public names are resolved on first use, so that ``import ray_ext`` imports neither Ray nor pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_ext.client.runtime import Runtime as Runtime
    from ray_ext.client.runtime import connect as connect
    from ray_ext.errors import ArgumentMismatch as ArgumentMismatch
    from ray_ext.errors import ArgumentNotSerialisable as ArgumentNotSerialisable
    from ray_ext.errors import CallCancelled as CallCancelled
    from ray_ext.errors import ConfigurationInvalid as ConfigurationInvalid
    from ray_ext.errors import DeadlineExceeded as DeadlineExceeded
    from ray_ext.errors import DependencyConflict as DependencyConflict
    from ray_ext.errors import DependencyCycle as DependencyCycle
    from ray_ext.errors import DependentsExist as DependentsExist
    from ray_ext.errors import EnvironmentFailed as EnvironmentFailed
    from ray_ext.errors import ExtensionCrashed as ExtensionCrashed
    from ray_ext.errors import ExtensionError as ExtensionError
    from ray_ext.errors import ExtensionHung as ExtensionHung
    from ray_ext.errors import ExtensionNotFound as ExtensionNotFound
    from ray_ext.errors import ExtensionNotLoaded as ExtensionNotLoaded
    from ray_ext.errors import GrantRequired as GrantRequired
    from ray_ext.errors import InstallationConflict as InstallationConflict
    from ray_ext.errors import InsufficientResources as InsufficientResources
    from ray_ext.errors import IsolationUnavailable as IsolationUnavailable
    from ray_ext.errors import LoadFailed as LoadFailed
    from ray_ext.errors import ManifestInvalid as ManifestInvalid
    from ray_ext.errors import NestedObjectRef as NestedObjectRef
    from ray_ext.errors import NoEventLoop as NoEventLoop
    from ray_ext.errors import NotExported as NotExported
    from ray_ext.errors import NotLanded as NotLanded
    from ray_ext.errors import OperationCancelled as OperationCancelled
    from ray_ext.errors import OperationConflict as OperationConflict
    from ray_ext.errors import OperationFailed as OperationFailed
    from ray_ext.errors import OperationNotFound as OperationNotFound
    from ray_ext.errors import OutcomeUnknown as OutcomeUnknown
    from ray_ext.errors import Overloaded as Overloaded
    from ray_ext.errors import PackageInvalid as PackageInvalid
    from ray_ext.errors import PackageNotFound as PackageNotFound
    from ray_ext.errors import PayloadTooLarge as PayloadTooLarge
    from ray_ext.errors import PlanStale as PlanStale
    from ray_ext.errors import ProtocolViolation as ProtocolViolation
    from ray_ext.errors import RayExtError as RayExtError
    from ray_ext.errors import ReleaseConflict as ReleaseConflict
    from ray_ext.errors import RequestInvalid as RequestInvalid
    from ray_ext.errors import ResultNotSerialisable as ResultNotSerialisable
    from ray_ext.errors import RuntimeClosed as RuntimeClosed
    from ray_ext.errors import RuntimeConflict as RuntimeConflict
    from ray_ext.errors import RuntimeUnreachable as RuntimeUnreachable
    from ray_ext.errors import StoreFailed as StoreFailed
    from ray_ext.errors import Unauthorised as Unauthorised
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
