"""The shape of JSON values and JSON Schemas: bounds on any JSON, and where a schema holds subschemas and references.

Iterative, so that it may be shown anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

__all__ = ["Path", "Size", "bounds_problem", "json_size", "positions", "resolve", "subschemas"]

Path = tuple[str | int, ...]

MAX_BYTES = 256 * 1024
MAX_NODES = 10_000
MAX_DEPTH = 64

_ONE = (
    "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not", "propertyNames", "then",
    "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
_LIST = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAP = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")


class Size(NamedTuple):
    """The size of a JSON value: its nodes, and about how many bytes it has."""

    nodes: int
    size_bytes: int


def json_size(value: object) -> Size:
    """The size of a JSON value that is within bounds."""
    nodes, size_bytes = 0, 0
    stack = [value]
    while stack:
        here = stack.pop()
        nodes += 1
        if isinstance(here, str):
            size_bytes += len(here)
        elif isinstance(here, Mapping):
            size_bytes += sum(len(key) for key in here)
            stack += here.values()
        elif isinstance(here, list | tuple):
            stack += here
    return Size(nodes, size_bytes + 8 * nodes)


def bounds_problem(value: object) -> tuple[Path, str, str] | None:
    """The first place where ``value`` is no JSON of reasonable size, as path, what was found and what is allowed.

    Allowed are at most 10,000 nodes, 64 levels and 256 KiB; numbers of at most 64 bits; text that is Unicode.
    """
    nodes, size_bytes = 0, 0
    stack: list[tuple[Path, object]] = [((), value)]
    while stack:
        path, here = stack.pop()
        nodes += 1
        size_bytes += 8
        if len(path) > MAX_DEPTH:
            return path[:8], "values nested too deeply", f"at most {MAX_DEPTH} levels"
        if isinstance(here, Mapping):
            for key, below in here.items():
                if not isinstance(key, str) or not _is_text(key):
                    return path, "a key that is no text", "keys of Unicode text"
                size_bytes += len(key)
                stack.append(((*path, key), below))
        elif isinstance(here, list | tuple):
            stack += [((*path, index), below) for index, below in enumerate(here[: MAX_NODES + 1])]
        elif (unfit := _scalar_problem(here)) is not None:
            return (path, *unfit)
        elif isinstance(here, str):
            size_bytes += len(here)
        if nodes + len(stack) > MAX_NODES:
            return (), f"more than {MAX_NODES} values", f"at most {MAX_NODES}"
        if size_bytes > MAX_BYTES:
            return (), f"more than {MAX_BYTES} bytes", f"at most {MAX_BYTES} bytes"
    return None


def _scalar_problem(value: object) -> tuple[str, str] | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return None if -(2**63) <= value < 2**64 else ("a number beyond 64 bits", "numbers of at most 64 bits")
    if isinstance(value, float):
        return None if math.isfinite(value) else (repr(value), "finite numbers")
    if isinstance(value, str):
        return None if _is_text(value) else ("text with lone surrogates", "Unicode text")
    return f"a value of type {type(value).__name__}", "JSON: text, numbers, true, false, null, lists and tables"


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    """The direct subschemas of a schema, each with its path from there; none from inside values such as ``default``."""
    for keyword in _ONE:
        if keyword in schema:
            yield (keyword,), schema[keyword]
    for keyword in _LIST:
        if isinstance(below := schema.get(keyword), list):
            yield from (((keyword, index), each) for index, each in enumerate(below))
    for keyword in _MAP:
        if isinstance(below := schema.get(keyword), Mapping):
            yield from (((keyword, name), each) for name, each in below.items())


def positions(schema: Mapping[str, Any]) -> dict[Path, Mapping[str, Any]]:
    """Every schema in a schema that is an object, by its path; the root first."""
    found: dict[Path, Mapping[str, Any]] = {}
    stack: list[tuple[Path, Any]] = [((), schema)]
    while stack:
        path, here = stack.pop()
        if isinstance(here, Mapping):
            found[path] = here
            stack += [((*path, *below), each) for below, each in subschemas(here)]
    return found


def resolve(root: Mapping[str, Any], reference: str) -> tuple[Path, Any] | None:
    """What a reference ``#/...`` (RFC 6901 in a URI fragment) points to, with its path; None when nothing is there."""
    if not reference.startswith("#/"):
        return None
    here: Any = root
    path: list[str | int] = []
    for raw in unquote(reference[2:]).split("/"):
        part = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(here, Mapping) and part in here:
            here = here[part]
            path.append(part)
        elif isinstance(here, list) and part.isascii() and part.isdigit() and len(part) < 6 and int(part) < len(here):
            here = here[int(part)]
            path.append(int(part))
        else:
            return None
    return tuple(path), here
