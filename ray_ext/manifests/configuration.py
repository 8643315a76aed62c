"""Validate a configuration against its extension's schema: defaults in, every problem out, no secret shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from jsonschema.exceptions import ValidationError

from ray_ext.errors import ConfigurationInvalid
from ray_ext.manifests.defaults import with_defaults
from ray_ext.manifests.problems import SECRET, Problem, did_you_mean, key_path, raise_problems, show
from ray_ext.manifests.schema_check import expanded_nodes
from ray_ext.manifests.schema_shape import bounds_problem
from ray_ext.manifests.schema_validator import TooMuchWork, errors_in
from ray_ext.manifests.secret_values import SecretPath, holds_secret, is_secret, secret_paths

__all__ = ["validate_configuration"]

_FILE = "configuration"
_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "a table",
    "array": "a list",
    "null": "null",
}
_LIMITS = {
    "minimum": "a number of at least {}",
    "maximum": "a number of at most {}",
    "exclusiveMinimum": "a number above {}",
    "exclusiveMaximum": "a number below {}",
    "multipleOf": "a multiple of {}",
    "minLength": "text of at least {} characters",
    "maxLength": "text of at most {} characters",
    "minItems": "at least {} entries",
    "maxItems": "at most {} entries",
    "minProperties": "at least {} keys",
    "maxProperties": "at most {} keys",
}


def validate_configuration(schema: Mapping[str, Any] | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``values`` with the schema's defaults, valid by the schema.

    ``schema`` is a :attr:`ManifestSource.configuration_schema` (it has passed :func:`check_schema`); None means that
    the extension takes no configuration. Raises ConfigurationInvalid with every problem; values of ``writeOnly``
    properties appear in it as ``<secret>``.
    """
    bounds = bounds_problem(values)
    if bounds is not None:
        path, found, allowed = bounds
        _refuse([Problem(_FILE, key_path(path), found, allowed, "simplify the configuration")])
    if not isinstance(values, Mapping):
        _refuse([Problem(_FILE, "", "no table", "a table of keys and values", "give a table")])
    if schema is None:
        allowed = "nothing: the manifest has no [configuration]"
        problems = [Problem(_FILE, key_path([name]), "an unknown key", allowed, "remove it") for name in values]
        if problems:
            _refuse(problems)
        return {}
    try:
        filled: dict[str, Any] = with_defaults(values, schema, schema)
        errors = errors_in(filled, {"type": "object", **schema}, schema, expanded_nodes(schema))
    except (TooMuchWork, RecursionError):
        found = "values that take too many steps to check against the schema"
        _refuse([Problem(_FILE, "", found, "a smaller configuration", "simplify the configuration or its schema")])
    if errors:
        secrets = secret_paths(schema)
        _refuse(list(dict.fromkeys(_problem(error, filled, secrets) for error in errors)))
    return filled


def _refuse(problems: list[Problem]) -> NoReturn:
    raise_problems(ConfigurationInvalid, "the configuration", problems)


def _problem(error: Any, values: object, secrets: tuple[SecretPath, ...]) -> Problem:
    path = tuple(error.absolute_path)
    keyword, expected = str(error.validator or ""), error.validator_value
    if keyword == "required":
        described = _described(_properties(error).get(error.message))
        return Problem(_FILE, key_path((*path, error.message)), "nothing", described, "add it")
    if keyword == "additionalProperties" and expected is False:
        known = sorted(_properties(error))
        allowed = f"the keys {', '.join(known[:50])}" if known else "no keys"
        fix = did_you_mean(error.message, known)
        return Problem(_FILE, key_path((*path, error.message)), "an unknown key", allowed, fix)
    is_hidden = is_secret(secrets, path) or holds_secret(secrets, path)
    allowed = _allowed(keyword, expected, is_hidden=is_hidden)
    fix = "change it to fit"
    if keyword == "enum" and isinstance(error.instance, str) and not is_hidden:
        nearest = did_you_mean(error.instance, [each for each in expected if isinstance(each, str)])
        fix = nearest if nearest != "remove it" else fix
    return Problem(_FILE, key_path(path), _found(values, path, secrets), allowed, fix)


def _properties(error: ValidationError) -> Mapping[str, Any]:
    schema = error.schema
    found = schema.get("properties", {}) if isinstance(schema, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


def _found(values: object, path: tuple[str | int, ...], secrets: tuple[SecretPath, ...]) -> str:
    """What stands at a path. Of tables only the keys, because a secret under a misspelt key is not known as one."""
    here: Any = values
    for part in path:
        here = here[part]
    if is_secret(secrets, path):
        return SECRET
    if isinstance(here, Mapping):
        return f"a table with the keys {show(sorted(here))}" if here else "an empty table"
    if isinstance(here, list | tuple):
        return f"a list of {len(here)} entries"
    return SECRET if here is not None and holds_secret(secrets, path) else show(here)


def _allowed(keyword: str, expected: Any, *, is_hidden: bool) -> str:
    if keyword in _LIMITS:
        return _LIMITS[keyword].format(show(expected))
    if keyword == "type":
        return _described({"type": expected})
    if keyword in ("enum", "const"):
        return "one of the values that the schema lists" if is_hidden else _described({keyword: expected})
    if keyword == "pattern":
        return f"text that matches {show(expected)}"
    if keyword in ("anyOf", "oneOf"):
        forms = " | ".join(dict.fromkeys(_described(each) for each in expected[:8]))
        return f"{'exactly one' if keyword == 'oneOf' else 'one'} of {len(expected)} forms ({forms})"
    if keyword == "uniqueItems":
        return "entries that differ from each other"
    if keyword == "dependentRequired":
        return f"keys with those that they need: {show(expected)}"
    return f"what the schema says under {keyword}" if keyword else "nothing"


def _described(schema: object) -> str:
    """A short description of what a schema allows."""
    if not isinstance(schema, Mapping):
        return "a value"
    if "const" in schema:
        return show(schema["const"])
    if isinstance(schema.get("enum"), list):
        return f"one of {', '.join(show(each) for each in schema['enum'][:20])}"
    kinds = schema.get("type", [])
    names = [_TYPES.get(kind, "a value") for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    return " or ".join(names) or "a value"
