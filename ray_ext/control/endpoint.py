"""What one operation of the API is, said once: from it come its route, the checks of a request, and its documentation.

The parameters of an operation are the fields of a struct, its ``asked``. A field that its path names is in the path;
``body`` is the request's body, as JSON; one whose ``Meta(extra={"header": NAME})`` says so is a header; every other is
in the query. A field with a default need not be given.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from ray_ext.control.backend import Backend
from ray_ext.control.book import Book
from ray_ext.control.problems import request_invalid
from ray_ext.control.staging import Staging
from ray_ext.errors import PayloadTooLarge, RayExtError
from ray_ext.home import Home

__all__ = ["JSON", "JSON_LIMIT", "Answer", "Desk", "Endpoint", "Parameter", "answer"]

JSON = "application/json"
#: The most bytes of a JSON body.
JSON_LIMIT = 1 << 20

Place = Literal["path", "query", "header", "body"]
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|true|false")


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What the operations work with."""

    backend: Backend
    home: Home
    staging: Staging
    book: Book


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an operation may answer. ``type`` None: nothing, unless there is a media type other than JSON."""

    status: int
    description: str
    type: Any = None
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One field of what is asked. ``type`` does not include None."""

    name: str
    wire_name: str
    place: Place
    type: Any
    is_required: bool
    default: Any = None

    @cached_property
    def is_number(self) -> bool:
        """Whether its text is a number or a truth value."""
        kind = msgspec.json.schema(self.type).get("type")
        return kind in ("integer", "number", "boolean")

    def parsed(self, text: str) -> Any:
        """The value that the text stands for; raises ValidationError, which says what is wrong."""
        if not self.is_number:
            if text.endswith("\n"):  # which a pattern's $ would let pass
                raise msgspec.ValidationError("Expected no line feed")
            return msgspec.convert(text, self.type)
        if not _NUMBER.fullmatch(text):
            raise msgspec.ValidationError("Expected a number, or true or false")
        return msgspec.json.decode(text, type=self.type)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An operation of the API. ``errors`` are those of its own; some can come from every operation."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    id: str
    tag: str
    summary: str
    description: str = ""
    asked: type[Struct]
    handler: Callable[[Desk, Request, Any], Awaitable[Response]]
    answers: tuple[Answer, ...]
    errors: tuple[type[RayExtError], ...] = ()
    body_limit: int = JSON_LIMIT
    #: The handler reads the body by itself: bytes, at most ``body_limit``.
    is_upload: bool = False
    #: The answer has no end of its own.
    is_stream: bool = False

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Those of the path, the query, the headers, and the body."""
        hints = get_type_hints(self.asked, include_extras=True)
        return tuple(self._parameter(each, hints[each.name]) for each in msgspec.structs.fields(self.asked))

    def _parameter(self, found: msgspec.structs.FieldInfo, hint: Any) -> Parameter:
        header = _header(hint)
        place: Place = (
            "body"
            if found.name == "body"
            else "path"
            if f"{{{found.name}}}" in self.path
            else "header"
            if header
            else "query"
        )
        return Parameter(
            name=found.name,
            wire_name=header or found.name,
            place=place,
            type=_without_none(hint),
            is_required=found.required,
            default=None if found.required else found.default,
        )

    async def read(self, request: Request) -> Struct:
        """What is asked, checked; raises RequestInvalid with all that is wrong, or PayloadTooLarge."""
        problems: list[str] = []
        values: dict[str, Any] = {}
        known = {each.wire_name for each in self.parameters if each.place == "query"}
        problems += [
            f"query: {name[:100]!r} is not known; known: {', '.join(sorted(known)) or 'none'}"
            for name in request.query_params
            if name not in known
        ]
        for parameter in self.parameters:
            if parameter.place == "body":
                continue
            texts = _texts(request, parameter)
            if len(texts) > 1:
                problems.append(f"{parameter.place}: {parameter.wire_name} is there {len(texts)} times")
            elif texts:
                try:
                    values[parameter.name] = parameter.parsed(texts[0])
                except msgspec.ValidationError as error:
                    problems.append(f"{parameter.place}: {parameter.wire_name}: {error}")
            elif parameter.is_required:
                problems.append(f"{parameter.place}: {parameter.wire_name} is missing")
        body = next((each for each in self.parameters if each.place == "body"), None)
        wanted = "application/octet-stream" if self.is_upload else None if body is None else JSON
        given = request.headers.get("content-type", "")
        if wanted is not None and given.partition(";")[0].strip().lower() != wanted:
            problems.append(f"header: Content-Type: Expected {wanted}, got {given[:100]!r}")
        if problems:
            raise request_invalid(problems, where=_where(request))
        if wanted is not None:
            self.refuse_length(request)
        if body is not None:
            values["body"] = _decoded(await self._body(request), body.type, _where(request))
        return self.asked(**values)

    def refuse_length(self, request: Request) -> None:
        """Raises PayloadTooLarge where the request says that it has more than the limit."""
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdecimal() and len(length) < 20 and int(length) > self.body_limit:
            raise self.too_large(int(length))

    def too_large(self, size_bytes: int) -> PayloadTooLarge:
        """The error for a body of (at least) this size."""
        return PayloadTooLarge(
            f"the body has {size_bytes} bytes or more; the limit is {self.body_limit}",
            where=f"{self.method} {self.path}",
            fix="send less at a time",
            details={"size_bytes": size_bytes, "limit_bytes": self.body_limit, "which": "body"},
        )

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.body_limit:
                raise self.too_large(len(body))
        return bytes(body)


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as JSON."""
    return Response(msgspec.json.encode(value), status_code=status, headers=dict(headers or {}), media_type=JSON)


def _where(request: Request) -> str:
    return f"{request.method} {request.url.path}"[:500]


def _decoded(body: bytes, wanted: Any, where: str) -> Any:
    try:
        return msgspec.json.decode(body, type=wanted)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # ValidationError is a DecodeError
        raise request_invalid([f"body: {error}"], where=where) from error
    except RecursionError:
        raise request_invalid(["body: it is nested too deeply"], where=where) from None


def _texts(request: Request, parameter: Parameter) -> list[str]:
    if parameter.place == "query":
        return request.query_params.getlist(parameter.wire_name)
    if parameter.place == "header":
        return request.headers.getlist(parameter.wire_name)
    return [request.path_params[parameter.name]]


def _metas(hint: Any) -> list[Meta]:
    return [each for each in get_args(hint)[1:] if isinstance(each, Meta)] if get_origin(hint) is Annotated else []


def _header(hint: Any) -> str:
    for alternative in (hint, *get_args(hint)):
        for meta in _metas(alternative):
            if meta.extra and "header" in meta.extra:
                return str(meta.extra["header"])
    return ""


def _without_none(hint: Any) -> Any:
    if get_origin(hint) is Annotated:
        return hint
    kept = [each for each in get_args(hint) if each is not type(None)]
    return kept[0] if type(None) in get_args(hint) and len(kept) == 1 else hint
