"""Operations: what changes an installation takes a while, so each is a resource that one can come back to."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from typing import Literal

from msgspec import Struct, structs
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ray_ext import errors
from ray_ext.control import sse
from ray_ext.control.book import Entry, other_operation
from ray_ext.control.endpoint import Answer, Desk, Endpoint, answer
from ray_ext.control.grammar import NEWS_ID, LastEventHeader, Limit, NewsId, OperationId
from ray_ext.control.requests import CommandRequest
from ray_ext.control.routes.plans import wheel_of
from ray_ext.control.views import News, OperationView

__all__ = ["ENDPOINTS"]

_log = logging.getLogger(__name__)

_TAG = "operations"
#: How often a silent stream shows that it is there, in seconds.
_KEEP_ALIVE_S = 10.0
#: How long a cancellation waits for the operation to reach the registry, and how often it looks, in seconds.
_ARRIVAL_S, _PAUSE_S = 5.0, 0.05


class SentEvent(Struct, frozen=True, kw_only=True):
    """One server-sent event. ``data`` is JSON: of ``progress`` the news, whose id the event has, of ``end`` the
    operation."""

    event: Literal["progress", "end"]
    data: str
    id: str = ""


class PutOperation(Struct):
    """Its id, and what it is to do."""

    operation: OperationId
    body: CommandRequest


class ListOperations(Struct):
    """How many."""

    limit: Limit = 50


class OneOperation(Struct):
    """Which."""

    operation: OperationId


class WatchOperation(Struct):
    """Which, and since when."""

    operation: OperationId
    after: NewsId | None = None
    last_event_id: LastEventHeader = ""


async def put_operation(desk: Desk, _request: Request, asked: PutOperation) -> Response:
    """Begin it, unless it is known already."""
    operation, request = asked.operation, asked.body
    if not request.actor:
        request = structs.replace(request, actor="control")
    if desk.book.entry_for(operation, request) is not None:
        return answer(await _view(desk, operation))
    known = await desk.backend.operation(operation)
    if known is not None:
        if known.verb != request.verb or (request.extension and known.extension not in ("", request.extension)):
            raise other_operation(operation, known.verb, known.extension)
        if known.state in ("done", "failed"):
            return answer(known)
    wheel = await wheel_of(request, desk.staging)
    # Others may have sent it meanwhile; from here on there is no await.
    if desk.book.entry_for(operation, request) is None:
        desk.book.begin(operation, request, lambda: request.command(wheel))
        if known is None or known.state == "interrupted":
            begun = desk.book.entry(operation)
            assert begun is not None, "it has just been entered"
            return answer(begun.view, 202, {"Location": f"/v1/operations/{operation}"})
    return answer(await _view(desk, operation))


async def list_operations(desk: Desk, _request: Request, asked: ListOperations) -> Response:
    """The last ones."""
    return answer(await desk.backend.operations(asked.limit))


async def show_operation(desk: Desk, _request: Request, asked: OneOperation) -> Response:
    """How it stands."""
    return answer(await _view(desk, asked.operation))


async def cancel_operation(desk: Desk, _request: Request, asked: OneOperation) -> Response:
    """End it, undoing what it did."""
    await _view(desk, asked.operation)
    entry = desk.book.entry(asked.operation)
    give_up = asyncio.get_running_loop().time() + _ARRIVAL_S
    while not await desk.backend.cancel(asked.operation):
        if entry is None or entry.over.is_set() or asyncio.get_running_loop().time() > give_up:
            break
        if await desk.backend.operation(asked.operation) is not None:
            break
        # It is on its way to the registry.
        await asyncio.sleep(_PAUSE_S)
    return answer(await _view(desk, asked.operation))


async def watch_operation(desk: Desk, _request: Request, asked: WatchOperation) -> Response:
    """What it tells, until its end."""
    await _view(desk, asked.operation)
    known = asked.last_event_id if re.fullmatch(NEWS_ID, asked.last_event_id) else ""
    after = asked.after or known
    return StreamingResponse(
        _events(desk, asked.operation, after),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )


async def _events(desk: Desk, operation: str, after: str) -> AsyncIterator[bytes]:
    entry = desk.book.entry(operation)
    try:
        while True:
            is_last = entry is not None and entry.over.is_set()
            news, is_over = await _news(desk, operation, after, 0.0 if is_last else _KEEP_ALIVE_S, entry)
            for each in news:
                yield sse.event("progress", each, each.id)
                after = each.id
            if is_over or is_last:
                yield sse.event("end", await _end(desk, operation, entry))
                return
            if not news:
                yield sse.KEEP_ALIVE
    except errors.RayExtError as error:
        # The answer has begun: all that can be said is that it is not whole. The client comes back for the rest.
        _log.warning("the events of operation %s broke off: %s", operation, error)


async def _news(desk: Desk, operation: str, after: str, wait_s: float, entry: Entry | None) -> tuple[list[News], bool]:
    """The news; an end that only the book knows of cuts the wait short."""
    if entry is None or entry.over.is_set():
        return await desk.backend.news(operation, after, wait_s)
    asking = asyncio.ensure_future(desk.backend.news(operation, after, wait_s))
    ending = asyncio.create_task(entry.over.wait())
    try:
        await asyncio.wait({asking, ending}, return_when=asyncio.FIRST_COMPLETED)
        return asking.result() if asking.done() else ([], False)
    finally:
        asking.cancel()
        ending.cancel()


async def _end(desk: Desk, operation: str, entry: Entry | None) -> OperationView:
    if entry is not None:
        await entry.over.wait()
    return await _view(desk, operation)


async def _view(desk: Desk, operation: str) -> OperationView:
    view = await desk.book.view(operation)
    if view is None:
        raise errors.OperationNotFound(
            f"no operation {operation} is known",
            fix="send it again with the same id: it is applied once",
        )
    return view


ENDPOINTS = (
    Endpoint(
        method="PUT",
        path="/v1/operations/{operation}",
        id="putOperation",
        tag=_TAG,
        summary="Install, load, unload, remove or upgrade an extension",
        description="Applied once for each id: sending it again is harmless, and tells how it stands. Whether it "
        "succeeds shows in the operation, not in this answer.",
        asked=PutOperation,
        handler=put_operation,
        answers=(
            Answer(
                status=202,
                description="It has begun.",
                type=OperationView,
                headers={"Location": "The path of the operation."},
            ),
            Answer(status=200, description="It was known already; how it stands.", type=OperationView),
        ),
        errors=(errors.PackageNotFound, errors.OperationConflict),
    ),
    Endpoint(
        method="GET",
        path="/v1/operations",
        id="listOperations",
        tag=_TAG,
        summary="The last operations, the newest first",
        asked=ListOperations,
        handler=list_operations,
        answers=(Answer(status=200, description="The operations.", type=list[OperationView]),),
    ),
    Endpoint(
        method="GET",
        path="/v1/operations/{operation}",
        id="showOperation",
        tag=_TAG,
        summary="How an operation stands",
        asked=OneOperation,
        handler=show_operation,
        answers=(Answer(status=200, description="The operation.", type=OperationView),),
        errors=(errors.OperationNotFound,),
    ),
    Endpoint(
        method="GET",
        path="/v1/operations/{operation}/events",
        id="watchOperation",
        tag=_TAG,
        summary="What an operation tells, until its end",
        description="Server-sent events: `progress`, with `{id, text}` as data, and at last `end`, with the operation. "
        "A stream that ends without `end` was broken off: ask again with the id of the last event.",
        asked=WatchOperation,
        handler=watch_operation,
        answers=(Answer(status=200, description="The events.", type=SentEvent, media_type="text/event-stream"),),
        errors=(errors.OperationNotFound,),
        is_stream=True,
    ),
    Endpoint(
        method="POST",
        path="/v1/operations/{operation}/cancel",
        id="cancelOperation",
        tag=_TAG,
        summary="End an operation, undoing what it did",
        description="One that is over stays as it is.",
        asked=OneOperation,
        handler=cancel_operation,
        answers=(Answer(status=200, description="How it stands now.", type=OperationView),),
        errors=(errors.OperationNotFound,),
    ),
)
