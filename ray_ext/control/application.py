"""The control API as an ASGI application: routes from the endpoints, one way in, one way for errors out."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Iterable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ray_ext.control.backend import Backend
from ray_ext.control.book import Book
from ray_ext.control.endpoint import Desk, Endpoint
from ray_ext.control.problems import on_http_exception, problem_response, unexpected
from ray_ext.control.routes import ENDPOINTS
from ray_ext.control.staging import Staging
from ray_ext.errors import RayExtError, Unauthorised
from ray_ext.home import Home

__all__ = ["make_application"]

#: How often uploads that nobody took are looked for, in seconds.
_SWEEP_S = 300.0


def make_application(
    backend: Backend, home: Home, *, token: str | None = None, book: Book | None = None, staging: Staging | None = None
) -> Starlette:
    """The application. With a ``token``, every request must carry it as a bearer token.

    Applications of one process share what they know of operations if they get the same ``book``.
    """
    desk = Desk(
        backend=backend,
        home=home,
        staging=staging or Staging(home.run / "uploads"),
        book=book or Book(backend),
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(desk.staging))
        try:
            yield
        finally:
            sweeping.cancel()

    application = Starlette(
        routes=list(_routes(desk, ENDPOINTS)),
        middleware=[] if token is None else [Middleware(_TokenCheck, token=token)],
        exception_handlers={HTTPException: on_http_exception},
        lifespan=lifespan,
    )
    application.router.redirect_slashes = False
    return application


def _routes(desk: Desk, endpoints: Sequence[Endpoint]) -> Iterable[Route]:
    for path in dict.fromkeys(each.path for each in endpoints):
        resource = _Resource(desk, {each.method: each for each in endpoints if each.path == path})
        yield Route(path, resource, include_in_schema=False)


class _Resource:
    """Whatever can be done at one path; HEAD is GET without a body."""

    def __init__(self, desk: Desk, endpoints: dict[str, Endpoint]) -> None:
        self._desk = desk
        self._endpoints = endpoints
        methods = {*endpoints, *({"HEAD"} if "GET" in endpoints else ())}
        self._allow = ", ".join(sorted(methods))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        endpoint = self._endpoints.get("GET" if request.method == "HEAD" else request.method)
        if endpoint is None:
            raise HTTPException(405, headers={"Allow": self._allow})
        response = await self._respond(endpoint, request)
        await response(scope, receive, send)

    async def _respond(self, endpoint: Endpoint, request: Request) -> Response:
        where = f"{endpoint.method} {endpoint.path}"
        try:
            asked = await endpoint.read(request)
            if request.method == "HEAD" and endpoint.is_stream:
                # A stream may have no end, and nobody would read it.
                return Response(media_type=endpoint.answers[0].media_type)
            return await endpoint.handler(self._desk, request, asked)
        except RayExtError as error:
            return problem_response(error)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except Exception as error:  # noqa: BLE001 - logged; whatever it is, the client is told as a problem
            return problem_response(unexpected(error, where))


class _TokenCheck:
    """Lets requests through that carry the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._has_token(Request(scope)):
            await self._app(scope, receive, send)
            return
        error = Unauthorised(
            "the request carries no bearer token, or a wrong one",
            fix="send Authorization: Bearer TOKEN (ray-ext does where RAY_EXT_TOKEN_FILE names the file); the token "
            "is in run/control-token of the runtime's state home",
        )
        await problem_response(error)(scope, receive, send)

    def _has_token(self, request: Request) -> bool:
        given = request.headers.getlist("authorization")
        if len(given) != 1:
            return False
        scheme, _, token = given[0].partition(" ")
        # Headers are bytes; Starlette reads them as Latin-1.
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode("latin-1"), self._token)


async def _sweep(staging: Staging) -> None:
    while True:
        await asyncio.to_thread(staging.sweep)
        await asyncio.sleep(_SWEEP_S)
