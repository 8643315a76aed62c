"""What the errors mean."""

from __future__ import annotations

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from ray_ext.control.endpoint import Answer, Desk, Endpoint, answer
from ray_ext.control.grammar import ErrorCode
from ray_ext.control.problems import MEDIA_TYPE, Problem, problem_response, request_invalid
from ray_ext.explanations import Explanation, explain

__all__ = ["ENDPOINTS"]


class ExplainError(Struct):
    """Which."""

    code: ErrorCode


async def explain_error(_desk: Desk, _request: Request, asked: ExplainError) -> Response:
    """Its explanation."""
    explanation = explain(asked.code)
    if explanation is None:
        return problem_response(request_invalid([f"there is no error {asked.code}"]), 404)
    return answer(explanation)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/errors/{code}",
        id="explainError",
        tag="errors",
        summary="What an error means, and what to do",
        asked=ExplainError,
        handler=explain_error,
        answers=(
            Answer(status=200, description="The explanation.", type=Explanation),
            Answer(status=404, description="There is no such error.", type=Problem, media_type=MEDIA_TYPE),
        ),
    ),
)
