"""Which values of a configuration are secret (``writeOnly`` in its schema), and the configuration without them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ray_ext.manifests.problems import SECRET
from ray_ext.manifests.schema_shape import MAX_DEPTH, resolve

__all__ = ["holds_secret", "is_secret", "redact", "secret_paths", "secret_texts"]

_SAME = ("else", "if", "not", "then")
_SAME_LIST = ("allOf", "anyOf", "oneOf")
_EACH = ("additionalProperties", "contains", "items", "unevaluatedItems", "unevaluatedProperties")

SecretPath = tuple[str, ...]


def secret_paths(schema: Mapping[str, Any] | None) -> tuple[SecretPath, ...]:
    """The paths of the ``writeOnly`` values that a schema describes, sorted; ``*`` stands for any key or position.

    A path counts when any branch (``anyOf``, ``if``, ...) says so: better one value too many hidden.

    >>> secret_paths({"properties": {"token": {"writeOnly": True}, "hosts": {"items": {"writeOnly": True}}}})
    (('hosts', '*'), ('token',))
    """
    return tuple(sorted(set(_secrets(schema, schema or {}, ()))))


def _secrets(schema: object, root: Mapping[str, Any], path: SecretPath, depth: int = 0) -> Iterator[SecretPath]:
    if not isinstance(schema, Mapping) or depth > 2 * MAX_DEPTH:
        return
    if schema.get("writeOnly") is True:
        yield path
        return
    for below, at in _applied(schema, root):
        yield from _secrets(below, root, (*path, *at), depth + 1)


def _applied(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[tuple[object, SecretPath]]:
    """The subschemas that apply to a value or to what is in it, with the path from the one to the other."""
    yield from ((schema[keyword], ()) for keyword in _SAME if keyword in schema)
    for keyword in _SAME_LIST:
        yield from ((each, ()) for each in schema.get(keyword, ()))
    yield from ((each, ()) for each in schema.get("dependentSchemas", {}).values())
    if "$ref" in schema and (target := resolve(root, schema["$ref"])) is not None:
        yield target[1], ()
    yield from ((each, (name,)) for name, each in schema.get("properties", {}).items())
    yield from ((schema[keyword], ("*",)) for keyword in _EACH if keyword in schema)
    yield from ((each, ("*",)) for each in schema.get("prefixItems", ()))
    yield from ((each, ("*",)) for each in schema.get("patternProperties", {}).values())


def redact(schema: Mapping[str, Any] | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a configuration for display: every secret value is ``<secret>``."""
    paths = secret_paths(schema)
    return {name: _redacted(value, paths, (name,)) for name, value in values.items()}


def _redacted(value: object, paths: tuple[SecretPath, ...], at: tuple[str | int, ...]) -> object:
    if is_secret(paths, at):
        return SECRET
    if isinstance(value, Mapping):
        return {name: _redacted(below, paths, (*at, name)) for name, below in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(below, paths, (*at, index)) for index, below in enumerate(value)]
    # A plain value where the schema has a table with a secret inside is likely that secret, one level too high.
    return SECRET if value is not None and holds_secret(paths, at) else copy.copy(value)


def secret_texts(schema: Mapping[str, Any] | None, values: Mapping[str, Any]) -> tuple[str, ...]:
    """What must not be read in a log: the secret values as texts, sorted; numbers as JSON writes them.

    ``true``, ``false`` and ``null`` are no secrets, nor are the names within a secret table.
    """
    paths = secret_paths(schema)
    return tuple(sorted({text for name, value in values.items() for text in _texts(value, paths, (name,))}))


def _texts(value: object, paths: tuple[SecretPath, ...], at: tuple[str | int, ...]) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield from _texts(below, paths, (*at, name))
    elif isinstance(value, list | tuple):
        for index, below in enumerate(value):
            yield from _texts(below, paths, (*at, index))
    elif isinstance(value, bool) or value is None:
        return
    elif is_secret(paths, at) or holds_secret(paths, at):
        yield value if isinstance(value, str) else json.dumps(value)


def is_secret(paths: tuple[SecretPath, ...], at: tuple[str | int, ...]) -> bool:
    """Whether the value at a path is secret, or lies within one that is."""
    return any(len(path) <= len(at) and _matches(path, at) for path in paths)


def holds_secret(paths: tuple[SecretPath, ...], at: tuple[str | int, ...]) -> bool:
    """Whether the schema has a secret below the value at a path."""
    return any(len(path) > len(at) and _matches(path, at) for path in paths)


def _matches(path: SecretPath, at: tuple[str | int, ...]) -> bool:
    return all(part in ("*", str(place)) for part, place in zip(path, at, strict=False))
