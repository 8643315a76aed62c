"""Leads schemathesis, which loads this by its environment, to where there is something: what it makes up is nowhere."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import schemathesis

#: What the test has installed, and registered.
EXTENSION, METHOD, VERSION = "probe", "echo", "1.0.0"


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Change two cases of three; the third stays as it was made."""
    path, body = case.operation.path, case.body
    if str((case.query or {}).get("is_following", "")).lower() == "true":
        case.query["is_following"] = "false"  # it would not end
    if isinstance(body, dict) and isinstance(body.get("timeout_s"), int | float) and 0 <= body["timeout_s"] < 10:
        body["timeout_s"] = 60  # what has no time is answered with 504, rightly
    is_made_up = zlib.crc32(repr((case.method, path, case.path_parameters, body)).encode()) % 3 == 0
    if is_made_up or case.meta is None or case.meta.generation.mode.is_negative:
        return
    parameters = case.path_parameters or {}
    for name, value in (("id", EXTENSION), ("method", METHOD), ("version", VERSION)):
        if name in parameters and not (name == "version" and case.method == "DELETE"):
            parameters[name] = value
    if path.endswith("/methods/{method}") and isinstance(body, dict):
        body["args"], body["kwargs"] = [body.get("kwargs")], {}
    elif "verb" in (body if isinstance(body, dict) else {}):
        body.pop("package", None)
        body["extension"] = EXTENSION
        # It is needed by the others: what would end it is planned and never carried out.
        if body["verb"] in ("unload", "remove") and case.method == "PUT":
            body["verb"] = "load"
    elif "sha256" in parameters and isinstance(body, bytes):
        parameters["sha256"] = hashlib.sha256(body).hexdigest()
