"""Installed extensions, and calls to them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from ray_ext import errors
from ray_ext.control.endpoint import Answer, Desk, Endpoint, answer
from ray_ext.control.grammar import ExtensionId, MethodName, Seconds
from ray_ext.control.views import ExtensionView

__all__ = ["ENDPOINTS"]

_TAG = "extensions"
#: The most bytes of a call's body: 64 MiB of arguments, and what JSON adds to them.
_CALL_LIMIT = 72 << 20


class ListExtensions(Struct):
    """No parameters."""


class ShowExtension(Struct):
    """Which."""

    id: ExtensionId


class CallBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of a call. ``timeout_s`` is its deadline, in seconds; null for none."""

    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    timeout_s: Seconds | None = None


class CallMethod(Struct):
    """Whom, what, and with which arguments."""

    id: ExtensionId
    method: MethodName
    body: CallBody


class CallResult(Struct, frozen=True):
    """What the method returned."""

    result: Any


async def list_extensions(desk: Desk, _request: Request, _asked: ListExtensions) -> Response:
    """Every installation."""
    return answer(await desk.backend.list_extensions())


async def show_extension(desk: Desk, _request: Request, asked: ShowExtension) -> Response:
    """One of them."""
    return answer(await desk.backend.show(asked.id))


async def call_method(desk: Desk, request: Request, asked: CallMethod) -> Response:
    """A call, which is cancelled when its client goes away."""
    body = asked.body
    call = asyncio.ensure_future(desk.backend.call(asked.id, asked.method, body.args, body.kwargs, body.timeout_s))
    leaving = asyncio.create_task(_until_left(request))
    try:
        await asyncio.wait({call, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not call.done():
            call.cancel()
            with suppress(asyncio.CancelledError, errors.RayExtError):
                await call
            return Response(status_code=400)  # nobody reads it
        return _result(call.result(), f"{asked.id}.{asked.method}")
    finally:
        leaving.cancel()
        call.cancel()


async def _until_left(request: Request) -> None:
    # The body was read: the next message is that the client has gone.
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _result(value: Any, where: str) -> Response:
    try:
        return answer(CallResult(value))
    except (TypeError, ValueError, RecursionError, OverflowError, msgspec.EncodeError) as error:
        raise errors.ResultNotSerialisable(
            f"the result cannot be written as JSON: {error}",
            where=where,
            fix="call it from Python, or let the method return what JSON can say",
            details={"path": "result"},
        ) from error


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/extensions",
        id="listExtensions",
        tag=_TAG,
        summary="The installed extensions, by id",
        asked=ListExtensions,
        handler=list_extensions,
        answers=(Answer(status=200, description="The installations.", type=list[ExtensionView]),),
    ),
    Endpoint(
        method="GET",
        path="/v1/extensions/{id}",
        id="showExtension",
        tag=_TAG,
        summary="One installed extension, with its instance's figures",
        asked=ShowExtension,
        handler=show_extension,
        answers=(Answer(status=200, description="The installation.", type=ExtensionView),),
        errors=(errors.ExtensionNotFound,),
    ),
    Endpoint(
        method="POST",
        path="/v1/extensions/{id}/methods/{method}",
        id="callMethod",
        tag=_TAG,
        summary="Call an exported method",
        description="The call is cancelled when its client closes the connection. It is not sent again by itself.",
        asked=CallMethod,
        handler=call_method,
        answers=(Answer(status=200, description="The method has returned.", type=CallResult),),
        body_limit=_CALL_LIMIT,
        errors=(
            errors.ArgumentMismatch,
            errors.ArgumentNotSerialisable,
            errors.PayloadTooLarge,
            errors.NotExported,
            errors.DeadlineExceeded,
            errors.CallCancelled,
            errors.ExtensionNotFound,
            errors.ExtensionNotLoaded,
            errors.ExtensionError,
            errors.ResultNotSerialisable,
            errors.LoadFailed,
            errors.ExtensionCrashed,
            errors.ExtensionHung,
            errors.ProtocolViolation,
            errors.OutcomeUnknown,
            errors.InsufficientResources,
            errors.IsolationUnavailable,
            errors.Overloaded,
        ),
    ),
)
