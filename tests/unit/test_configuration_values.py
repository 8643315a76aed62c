"""Validating a configuration: defaults in, every problem out, no secret shown, never slow."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ray_ext.errors import ConfigurationInvalid
from ray_ext.manifests import check_schema, redact, secret_paths, validate_configuration

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["token"],
    "additionalProperties": False,
    "properties": {
        "token": {"type": "string", "writeOnly": True, "minLength": 10},
        "level": {"enum": ["info", "debug"], "default": "info"},
        "port": {"type": "integer", "minimum": 1, "maximum": 65535, "default": 80},
        "database": {"$ref": "#/$defs/database"},
        "accounts": {"type": "array", "items": {"$ref": "#/$defs/account"}, "uniqueItems": True},
        "name": {"type": "string", "pattern": "^[a-z]+$"},
    },
    "$defs": {
        "database": {
            "type": "object",
            "properties": {
                "host": {"type": "string", "default": "localhost"},
                "pool": {"type": "object", "properties": {"size": {"type": "integer", "default": 4}}},
            },
        },
        "account": {
            "type": "object",
            "required": ["user"],
            "properties": {"user": {"type": "string"}, "password": {"writeOnly": True}, "role": {"default": "reader"}},
        },
    },
}

TOKEN = "0123456789"


def problems_of(schema: dict[str, Any] | None, values: dict[str, Any]) -> list[str]:
    if schema is not None:
        assert check_schema(schema, file="f") == []
    started = time.perf_counter()
    with pytest.raises(ConfigurationInvalid) as caught:
        validate_configuration(schema, values)
    assert time.perf_counter() - started < 5
    problems = caught.value.details["problems"]
    assert isinstance(problems, list)
    assert all(problem in str(caught.value) for problem in problems)
    return problems


def test_defaults_are_applied_at_every_level_and_through_references() -> None:
    assert check_schema(SCHEMA, file="f") == []
    given = {"token": TOKEN, "accounts": [{"user": "a"}], "database": {"host": "db"}}
    assert validate_configuration(SCHEMA, given) == {
        "token": TOKEN,
        "level": "info",
        "port": 80,
        "database": {"host": "db", "pool": {"size": 4}},
        "accounts": [{"user": "a", "role": "reader"}],
    }
    assert given == {"token": TOKEN, "accounts": [{"user": "a"}], "database": {"host": "db"}}


def test_a_missing_table_is_created_from_its_defaults_only_when_that_makes_it_complete() -> None:
    assert validate_configuration(SCHEMA, {"token": TOKEN})["database"] == {"host": "localhost", "pool": {"size": 4}}
    part = {"type": "object", "required": ["user"], "properties": {"user": {}, "role": {"default": "reader"}}}
    assert validate_configuration({"properties": {"account": part}}, {}) == {}


def test_what_is_returned_shares_nothing_with_the_schema_or_the_values() -> None:
    schema = {"properties": {"a": {"default": {"b": []}}, "c": {"type": "array"}}}
    given: dict[str, Any] = {"c": [[1]]}
    filled = validate_configuration(schema, given)
    filled["a"]["b"].append(1)
    filled["c"][0].append(2)
    assert validate_configuration(schema, given) == {"a": {"b": []}, "c": [[1]]}


def test_all_problems_are_reported_at_once_with_key_and_fix() -> None:
    problems = problems_of(SCHEMA, {"prot": 1, "level": "dbug", "port": 0, "name": "A", "accounts": [{"user": 1}, {}]})
    assert sorted(problems) == [
        "configuration: accounts[0].user: found 1; allowed: text; fix: change it to fit",
        "configuration: accounts[1].user: found nothing; allowed: text; fix: add it",
        "configuration: level: found 'dbug'; allowed: one of 'info', 'debug'; fix: write debug",
        "configuration: name: found 'A'; allowed: text that matches '^[a-z]+$'; fix: change it to fit",
        "configuration: port: found 0; allowed: a number of at least 1; fix: change it to fit",
        "configuration: prot: found an unknown key; allowed: the keys accounts, database, level, name, port, token; "
        "fix: write port",
        "configuration: token: found nothing; allowed: text; fix: add it",
    ]


def test_without_a_schema_only_the_empty_configuration_is_allowed() -> None:
    assert validate_configuration(None, {}) == {}
    assert problems_of(None, {"a": 1}) == [
        "configuration: a: found an unknown key; allowed: nothing: the manifest has no [configuration]; fix: remove it"
    ]


def test_the_number_of_problems_shown_is_bounded() -> None:
    problems = problems_of(SCHEMA, {"token": TOKEN, **{f"unknown{number}": 1 for number in range(60)}})
    assert len(problems) == 51
    assert problems[-1] == "and 10 more"


# ---- secrets

SECRET_VALUE = "hunter2!"
ONE_OF = {
    "oneOf": [{"type": "integer"}, {"properties": {"key": {"type": "integer", "writeOnly": True}}, "type": "object"}]
}
SECRET_CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (SCHEMA, {"token": SECRET_VALUE}),
    (SCHEMA, {"token": {"value": SECRET_VALUE}}),
    (SCHEMA, {"token": TOKEN, "tokn": SECRET_VALUE}),
    (SCHEMA, {"token": TOKEN, "accounts": SECRET_VALUE}),
    (SCHEMA, {"token": TOKEN, "accounts": [SECRET_VALUE]}),
    (SCHEMA, {"token": TOKEN, "accounts": [{"password": SECRET_VALUE}]}),
    (SCHEMA, {"token": TOKEN, "accounts": [{"user": "a", "password": SECRET_VALUE}] * 2}),
    ({"properties": {"a": ONE_OF}}, {"a": {"key": SECRET_VALUE}}),
    ({"properties": {"a": ONE_OF}}, {"a": SECRET_VALUE}),
    ({"properties": {"a": {"enum": ["x"], "writeOnly": True}}}, {"a": SECRET_VALUE}),
    ({"properties": {"a": {"const": "x", "writeOnly": True}}}, {"a": SECRET_VALUE}),
    ({"properties": {"a": {"pattern": "^x", "writeOnly": True}}}, {"a": SECRET_VALUE}),
    ({"properties": {"a": {"type": "integer", "allOf": [{"writeOnly": True}]}}}, {"a": SECRET_VALUE}),
    ({"additionalProperties": {"type": "integer", "writeOnly": True}}, {"a": SECRET_VALUE}),
    ({"patternProperties": {"^a": {"type": "integer", "writeOnly": True}}}, {"a": SECRET_VALUE}),
    ({"properties": {"a": {"prefixItems": [{"type": "integer", "writeOnly": True}]}}}, {"a": [SECRET_VALUE]}),
    ({"minProperties": 5}, {"tokn": SECRET_VALUE}),
    ({"not": {"required": ["tokn"]}}, {"tokn": SECRET_VALUE}),
    ({"properties": {"a": {"type": "array", "maxItems": 0, "items": {"writeOnly": True}}}}, {"a": [SECRET_VALUE]}),
    ({"properties": {"a": False, "b": {"writeOnly": True, "not": {}}}}, {"b": SECRET_VALUE}),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "values"), SECRET_CASES, ids=range(len(SECRET_CASES)))
def test_the_value_of_a_secret_is_never_shown(schema: dict[str, Any], values: dict[str, Any]) -> None:
    problems = problems_of(schema, values)
    assert problems
    assert not any(SECRET_VALUE in problem for problem in problems), problems


def test_redaction_replaces_every_secret_and_nothing_else() -> None:
    values = {"token": TOKEN, "port": 8, "accounts": [{"user": "a", "password": {"x": 1}}, {"user": "b"}]}
    assert redact(SCHEMA, values) == {
        "token": "<secret>",
        "port": 8,
        "accounts": [{"user": "a", "password": "<secret>"}, {"user": "b"}],
    }
    assert values["token"] == TOKEN
    assert redact(None, {"a": 1}) == {"a": 1}


def test_secret_paths_are_found_through_references_lists_and_branches() -> None:
    assert secret_paths(SCHEMA) == (("accounts", "*", "password"), ("token",))
    assert secret_paths({"properties": {"a": ONE_OF}}) == (("a", "key"),)
    assert secret_paths(None) == ()


# ---- nothing hangs

SLOW: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 50_000 + "!"}),
    ({"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, {"a" * 50_000 + "!": 1}),
    ({"properties": {"a": {"uniqueItems": True}}}, {"a": [*[{"n": [n]} for n in range(3_000)], {"n": [1]}]}),
    (
        {"allOf": [{"additionalProperties": {"enum": [{"x": n} for n in range(200)]}} for _ in range(10)]},
        {f"k{n}": {"x": -1} for n in range(4_000)},
    ),
    (
        {"allOf": [{"$ref": "#/$defs/a"}] * 150, "$defs": {"a": {"allOf": [{"minProperties": 9_999}] * 120}}},
        {"a": "\x01" * 250_000},
    ),
    (
        {"allOf": [{"unevaluatedProperties": {"type": "string"}}] * 200},
        {f"k{n}": 1 for n in range(4_000)},
    ),
    ({"properties": {"a": {"type": "integer"}}}, {"a": [[[0]] * 3] * 9_999}),
]


@pytest.mark.parametrize(("schema", "values"), SLOW, ids=range(len(SLOW)))
def test_no_schema_and_no_values_make_validation_hang(schema: dict[str, Any], values: dict[str, Any]) -> None:
    assert problems_of(schema, values)


def test_equal_items_are_found_by_json_schemas_equality() -> None:
    schema = {"properties": {"a": {"uniqueItems": True}}}
    assert problems_of(schema, {"a": [1, 1.0]})
    assert problems_of(schema, {"a": [{"x": 1, "y": 2}, {"y": 2, "x": 1.0}]})
    assert validate_configuration(schema, {"a": [1, True, "1", [1], None, False, 0]})


@pytest.mark.parametrize("value", [float("inf"), 10**100, "\ud800", object(), b"x", {1: 2}])
def test_values_that_are_no_json_are_refused(value: object) -> None:
    assert problems_of({}, {"a": value})
