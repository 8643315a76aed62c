"""The runtime as a whole, the control actor, and this document."""

from __future__ import annotations

from functools import cache
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

import ray_ext
from ray_ext.control.endpoint import Answer, Desk, Endpoint, answer
from ray_ext.control.openapi import document
from ray_ext.control.views import ControlView, StatusView

__all__ = ["ENDPOINTS"]

_TAG = "runtime"


class Nothing(Struct):
    """No parameters."""


async def show_control(desk: Desk, _request: Request, _asked: Nothing) -> Response:
    """The control actor itself."""
    return answer(desk.backend.control())


async def show_status(desk: Desk, _request: Request, _asked: Nothing) -> Response:
    """Actual against desired."""
    return answer(await desk.backend.status())


async def show_document(_desk: Desk, _request: Request, _asked: Nothing) -> Response:
    """The OpenAPI document."""
    return answer(_document())


@cache
def _document() -> dict[str, Any]:
    from ray_ext.control.routes import ENDPOINTS as ALL

    return document(ALL, ray_ext.__version__)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/control",
        id="showControl",
        tag=_TAG,
        summary="The control actor itself",
        description="Answers also while the registry is away.",
        asked=Nothing,
        handler=show_control,
        answers=(Answer(status=200, description="The control actor.", type=ControlView),),
    ),
    Endpoint(
        method="GET",
        path="/v1/status",
        id="showStatus",
        tag=_TAG,
        summary="All that is known of the runtime",
        description="What is, what should be, and why they differ; answers also while the registry is away.",
        asked=Nothing,
        handler=show_status,
        answers=(Answer(status=200, description="The runtime.", type=StatusView),),
    ),
    Endpoint(
        method="GET",
        path="/v1/openapi.json",
        id="showDocument",
        tag=_TAG,
        summary="This document",
        asked=Nothing,
        handler=show_document,
        answers=(Answer(status=200, description="The document.", type=dict[str, Any]),),
    ),
)
