"""The operations of the API, one file for each group of routes."""

from __future__ import annotations

from ray_ext.control.endpoint import Endpoint
from ray_ext.control.routes import errors, extensions, logs, operations, packages, plans, releases, runtime, upkeep

__all__ = ["ENDPOINTS"]

#: In the order in which the document shows them.
ENDPOINTS: tuple[Endpoint, ...] = (
    *runtime.ENDPOINTS,
    *extensions.ENDPOINTS,
    *logs.ENDPOINTS,
    *packages.ENDPOINTS,
    *plans.ENDPOINTS,
    *operations.ENDPOINTS,
    *releases.ENDPOINTS,
    *upkeep.ENDPOINTS,
    *errors.ENDPOINTS,
)
