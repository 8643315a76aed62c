"""Fill in the defaults that a JSON Schema declares."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ray_ext.manifests.schema_shape import resolve

__all__ = ["with_defaults"]


def with_defaults(value: Any, schema: object, root: Mapping[str, Any]) -> Any:
    """A copy of ``value`` with the defaults of its missing properties, at every level and through ``$ref``.

    A missing object without a default of its own is created where its properties' defaults make it complete.
    Branches of ``anyOf``, ``oneOf`` and ``if`` add none: which branch counts is known only afterwards. ``schema`` must
    have passed :func:`ray_ext.manifests.check_schema`.
    """
    return _filled(copy.deepcopy(value), schema, root)


def _filled(value: Any, schema: object, root: Mapping[str, Any]) -> Any:
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, Mapping):
        filled = dict(value)
        for part in _parts(schema, root):
            _fill(filled, part, root)
        return filled
    if isinstance(value, list):
        entries = list(value)
        for part in _parts(schema, root):
            first = part.get("prefixItems", [])
            below = [*first, *[part.get("items")] * (len(entries) - len(first))]
            entries = [_filled(e, s, root) for e, s in zip(entries, below, strict=False)]
        return entries
    return value


def _parts(schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The schema and those that always apply with it: the target of ``$ref``, and the members of ``allOf``."""
    found: list[Mapping[str, Any]] = [schema]
    for here in found:  # grows while it runs; references do not lead back
        always = list(here.get("allOf", ()))
        if "$ref" in here and (target := resolve(root, here["$ref"])) is not None:
            always.append(target[1])
        found += [each for each in always if isinstance(each, Mapping)]
    return found


def _fill(filled: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any]) -> None:
    properties: Mapping[str, Any] = schema.get("properties", {})
    for name, below in properties.items():
        if name in filled:
            filled[name] = _filled(filled[name], below, root)
        elif isinstance(below, Mapping):
            _fill_missing(filled, name, below, root)
    additional = schema.get("additionalProperties")
    if isinstance(additional, Mapping) and "patternProperties" not in schema:
        for name in set(filled) - set(properties):
            filled[name] = _filled(filled[name], additional, root)


def _fill_missing(filled: dict[str, Any], name: str, schema: Mapping[str, Any], root: Mapping[str, Any]) -> None:
    parts = _parts(schema, root)
    declared = [part["default"] for part in parts if "default" in part]
    if declared:
        filled[name] = _filled(copy.deepcopy(declared[0]), schema, root)
    elif any(part.get("type") == "object" or "properties" in part for part in parts):
        created = _filled({}, schema, root)
        needed = {each for part in parts for each in part.get("required", ())}
        if created and needed <= set(created):
            filled[name] = created
