"""Logs, as JSON lines."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ray_ext.control.endpoint import Answer, Desk, Endpoint
from ray_ext.control.grammar import ExtensionId
from ray_ext.control.log_reading import LogQuery, LogReader
from ray_ext.control.log_stream import stream_logs
from ray_ext.errors import ExtensionNotFound

__all__ = ["ENDPOINTS"]

_TAG = "logs"
_NDJSON = "application/x-ndjson"

Since = Annotated[float, Meta(ge=0, le=1e11, description="Records from this time on, in Unix seconds.")]
Level = Annotated[
    Literal["debug", "info", "warning", "error", "critical"], Meta(description="Records of this level and above.")
]
Lines = Annotated[int, Meta(ge=0, le=1_000_000, description="How many, the last ones, of those that there are.")]
IsFollowing = Annotated[bool, Meta(description="Whether those that come follow, until the client has enough.")]


class ReadLogs(Struct):
    """Which records."""

    since: Since | None = None
    level: Level = "debug"
    lines: Lines | None = None
    is_following: IsFollowing = False


class ReadLog(ReadLogs):
    """Which records of whom."""

    id: ExtensionId = ""


async def read_logs(desk: Desk, _request: Request, asked: ReadLogs) -> Response:
    """Everybody's records."""
    query = LogQuery(since=asked.since, level=asked.level, lines=asked.lines)
    return _stream(await asyncio.to_thread(LogReader, desk.home, query), is_following=asked.is_following)


async def read_log(desk: Desk, _request: Request, asked: ReadLog) -> Response:
    """An extension's records; none where it is installed and has logged nothing yet."""
    query = LogQuery(extensions=(asked.id,), since=asked.since, level=asked.level, lines=asked.lines)
    try:
        reader = await asyncio.to_thread(LogReader, desk.home, query)
    except ExtensionNotFound:
        await desk.backend.show(asked.id)
        reader = await asyncio.to_thread(LogReader, desk.home, query, expected=(asked.id,))
    return _stream(reader, is_following=asked.is_following)


def _stream(reader: LogReader, *, is_following: bool) -> Response:
    return StreamingResponse(stream_logs(reader, is_following=is_following), media_type=_NDJSON)


_RECORDS = Answer(status=200, description="The records, a JSON object in each line.", media_type=_NDJSON)

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/logs",
        id="readLogs",
        tag=_TAG,
        summary="What the extensions and the system's actors have logged, by time",
        asked=ReadLogs,
        handler=read_logs,
        answers=(_RECORDS,),
        is_stream=True,
    ),
    Endpoint(
        method="GET",
        path="/v1/extensions/{id}/logs",
        id="readLog",
        tag=_TAG,
        summary="What an extension has logged",
        description="Also of one that is not installed any more, as long as its log is there.",
        asked=ReadLog,
        handler=read_log,
        answers=(_RECORDS,),
        errors=(ExtensionNotFound,),
        is_stream=True,
    ),
)
