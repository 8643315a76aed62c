"""Looking after the runtime: who did what, what nothing needs, what lies around."""

from __future__ import annotations

import asyncio
import os

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from ray_ext.control.endpoint import Answer, Desk, Endpoint, answer
from ray_ext.control.grammar import ExtensionId, Limit, OperationHeader, OperatorHeader
from ray_ext.errors import OperationConflict
from ray_ext.packages.discovery import Discovered, discover_configured
from ray_ext.store.records import AuditEntry

__all__ = ["ENDPOINTS"]

_TAG = "upkeep"


class ReadAudit(Struct):
    """Of whom, how much."""

    extension: ExtensionId | None = None
    limit: Limit = 100


class Collect(Struct):
    """By whom."""

    operation: OperationHeader
    operator: OperatorHeader = "control"


class Collected(Struct, frozen=True):
    """How many bytes are free again."""

    bytes: int


class Discover(Struct):
    """No parameters."""


async def read_audit(desk: Desk, _request: Request, asked: ReadAudit) -> Response:
    """The audit trail."""
    return answer(await desk.backend.audit(asked.extension, asked.limit))


async def collect(desk: Desk, _request: Request, asked: Collect) -> Response:
    """Remove what nothing needs."""
    return answer(Collected(await desk.backend.collect(asked.operator, asked.operation)))


async def discover(desk: Desk, _request: Request, _asked: Discover) -> Response:
    """Look on the search path."""
    return answer(await asyncio.to_thread(discover_configured, os.environ, desk.home.extensions))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/audit",
        id="readAudit",
        tag=_TAG,
        summary="Who did what, the newest first",
        asked=ReadAudit,
        handler=read_audit,
        answers=(Answer(status=200, description="The entries.", type=list[AuditEntry]),),
    ),
    Endpoint(
        method="POST",
        path="/v1/gc",
        id="collect",
        tag=_TAG,
        summary="Remove packages, environments and downloads that nothing needs",
        asked=Collect,
        handler=collect,
        answers=(Answer(status=200, description="They are gone.", type=Collected),),
        errors=(OperationConflict,),
    ),
    Endpoint(
        method="GET",
        path="/v1/discoveries",
        id="discover",
        tag=_TAG,
        summary="What extensions lie on the search path of the runtime's machine",
        description="Valid or not, and why. Executes nothing of them.",
        asked=Discover,
        handler=discover,
        answers=(Answer(status=200, description="What was found.", type=list[Discovered]),),
    ),
)
