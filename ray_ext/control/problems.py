"""Errors as the control API answers them: RFC 9457 problem details with the error's code."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ray_ext.errors import Overloaded, RayExtError, RequestInvalid, Unauthorised

__all__ = ["MEDIA_TYPE", "STATUS", "Problem", "on_http_exception", "problem_of", "problem_response", "request_invalid"]

MEDIA_TYPE = "application/problem+json"

_log = logging.getLogger(__name__)

#: The HTTP status of every error, by its code. 400 is a request of a wrong shape, 409 one that does not fit what there
#: is, 422 one whose contents are wrong, 502 an extension's fault, 503 what may pass.
STATUS: Mapping[str, int] = {
    "argument-mismatch": 422,
    "argument-not-serialisable": 422,
    "call-cancelled": 409,
    "configuration-invalid": 422,
    "deadline-exceeded": 504,
    "dependency-conflict": 409,
    "dependency-cycle": 409,
    "dependents-exist": 409,
    "environment-failed": 422,
    "extension-crashed": 502,
    "extension-error": 502,
    "extension-hung": 502,
    "extension-not-found": 404,
    "extension-not-loaded": 409,
    "grant-required": 403,
    "installation-conflict": 409,
    "insufficient-resources": 503,
    "internal-error": 500,
    "isolation-unavailable": 409,
    "listen-invalid": 422,
    "load-failed": 502,
    "manifest-invalid": 422,
    "nested-object-ref": 422,
    "no-event-loop": 500,
    "not-available-yet": 422,
    "not-exported": 404,
    "operation-cancelled": 409,
    "operation-conflict": 409,
    "operation-failed": 409,
    "operation-not-found": 404,
    "outcome-unknown": 502,
    "overloaded": 503,
    "package-invalid": 422,
    "package-not-found": 404,
    "payload-too-large": 413,
    "plan-stale": 409,
    "protocol-violation": 502,
    "release-conflict": 409,
    "request-invalid": 400,
    "result-not-serialisable": 502,
    "runtime-closed": 503,
    "runtime-conflict": 409,
    "runtime-unreachable": 503,
    "store-failed": 503,
    "unauthorised": 401,
}


class Problem(Struct, frozen=True, kw_only=True):
    """An error (RFC 9457). ``type`` is where its explanation is, ``title`` the code in words, ``detail`` what happened.

    ``actor`` is who must act (caller, extension, operator, cluster), ``where`` the place, ``fix`` what to do; these
    may be empty.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    actor: str
    where: str
    fix: str
    details: dict[str, Any]


def problem_of(error: RayExtError, status: int | None = None) -> Problem:
    """The problem details of an error; the status is its code's unless another is given."""
    return Problem(
        type=f"/v1/errors/{error.code}",
        title=error.code.replace("-", " ").capitalize(),
        status=STATUS.get(error.code, 500) if status is None else status,
        detail=error.what,
        code=error.code,
        actor=error.actor,
        where=error.where,
        fix=error.fix,
        details=dict(error.details),
    )


def problem_response(error: RayExtError, status: int | None = None, *, allow: str = "") -> Response:
    """The answer that tells of an error."""
    problem = problem_of(error, status)
    headers = {}
    if allow:
        headers["Allow"] = allow
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, Unauthorised):
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        msgspec.json.encode(problem, enc_hook=repr), status_code=problem.status, headers=headers, media_type=MEDIA_TYPE
    )


def request_invalid(problems: list[str], *, where: str = "") -> RequestInvalid:
    """A request that is not one that the document describes."""
    return RequestInvalid(
        "; ".join(problems),
        where=where,
        fix="see the API's document: GET /v1/openapi.json",
        details={"problems": problems},
    )


async def on_http_exception(request: Request, error: Exception) -> Response:
    """A path that is not one of the API's (404), or a method that the path does not have (405)."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}"[:500]
    allow = (error.headers or {}).get("Allow", "")
    if error.status_code == 405:
        what = f"{request.method[:20]} is not possible here; what is: {allow}"
    else:
        what = "the API has no such path"
    return problem_response(request_invalid([what], where=where), error.status_code, allow=allow)


def unexpected(error: Exception, where: str) -> RayExtError:
    """What the client is told of a failure of ours; the log has all of it."""
    _log.error("%s failed", where, exc_info=error)
    return RayExtError(
        f"the control API failed: {type(error).__name__}",
        where=where,
        fix="see the log of the control actor; please report it",
    )
