"""Uploads of packages, which operations name by their sha256."""

from __future__ import annotations

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from ray_ext.control.endpoint import Answer, Desk, Endpoint, answer
from ray_ext.control.grammar import Sha256
from ray_ext.control.staging import PACKAGE_LIMIT, StagedPackage
from ray_ext.errors import PackageInvalid

__all__ = ["ENDPOINTS"]


class UploadPackage(Struct):
    """Which it is."""

    sha256: Sha256


async def upload_package(desk: Desk, request: Request, asked: UploadPackage) -> Response:
    """Keep a package for a while."""
    package, is_new = await desk.staging.receive(asked.sha256, request.stream())
    return answer(package, 201 if is_new else 200)


ENDPOINTS = (
    Endpoint(
        method="PUT",
        path="/v1/packages/{sha256}",
        id="uploadPackage",
        tag="packages",
        summary="Upload a package: the bytes of a wheel",
        description="It is kept for an hour, for operations and registrations that name it.",
        asked=UploadPackage,
        handler=upload_package,
        answers=(
            Answer(status=201, description="The package is there.", type=StagedPackage),
            Answer(status=200, description="It was there already, and is kept for another hour.", type=StagedPackage),
        ),
        errors=(PackageInvalid,),
        body_limit=PACKAGE_LIMIT,
        is_upload=True,
    ),
)
