"""pydantic's errors about a manifest, in our words: the key as its author wrote it, what is allowed, and the fix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ray_ext.manifests.grammar import Unfit
from ray_ext.manifests.model import Manifest
from ray_ext.manifests.problems import Problem, did_you_mean, key_path, show

__all__ = ["problems_of"]

_TYPES = {
    "string": "text in quotes",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a list",
    "mapping": "a table",
    "dict": "a table",
    "model": "a table",
}
_BOUNDS = {
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "too_long": "at most {max_length} entries",
    "too_short": "at least {min_length} entries",
}


def problems_of(error: ValidationError, data: Mapping[str, Any], file: str) -> list[Problem]:
    """One problem for each of the error's details, in the order of the manifest's fields."""
    details = error.errors(include_url=False, include_context=True, include_input=True)
    return [_problem(detail, data, file) for detail in details]


def _problem(detail: ErrorDetails, data: Mapping[str, Any], file: str) -> Problem:
    kind, context = detail["type"], detail.get("ctx", {})
    location = _written_location(detail["loc"], data)
    found = show(detail["input"])
    cause = context.get("error")
    if isinstance(cause, Unfit):
        if cause.key:
            location, found = cause.key, show(cause.key[-1])
        return Problem(file, key_path(location), found, cause.allowed, cause.fix)
    key = key_path(location)
    if kind == "missing":
        table = key_path(location[:-1])
        return Problem(file, key, "nothing", _described(detail["loc"]), f"add it{f' to [{table}]' if table else ''}")
    if kind == "extra_forbidden":
        known = sorted(_fields(detail["loc"][:-1]))
        fix = did_you_mean(str(location[-1]), known)
        return Problem(file, key, "an unknown key", f"the keys {', '.join(known)}", fix)
    if kind == "literal_error":
        allowed = str(context.get("expected", "")).replace(" or ", ", ")
        choices = [choice.strip("'") for choice in allowed.split(", ")]
        written = detail["input"]
        fix = did_you_mean(written, choices) if isinstance(written, str) else f"write {choices[0]}"
        return Problem(file, key, found, f"one of {allowed}", fix if fix != "remove it" else "choose one of them")
    if kind in _BOUNDS:
        shown = f"{len(detail['input'])} of them" if kind in ("too_long", "too_short") else found
        return Problem(file, key, shown, _BOUNDS[kind].format(**context), "change it to fit")
    if kind == "finite_number":
        return Problem(file, key, found, "a finite number", "write a finite number")
    for prefix, allowed in _TYPES.items():
        if kind.startswith(prefix):
            return Problem(file, key, found, allowed, f"write {allowed}")
    # A kind of error that this table does not know (of a later pydantic): its own words, without its jargon's address.
    return Problem(file, key, found, detail["msg"][:200], "change it to fit")


def _written_location(location: tuple[str | int, ...], data: object) -> tuple[str | int, ...]:
    """The location in the file: without the ``scopes`` of a group that was written as a plain list."""
    written: list[str | int] = []
    for part in location:
        if part == "[key]":  # pydantic's mark for an error about a mapping's key
            continue
        if isinstance(part, str) and isinstance(data, list):
            continue
        written.append(part)
        if isinstance(data, Mapping):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
    return tuple(written)


def _models(location: tuple[str | int, ...]) -> Iterator[type[BaseModel]]:
    """The models along a location, from the manifest down."""
    model: type[BaseModel] = Manifest
    yield model
    for part in location:
        field = model.model_fields.get(str(part))
        candidates = [field.annotation, *get_args(field.annotation)] if field else []
        below = [each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)]
        if not below:
            return
        model = below[0]
        yield model


def _fields(location: tuple[str | int, ...]) -> list[str]:
    return list(list(_models(location))[-1].model_fields)


def _described(location: tuple[str | int, ...]) -> str:
    field = list(_models(location[:-1]))[-1].model_fields.get(str(location[-1]))
    return (field.description or "a value").rstrip(".") if field else "a value"
