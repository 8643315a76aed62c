"""The document of the control API, and the table that it is made from."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from ray_ext.control.openapi import document, errors_of
from ray_ext.control.problems import STATUS
from ray_ext.control.routes import ENDPOINTS

DOCUMENT = document(ENDPOINTS, "1.2.3")
IDS = [each.id for each in ENDPOINTS]


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*map(_references, value.values()))
    return set().union(*map(_references, value)) if isinstance(value, list) else set()


def test_every_operation_is_in_the_document_once() -> None:
    found = [operation["operationId"] for path in DOCUMENT["paths"].values() for operation in path.values()]
    assert sorted(found) == sorted(IDS)
    assert len(set(IDS)) == len(IDS)


def test_every_reference_leads_somewhere() -> None:
    there = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    found = _references(DOCUMENT)
    assert found
    assert found <= there


def test_the_document_is_json() -> None:
    there = json.loads(msgspec.json.encode(DOCUMENT))
    assert (there["openapi"], there["info"]["version"]) == ("3.1.0", "1.2.3")
    assert there["paths"].keys() == {each.path for each in ENDPOINTS}


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=IDS)
def test_an_operation_says_all_that_it_takes_and_answers(endpoint: Any) -> None:
    operation = DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"][0] in {each["name"] for each in DOCUMENT["tags"]}
    named = {part[1:-1] for part in endpoint.path.split("/") if part.startswith("{")}
    assert {each["name"] for each in operation["parameters"] if each["in"] == "path"} == named
    assert all(each["description"] for each in operation["parameters"])
    for status in errors_of(endpoint):
        assert "application/problem+json" in operation["responses"][str(status)]["content"]
    assert {"400", "401", "500", "503"} <= set(operation["responses"])


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=IDS)
def test_what_changes_something_carries_an_id(endpoint: Any) -> None:
    is_harmless = endpoint.method == "GET" or endpoint.id in {"makePlan", "callMethod", "uploadPackage"}
    names = {(each.place, each.wire_name) for each in endpoint.parameters if each.is_required}
    has_id = ("header", "Operation-Id") in names or ("path", "operation") in names
    assert is_harmless or has_id


def test_the_statuses_of_the_errors_are_those_of_the_table() -> None:
    for endpoint in ENDPOINTS:
        for status, errors in errors_of(endpoint).items():
            assert {STATUS[each.code] for each in errors} == {status}
