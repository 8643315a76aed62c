"""Known releases."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from ray_ext import errors
from ray_ext.control.endpoint import Answer, Desk, Endpoint, answer
from ray_ext.control.grammar import ExtensionId, OperationHeader, OperatorHeader, Sha256, Version
from ray_ext.control.views import ReleaseView

__all__ = ["ENDPOINTS"]

_TAG = "releases"


class ListReleases(Struct):
    """Of whom."""

    extension: ExtensionId | None = None


class RegisterBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``package`` is the sha256 of one that was uploaded, ``source`` where it came from, for people."""

    package: Sha256
    source: Annotated[str, Meta(max_length=4096)] = ""


class RegisterRelease(Struct):
    """What, by whom."""

    body: RegisterBody
    operation: OperationHeader
    operator: OperatorHeader = "control"


class OneRelease(Struct):
    """Which, by whom."""

    id: ExtensionId
    version: Version
    operation: OperationHeader
    operator: OperatorHeader = "control"


class YankBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why plans are not to choose it."""

    reason: Annotated[str, Meta(min_length=1, max_length=1000)]


class YankRelease(Struct):
    """Which, why, by whom."""

    id: ExtensionId
    version: Version
    body: YankBody
    operation: OperationHeader
    operator: OperatorHeader = "control"


async def list_releases(desk: Desk, _request: Request, asked: ListReleases) -> Response:
    """All, or those of one extension."""
    return answer(await desk.backend.releases(asked.extension))


async def register_release(desk: Desk, _request: Request, asked: RegisterRelease) -> Response:
    """Make one known."""
    wheel = await desk.staging.read(asked.body.package)
    view = await desk.backend.register(wheel, asked.body.source, asked.operator, asked.operation)
    return answer(view, 201)


async def forget_release(desk: Desk, _request: Request, asked: OneRelease) -> Response:
    """Know one no longer."""
    await desk.backend.forget(asked.id, asked.version, asked.operator, asked.operation)
    return Response(status_code=204)


async def yank_release(desk: Desk, _request: Request, asked: YankRelease) -> Response:
    """Keep plans from it."""
    await desk.backend.yank(asked.id, asked.version, asked.body.reason, asked.operator, asked.operation)
    return Response(status_code=204)


async def unyank_release(desk: Desk, _request: Request, asked: OneRelease) -> Response:
    """Let them again."""
    await desk.backend.yank(asked.id, asked.version, None, asked.operator, asked.operation)
    return Response(status_code=204)


_DONE = Answer(status=204, description="It is so.")

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/releases",
        id="listReleases",
        tag=_TAG,
        summary="The known releases",
        asked=ListReleases,
        handler=list_releases,
        answers=(Answer(status=200, description="The releases.", type=list[ReleaseView]),),
    ),
    Endpoint(
        method="POST",
        path="/v1/releases",
        id="registerRelease",
        tag=_TAG,
        summary="Make the release in an uploaded package known, without installing it",
        asked=RegisterRelease,
        handler=register_release,
        answers=(Answer(status=201, description="The release.", type=ReleaseView),),
        errors=(
            errors.PackageNotFound,
            errors.ManifestInvalid,
            errors.PackageInvalid,
            errors.ReleaseConflict,
            errors.NotLanded,
            errors.OperationConflict,
        ),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/releases/{id}/{version}",
        id="forgetRelease",
        tag=_TAG,
        summary="Know a release no longer",
        description="One that is not known stays so.",
        asked=OneRelease,
        handler=forget_release,
        answers=(_DONE,),
        errors=(errors.InstallationConflict, errors.OperationConflict),
    ),
    Endpoint(
        method="PUT",
        path="/v1/releases/{id}/{version}/yank",
        id="yankRelease",
        tag=_TAG,
        summary="Keep plans from choosing a release",
        description="Where it is installed it stays.",
        asked=YankRelease,
        handler=yank_release,
        answers=(_DONE,),
        errors=(errors.ExtensionNotFound, errors.OperationConflict),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/releases/{id}/{version}/yank",
        id="unyankRelease",
        tag=_TAG,
        summary="Let plans choose a release again",
        asked=OneRelease,
        handler=unyank_release,
        answers=(_DONE,),
        errors=(errors.ExtensionNotFound, errors.OperationConflict),
    ),
)
