"""Which JSON Schemas a manifest may bring: those that are safe to validate with."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from ray_ext.manifests import check_schema

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def texts(schema: Mapping[str, Any], **options: Any) -> list[str]:
    started = time.perf_counter()
    found = [str(problem) for problem in check_schema(schema, file="f", **options)]
    assert time.perf_counter() - started < 5
    return found


def bomb(levels: int, fan_out: int) -> Schema:
    definitions: Schema = {"d0": {"type": "string"}}
    for level in range(1, levels):
        definitions[f"d{level}"] = {"anyOf": [{"$ref": f"#/$defs/d{level - 1}"}] * fan_out}
    return {"$ref": f"#/$defs/d{levels - 1}", "$defs": definitions}


def nested(levels: int) -> Schema:
    schema: Schema = {}
    for _ in range(levels):
        schema = {"properties": {"x": schema}}
    return schema


SOUND: list[Schema] = [
    {},
    {"type": "object"},
    {"$schema": DIALECT, "type": "object"},
    {"properties": {"$id": {"type": "string"}, "$ref": {"type": "string"}, "pattern": {"type": "string"}}},
    {"properties": {"a": {"const": {"$ref": "file:///etc/passwd"}, "default": {"$ref": "file:///etc/passwd"}}}},
    {"properties": {"a": {"$ref": "#/$defs/a"}, "b": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"default": 1}}},
    {"properties": {"a": {"$ref": "#/$defs/a~1b"}}, "$defs": {"a/b": True}},
    {"properties": {"a": {"pattern": r"^\d{3}-[a-z]+$"}}, "patternProperties": {"^x-": {"type": "string"}}},
    {"properties": {"a": {"default": {"n": 1}, "properties": {"n": {"type": "integer"}}}}},
    nested(25),
    {"properties": {f"p{number}": {"type": "string", "default": "x"} for number in range(1000)}},
]

UNSOUND: list[tuple[Schema, str, str]] = [
    ({"type": "strin"}, "type", "'string'"),
    ({"type": "string"}, "type", "object"),
    ({"type": ["object", "null"]}, "type", "object"),
    ({"properties": {"a": {"minimum": "1"}}}, "properties.a.minimum", "number"),
    ({"required": "a"}, "required", "array"),
    ({"properties": {"a": {"$ref": "https://example.org/x"}}}, 'properties.a.$ref', "same document"),
    ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "properties.a.$ref", "same document"),
    ({"properties": {"a": {"$ref": "other.json#/x"}}}, "properties.a.$ref", "same document"),
    ({"properties": {"a": {"$ref": "#"}}}, "properties.a.$ref", "same document"),
    ({"properties": {"a": {"$ref": "#/nowhere"}}}, "properties.a.$ref", "same document"),
    ({"properties": {"a": {"$ref": "#/properties"}}}, "properties.a.$ref", "same document"),
    ({"properties": {"a": {"$ref": "#/properties/b/default"}, "b": {"default": {}}}}, "properties.a.$ref", "same"),
    ({"properties": {"a": {"$dynamicRef": "#a"}}}, "properties.a.$dynamicRef", "dynamic"),
    ({"$id": "https://example.org/x"}, "$id", "identifiers"),
    ({"properties": {"a": {"$id": "urn:x"}}}, "properties.a.$id", "identifiers"),
    ({"$schema": "http://json-schema.org/draft-07/schema#"}, "$schema", "2020-12"),
    ({"properties": {"a": {"$schema": DIALECT}}}, "properties.a.$schema", "root"),
    ({"properties": {"a": {"pattern": "(?=x)"}}}, "properties.a.pattern", "RE2"),
    ({"properties": {"a": {"pattern": r"(a)\1"}}}, "properties.a.pattern", "RE2"),
    ({"properties": {"a": {"pattern": "(a{1000}){1000}"}}}, "properties.a.pattern", "RE2"),
    ({"patternProperties": {"(?<!x)y": {}}}, 'patternProperties."(?<!x)y"', "RE2"),
    ({"patternProperties": {"x": {}}, "unevaluatedProperties": False}, "unevaluatedProperties", "patternProperties"),
    ({"properties": {"a": {"type": "integer", "default": "x"}}}, "properties.a.default", "its own schema"),
    ({"properties": {"a": {"const": float("nan")}}}, "properties.a.const", "finite"),
    ({"properties": {"a": {"maximum": 10**400}}}, "properties.a.maximum", "64 bits"),
    ({"properties": {"a": {"const": "\ud800"}}}, "properties.a.const", "Unicode"),
    ({"properties": {"a": {"const": object()}}}, "properties.a.const", "JSON"),
]  # fmt: skip

BOMBS: list[Schema] = [
    bomb(40, 2),
    bomb(12, 10),
    bomb(100, 1),
    nested(200),
    nested(100_000),
    {"properties": {"a": {"$ref": "#/properties/b"}, "b": {"$ref": "#/properties/a"}}},
    {"$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"},
    {"enum": list(range(20_000))},
    {"description": "x" * 300_000},
    {"required": [{"a": number} for number in range(9_000)]},
    {"enum": [[number % 7] * 3 for number in range(2_400)]},
    {"allOf": [{"minProperties": 1}] * 9_000, "properties": {"a": {"default": "x" * 200_000}}, "default": {}},
]


@pytest.mark.parametrize("schema", SOUND, ids=range(len(SOUND)))
def test_a_sound_schema_has_no_problems(schema: Schema) -> None:
    assert texts(schema) == []


@pytest.mark.parametrize(("schema", "key", "said"), UNSOUND, ids=range(len(UNSOUND)))
def test_an_unsound_schema_is_refused_by_key(schema: Schema, key: str, said: str) -> None:
    problems = texts(schema)
    assert any(problem.startswith(f"f: {key}: found ") and said in problem for problem in problems), problems


@pytest.mark.parametrize("schema", BOMBS[:9], ids=range(9))
def test_a_schema_bomb_is_refused_in_time(schema: Schema) -> None:
    assert texts(schema)


@pytest.mark.parametrize("schema", BOMBS[9:], ids=range(len(BOMBS) - 9))
def test_a_slow_schema_is_checked_in_time(schema: Schema) -> None:
    texts(schema)


def test_a_pattern_that_re2_cannot_run_is_named_with_the_reason() -> None:
    (problem,) = texts({"properties": {"a": {"pattern": "(?=x)"}}})
    assert "found '(?=x)'" in problem
    assert "invalid perl operator" in problem


def test_a_reference_that_leads_back_is_called_that() -> None:
    (problem,) = texts({"$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"})
    assert "found a reference that leads back to itself" in problem


def test_all_problems_of_a_schema_are_reported_at_once() -> None:
    schema = {"$id": "x:y", "properties": {"a": {"pattern": "(?=x)"}, "b": {"$ref": "y"}}}
    assert len(texts(schema)) == 3


def test_the_schema_of_an_event_may_describe_any_value() -> None:
    assert texts({"type": "string"}, is_root_object=False) == []


def test_keys_start_at_the_place_of_the_schema() -> None:
    (problem,) = texts({"type": "string"}, at=("configuration",))
    assert problem.startswith("f: configuration.type: ")
