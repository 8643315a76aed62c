"""``ray-ext explain`` and ``ray-ext schema``: offline, whatever the state home is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray_ext.explanations import explanations
from tests.cli.command_line import Cli


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "nowhere")


def test_explain_prints_the_page_of_a_code_as_it_was_pasted_from_an_error(cli: Cli) -> None:
    said = cli.refused(5, "list")
    pasted = said.strip().splitlines()[-1]
    assert pasted.endswith("[runtime-unreachable]")
    page = cli.ok("explain", pasted)
    assert page.splitlines()[0] == "runtime-unreachable"
    rows = {line[2:16].strip(): line[16:] for line in page.splitlines()[1:]}
    assert rows["meaning"] == "No runtime answers."
    assert "ray-ext up" in rows["to do"]
    assert rows["exit status"] == "5 (no runtime answers)"
    assert rows["HTTP status"] == "503"
    assert not cli.home.root.exists()


def test_explain_lists_every_code(cli: Cli) -> None:
    lines = cli.ok("explain").splitlines()
    assert lines[0].split() == ["code", "who", "must", "act", "exit", "meaning"]
    assert [line.split()[0] for line in lines[1:]] == list(explanations())


def test_explain_prints_the_same_as_json(cli: Cli) -> None:
    page = cli.data("explanation", "explain", "deadline-exceeded")
    assert (page["code"], page["exit_status"], page["http_status"]) == ("deadline-exceeded", 6, 504)
    assert page["details"] == ["timeout_s", "started"]
    pages = cli.data("explanations", "explain")
    assert [each["code"] for each in pages] == list(explanations())
    assert page in pages


def test_an_unknown_code_is_wrong_usage_and_its_neighbours_are_named(cli: Cli) -> None:
    assert "did you mean plan-stale?" in cli.refused(2, "explain", "plan-stael")
    assert "ray-ext explain lists them all" in cli.refused(2, "explain", "zzzz")
    document = json.loads(cli.refused(2, "explain", "plan-stael", "--json"))
    assert document["data"]["code"] == "usage"
    assert "plan-stale" in document["data"]["what"]


def test_schema_prints_the_manifests_schema_or_the_apis_document(cli: Cli) -> None:
    manifest = json.loads(cli.ok("schema"))
    assert manifest["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(cli.ok("schema", "manifest")) == manifest
    api = json.loads(cli.ok("schema", "api"))
    assert api["openapi"].startswith("3.1")
    assert {"/v1/status", "/v1/extensions/{id}/methods/{method}"} <= set(api["paths"])
    assert "'bus' is not one of" in cli.refused(2, "schema", "bus")
