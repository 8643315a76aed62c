"""The API's document (OpenAPI 3.1), made from the endpoints alone."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ray_ext.control.endpoint import JSON, Answer, Endpoint, Parameter
from ray_ext.control.problems import MEDIA_TYPE, STATUS, Problem
from ray_ext.errors import (
    PayloadTooLarge,
    RayExtError,
    RequestInvalid,
    RuntimeUnreachable,
    StoreFailed,
    Unauthorised,
)

__all__ = ["document", "errors_of"]

_Json = dict[str, Any]
_REFERENCE = "#/components/schemas/{name}"
_INTRODUCTION = """The operators' API of a ray_ext runtime.

It is served on a Unix socket in the state home, which its owner alone can reach, and where the operator asked for it on
TCP, with a bearer token. Whatever changes something carries an operation id, and is applied once for each id, however
often it is sent. Errors are problem details (RFC 9457) with the error's code."""


def document(endpoints: Sequence[Endpoint], version: str) -> _Json:
    """The whole document. ``version`` is that of ray_ext."""
    types = list(_types(endpoints))
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    by_type = dict(zip(map(_key, types), schemas, strict=True))
    paths: dict[str, _Json] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ray_ext control API", "version": version, "description": _INTRODUCTION},
        "tags": [{"name": tag} for tag in dict.fromkeys(each.tag for each in endpoints)],
        "security": [{"bearer": []}, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The content of run/control-token in the state home. Over TCP only.",
                }
            },
            "schemas": {name: _described(schema) for name, schema in components.items()},
        },
    }


def errors_of(endpoint: Endpoint) -> dict[int, list[type[RayExtError]]]:
    """Every error that an endpoint may answer, by its status."""
    common: list[type[RayExtError]] = [RequestInvalid, Unauthorised, RayExtError, RuntimeUnreachable, StoreFailed]
    if endpoint.is_upload or any(each.place == "body" for each in endpoint.parameters):
        common.append(PayloadTooLarge)
    found: dict[int, list[type[RayExtError]]] = {}
    for error in dict.fromkeys((*endpoint.errors, *common)):
        found.setdefault(STATUS[error.code], []).append(error)
    return dict(sorted(found.items()))


def _types(endpoints: Iterable[Endpoint]) -> Iterable[Any]:
    yield Problem
    for endpoint in endpoints:
        yield from (parameter.type for parameter in endpoint.parameters)
        yield from (answer.type for answer in endpoint.answers if answer.type is not None)


def _key(of: Any) -> str:
    # Types such as list[Struct] are equal without being the same object; Meta is not hashable.
    return repr(of)


def _operation(endpoint: Endpoint, schemas: Mapping[str, _Json]) -> _Json:
    operation: _Json = {
        "operationId": endpoint.id,
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "description": endpoint.description or endpoint.summary,
        "parameters": [_parameter(each, schemas) for each in endpoint.parameters if each.place != "body"],
        "responses": {
            **{str(each.status): _answer(each, schemas) for each in endpoint.answers},
            **{str(status): _problem(errors, schemas) for status, errors in errors_of(endpoint).items()},
        },
    }
    body = next((each for each in endpoint.parameters if each.place == "body"), None)
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schemas[_key(body.type)]}}}
    elif endpoint.is_upload:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    return operation


def _parameter(parameter: Parameter, schemas: Mapping[str, _Json]) -> _Json:
    schema = dict(schemas[_key(parameter.type)])
    description = schema.pop("description", "")
    if parameter.default not in (None, ""):
        schema["default"] = parameter.default
    return {
        "name": parameter.wire_name,
        "in": parameter.place,
        "required": parameter.is_required,
        "description": description,
        "schema": schema,
    }


def _answer(answer: Answer, schemas: Mapping[str, _Json]) -> _Json:
    found: _Json = {"description": answer.description}
    if answer.headers:
        found["headers"] = {
            name: {"description": text, "required": True, "schema": {"type": "string"}}
            for name, text in answer.headers.items()
        }
    if answer.type is not None:
        found["content"] = {answer.media_type: {"schema": schemas[_key(answer.type)]}}
    elif answer.media_type != JSON:
        found["content"] = {answer.media_type: {"schema": {"type": "string"}}}
    return found


def _problem(errors: Sequence[type[RayExtError]], schemas: Mapping[str, _Json]) -> _Json:
    found: _Json = {
        "description": "\n".join(f"- `{each.code}`: {_sentence(each)}" for each in errors),
        "content": {MEDIA_TYPE: {"schema": schemas[_key(Problem)]}},
    }
    if Unauthorised in errors:
        found["headers"] = {
            "WWW-Authenticate": {"description": "Bearer", "required": True, "schema": {"type": "string"}}
        }
    return found


def _sentence(of: type[RayExtError]) -> str:
    if of is RayExtError:
        return "A failure of the control API itself."
    return " ".join(inspect.cleandoc(of.__doc__ or "").split())


def _described(schema: _Json) -> _Json:
    """Descriptions come from docstrings, with their indentation."""
    if "description" in schema:
        return {**schema, "description": inspect.cleandoc(schema["description"])}
    return schema
