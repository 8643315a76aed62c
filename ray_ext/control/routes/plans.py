"""Plans: what an operation would do."""

from __future__ import annotations

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from ray_ext import errors
from ray_ext.control.commands import PlanView
from ray_ext.control.endpoint import Answer, Desk, Endpoint, answer
from ray_ext.control.requests import CommandRequest
from ray_ext.control.staging import Staging

__all__ = ["ENDPOINTS", "PLANNING_ERRORS", "wheel_of"]

#: What may refuse a command before its first step.
PLANNING_ERRORS = (
    errors.ManifestInvalid,
    errors.ConfigurationInvalid,
    errors.PackageInvalid,
    errors.PackageNotFound,
    errors.ExtensionNotFound,
    errors.ReleaseConflict,
    errors.InstallationConflict,
    errors.GrantRequired,
    errors.NotLanded,
    errors.DependencyConflict,
    errors.DependencyCycle,
    errors.DependentsExist,
    errors.EnvironmentFailed,
    errors.PlanStale,
    errors.OperationConflict,
)


class MakePlan(Struct):
    """For what."""

    body: CommandRequest


async def make_plan(desk: Desk, _request: Request, asked: MakePlan) -> Response:
    """The plan."""
    wheel = await wheel_of(asked.body, desk.staging)
    return answer(await desk.backend.plan(asked.body.command(wheel)))


async def wheel_of(request: CommandRequest, staging: Staging) -> bytes | None:
    """The package that the request names; raises PackageNotFound."""
    return None if request.package is None else await staging.read(request.package)


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        method="POST",
        path="/v1/plans",
        id="makePlan",
        tag="operations",
        summary="What an operation would do, step by step and why",
        description="Changes nothing, and runs nothing of the extension.",
        asked=MakePlan,
        handler=make_plan,
        answers=(Answer(status=200, description="The plan.", type=PlanView),),
        errors=PLANNING_ERRORS,
    ),
)
