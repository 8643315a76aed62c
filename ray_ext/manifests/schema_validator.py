"""jsonschema's 2020-12 validator made safe for schemas that nobody vouches for.

Patterns run on RE2 (linear time) instead of ``re``, ``uniqueItems`` in linear time, no reference leaves the
document, and every step is paid from a budget, so that no schema can make validation hang.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import re2
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing.jsonschema import EMPTY_REGISTRY

from ray_ext.manifests.schema_shape import json_size

__all__ = ["TooMuchWork", "compile_pattern", "errors_in", "schema_errors_in"]

_BUDGET = 200_000
"""Steps of one validation; a step takes about 10 µs. A schema of 200 properties takes about a thousand."""

_Keyword = Callable[[Any, Any, Any, Mapping[str, Any]], Iterator[ValidationError] | None]


class TooMuchWork(Exception):  # internal: callers turn it into a problem
    """A validation needs more steps than any honest schema does."""


class _Budget:
    def __init__(self, error_cost: int, unevaluated_cost: int) -> None:
        self.left = _BUDGET
        self.error_cost = error_cost
        self.unevaluated_cost = unevaluated_cost

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise TooMuchWork


_budget: ContextVar[_Budget] = ContextVar("validation_budget")


@functools.lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> Any:
    """The pattern on RE2; raises ``re2.error`` when RE2 does not support it."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def errors_in(value: object, schema: Mapping[str, Any], root: Mapping[str, Any], nodes: int) -> list[ValidationError]:
    """What in ``value`` does not fit ``schema``, a part of ``root`` (``nodes`` is its size with references expanded).

    Both must be within the bounds of :func:`ray_ext.manifests.schema_shape.bounds_problem`. Raises TooMuchWork.
    """
    validator = _Validator(root, registry=EMPTY_REGISTRY).evolve(schema=schema)
    return _collect(validator, value, nodes)


def schema_errors_in(schema: Mapping[str, Any]) -> list[ValidationError]:
    """What in ``schema`` is no JSON Schema of draft 2020-12, by the meta-schema. Raises TooMuchWork."""
    return _collect(_Validator(Draft202012Validator.META_SCHEMA), schema, 1)


def _collect(validator: Any, value: object, nodes: int) -> list[ValidationError]:
    # Every error holds a text of the value that it is about: that is what an error costs.
    size = json_size(value)
    token = _budget.set(_Budget(error_cost=1 + size.size_bytes // 1000, unevaluated_cost=nodes))
    try:
        return list(validator.iter_errors(value))
    finally:
        _budget.reset(token)


def _paid(keyword: _Keyword) -> _Keyword:
    def checked(validator: Any, expected: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
        budget = _budget.get()
        budget.spend(1 + (len(expected) if isinstance(expected, list) else 0))
        for error in keyword(validator, expected, instance, schema) or ():
            budget.spend(budget.error_cost)
            yield error

    return checked


def _pattern(validator: Any, pattern: str, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string"):
        _budget.get().spend(len(instance) // 1000)
        if compile_pattern(pattern).search(instance) is None:
            yield ValidationError("pattern")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        _budget.get().spend(len(instance) * len(patterns) // 10)
        for pattern, below in patterns.items():
            matching = [name for name in instance if compile_pattern(pattern).search(name) is not None]
            for name in matching:
                yield from validator.descend(instance[name], below, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, additional: Any, instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    patterns = schema.get("patternProperties", {})
    _budget.get().spend(len(instance) * (1 + len(patterns)) // 10)
    extra = [name for name in instance if name not in schema.get("properties", {})]
    for name in extra:
        if any(compile_pattern(pattern).search(name) is not None for pattern in patterns):
            continue
        if additional is False:
            yield ValidationError(name)
        else:
            yield from validator.descend(instance[name], additional, path=name)


def _required(validator: Any, names: list[str], instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        yield from (ValidationError(name) for name in names if name not in instance)


def _unique_items(validator: Any, unique: bool, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    if unique and validator.is_type(instance, "array"):
        _budget.get().spend(json_size(instance).nodes)
        if len({_canonical(each) for each in instance}) != len(instance):
            yield ValidationError("uniqueItems")


def _canonical(value: object) -> str:
    """A text that two values share exactly when JSON Schema calls them equal (1 and 1.0 are, 1 and true are not)."""
    return json.dumps(_with_integers(value), sort_keys=True)


def _with_integers(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: _with_integers(below) for name, below in value.items()}
    return [_with_integers(below) for below in value] if isinstance(value, list | tuple) else value


def _unevaluated(keyword: _Keyword) -> _Keyword:
    def checked(
        validator: Any, expected: Any, instance: Any, schema: Mapping[str, Any]
    ) -> Iterator[ValidationError] | None:
        budget = _budget.get()
        entries = len(instance) if isinstance(instance, Mapping | list) else 0
        budget.spend(budget.unevaluated_cost * (1 + entries) // 10)
        return keyword(validator, expected, instance, schema)

    return checked


def _keywords() -> dict[str, _Keyword]:
    theirs: dict[str, _Keyword] = dict(Draft202012Validator.VALIDATORS)
    ours: dict[str, _Keyword] = {
        "additionalProperties": _additional_properties,
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "required": _required,
        "uniqueItems": _unique_items,
        "unevaluatedItems": _unevaluated(theirs["unevaluatedItems"]),
        "unevaluatedProperties": _unevaluated(theirs["unevaluatedProperties"]),
    }
    return {name: _paid(keyword) for name, keyword in {**theirs, **ours}.items()}


_Validator: Any = extend(Draft202012Validator, _keywords())  # type: ignore[no-untyped-call]
