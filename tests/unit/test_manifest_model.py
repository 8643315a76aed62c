"""What a manifest may say, and how every problem of it is reported."""

from __future__ import annotations

import json
import pickle
import tomllib

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from ray_ext.errors import ManifestInvalid
from ray_ext.manifests import Manifest, manifest_json_schema, metadata_of, parse_manifest
from ray_ext.manifests.json_schema import SCHEMA_FILE

# The example of the design, §4.
EXAMPLE = """
schema_version = 1
id = "github-triage"
name = "GitHub triage"
version = "1.2.0"
description = "Labels new issues"
author = "Example Org <ext@example.org>"
category = "platform.github"
tags = ["triage"]
entry_point = "github_triage:Triage"
requires_runtime = ">=0.1,<1"
isolation = "strict"

[dependencies]
linear-sync = ">=2,<3"
[optional_dependencies]
slack-notifier = ">=1"

[resources]
cpus = 0.1
memory = "64MiB"
[runtime_env]
pip = ["pyyaml>=6"]
env_vars = { LOG_FORMAT = "json" }

[permissions]
file_read = ["/srv/repos/**"]
file_write = []
network = ["api.github.com:443"]
database = ["analytics:read"]
integration = ["github:issues.write"]
call = ["linear-sync"]
publish = ["triage.*"]
subscribe = ["github.issues.*"]
endpoint = ["POST /webhooks/github"]

[configuration]
[events."triage.labelled"]
[health]
[swap]
"""

MINIMAL = """
schema_version = 1
id = "hello"
name = "Hello"
version = "1.0"
category = "workflow.orchestration"
entry_point = "hello:Hello"
"""


def problems_of(text: str) -> list[str]:
    with pytest.raises(ManifestInvalid) as caught:
        parse_manifest(text)
    problems = caught.value.details["problems"]
    assert isinstance(problems, list)
    for problem in problems:
        assert problem in str(caught.value)
        assert "pydantic" not in problem
    return problems


def problem_of(text: str) -> str:
    problems = problems_of(text)
    assert len(problems) == 1, problems
    return problems[0]


def test_the_example_of_the_design_is_read_whole() -> None:
    manifest = parse_manifest(EXAMPLE)
    assert manifest.resources.memory_bytes == 64 * 2**20
    assert manifest.permissions.network.scopes == ("api.github.com:443",)
    assert manifest.permissions.subscribe.scopes == ("github.issues.*",)
    assert manifest.runtime_env.env_vars == {"LOG_FORMAT": "json"}
    assert manifest.dependencies == {"linear-sync": ">=2,<3"}
    assert (manifest.health.interval_s, manifest.health.timeout_s, manifest.swap.drain_timeout_s) == (10, 5, 30)
    assert metadata_of(manifest).tags == ("triage",)


def test_a_minimal_manifest_has_documented_defaults() -> None:
    manifest = parse_manifest(MINIMAL)
    assert manifest.resources.cpus == 0.1
    assert manifest.resources.memory_bytes == 128 * 2**20
    assert manifest.isolation == "strict"
    assert manifest.configuration is None
    assert not any(group.scopes for group in manifest.permissions.groups().values())


def test_a_manifest_is_immutable_and_survives_pickling_and_dumping() -> None:
    manifest = parse_manifest(EXAMPLE)
    with pytest.raises(ValidationError):
        manifest.id = "other"
    assert pickle.loads(pickle.dumps(manifest)) == manifest
    assert Manifest.model_validate(manifest.model_dump(mode="json")) == manifest


def test_the_shipped_json_schema_is_the_generated_one() -> None:
    shipped = SCHEMA_FILE.read_text(encoding="utf-8")
    assert json.loads(shipped) == manifest_json_schema(), "run python -m ray_ext.manifests.json_schema"


def test_the_json_schema_accepts_the_example_and_refuses_what_is_no_manifest() -> None:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"]
    assert schema["title"]
    validator = Draft202012Validator(schema)
    example = tomllib.loads(EXAMPLE)
    assert list(validator.iter_errors(example)) == []
    example["permissions"]["network"] = {"scopes": ["api.github.com:443"], "reason": "to read issues"}
    assert list(validator.iter_errors(example)) == []
    for change in ({"id": "Not_Normal"}, {"categry": "x"}, {"resources": {"memory": "lots"}}, {"isolation": "none"}):
        assert list(validator.iter_errors({**example, **change})), change


def test_every_key_of_the_json_schema_has_a_description() -> None:
    schema = manifest_json_schema()
    tables = [schema, *schema["$defs"].values()]
    for table in [each["anyOf"][1] if "anyOf" in each else each for each in tables]:
        for key, value in table["properties"].items():
            assert value.get("description"), (table["title"], key)


def test_every_group_of_permissions_may_carry_a_reason() -> None:
    tables = "".join(f'[permissions.{name}]\nscopes = []\nreason = "because"\n' for name in _groups())
    manifest = parse_manifest(MINIMAL + tables)
    assert {group.reason for group in manifest.permissions.groups().values()} == {"because"}


def _groups() -> list[str]:
    return list(parse_manifest(MINIMAL).permissions.groups())


def test_all_problems_are_reported_at_once_with_their_keys() -> None:
    text = MINIMAL.replace('"hello"', '"Hello_World"').replace('"1.0"', '"one"') + (
        '[resources]\nmemory = "much"\ncpus = -1\n[permissions]\nfile_read = ["/a/../b"]\n'
        '[configuration]\ntype = "strin"\n'
    )
    keys = [problem.split(": ")[1] for problem in problems_of(text)]
    assert keys == [
        "id",
        "version",
        "resources.cpus",
        "resources.memory",
        "permissions.file_read[0]",
        "configuration.type",
    ]


def test_the_number_of_problems_shown_is_bounded() -> None:
    tags = ", ".join(str(number) for number in range(32))
    keys = "\n".join(f"unknown{number} = 1" for number in range(60))
    problems = problems_of(f"tags = [{tags}]\n{keys}\n{MINIMAL}")
    assert len(problems) == 51
    assert problems[-1] == "and 42 more"


def test_an_unknown_key_is_answered_with_the_nearest_known_one() -> None:
    assert "fix: write memory" in problem_of(MINIMAL + '[resources]\nmemroy = "1MiB"\n')
    assert "fix: write requires_runtime" in problem_of('require_runtime = ">=1"\n' + MINIMAL)
    assert "permissions.network.reasn" in problem_of(MINIMAL + '[permissions.network]\nscopes = []\nreasn = "x"\n')


def test_what_was_found_is_shown_bounded() -> None:
    problem = problem_of('description = "' + "x" * 100_000 + '"\n' + MINIMAL)
    assert len(problem) < 500
    assert "at most 500 characters" in problem


BAD = [
    ("", 'id = "hello"', 'id = "-hello"', "id", "hello"),
    (
        "",
        'category = "workflow.orchestration"',
        'category = "workflow.orchestra"',
        "category",
        "workflow.orchestration",
    ),
    ("", "schema_version = 1", "schema_version = 2", "schema_version", "1"),
    ("", "schema_version = 1", 'schema_version = "1"', "schema_version", "write 1"),
    ("", 'version = "1.0"', "version = 1.0", "version", "text in quotes"),
    ("", 'version = "1.0"', 'version = "1.0\\n"', "version", "PEP 440"),
    ("", 'entry_point = "hello:Hello"', 'entry_point = "hello"', "entry_point", "module:Class"),
    ("", 'entry_point = "hello:Hello"', 'entry_point = "json:Hello"', "entry_point", "rename the package json"),
    ("", 'entry_point = "hello:Hello"', 'entry_point = "hello:class"', "entry_point", "keyword"),
    ("", 'name = "Hello"', 'name = "He\\nllo"', "name", "one line"),
]
BAD_TABLES = [
    ("[resources]\ncpus = true", "resources.cpus", "a number"),
    ("[resources]\ncpus = nan", "resources.cpus", ""),
    ("[resources]\ncpus = 5000", "resources.cpus", "1024"),
    ("[resources]\nmemory = 5", "resources.memory", "64MiB"),
    ("[resources]\nmemory = true", "resources.memory", "64MiB"),
    ('[resources]\nmemory = "64 mib"', "resources.memory", "64MiB"),
    ("[resources]\ncustom = { GPU = 1 }", "resources.custom.GPU", "GPU"),
    ("[resources]\ncustom = { slots = 0 }", "resources.custom.slots", "above 0"),
    ("[resources]\nlabels = { zone = 1 }", "resources.labels.zone", "text in quotes"),
    ('[runtime_env]\npip = ["-r other.txt"]', "runtime_env.pip[0]", "PEP 508"),
    ('[runtime_env]\npip = ["x @ https://example.org/x.whl"]', "runtime_env.pip[0]", "x>=1"),
    ('[runtime_env]\npip = ["${NAME}"]', "runtime_env.pip[0]", "environment"),
    ('[runtime_env]\npip = ["x\\nRequires-Dist: y"]', "runtime_env.pip[0]", "PEP 508"),
    ('[runtime_env]\npip = ["x", "x"]', "runtime_env.pip", "each entry once"),
    ('[runtime_env]\nenv_vars = { "A=B" = "1" }', 'runtime_env.env_vars."A=B"', "letters"),
    ('[dependencies]\nhello = ">=1"', "dependencies.hello", "itself"),
    ('[dependencies]\nother = "1"', "dependencies.other", "PEP 440"),
    ('[dependencies]\nOther = ">=1"', "dependencies.Other", "other"),
    ("[health]\nthreshold = 0", "health.threshold", "at least 1"),
    ('[health]\ninterval = "soon"', "health.interval", "10s"),
    ("[health]\ninterval = 0", "health.interval", "10s"),
    ('[swap]\nmode = "overlapped"', "swap.mode", "write overlap"),
    ('[events."a.*"]', 'events."a.*"', "without wildcards"),
    ('[events."a.b"]\ntype = "strin"', 'events."a.b".type', "string"),
    ("permissions = 1", "permissions", "a table"),
    ("[permissions]\nnetwork = 1", "permissions.network", "a table"),
]


@pytest.mark.parametrize(("prefix", "old", "new", "key", "said"), BAD)
def test_a_value_that_does_not_fit_is_refused_by_key(prefix: str, old: str, new: str, key: str, said: str) -> None:
    assert old in MINIMAL
    problem = problem_of(prefix + MINIMAL.replace(old, new))
    assert problem.startswith(f"extension.toml: {key}: found ")
    assert said in problem


@pytest.mark.parametrize(("table", "key", "said"), BAD_TABLES)
def test_a_table_that_does_not_fit_is_refused_by_key(table: str, key: str, said: str) -> None:
    problem = problem_of(f"{MINIMAL}{table}\n")
    assert problem.startswith(f"extension.toml: {key}: found ")
    assert said in problem


NAMES = ["PYTHONPATH", "PYTHONSTARTUP", "LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "PATH", "HOME", "MALLOC_ARENA_MAX"]


@pytest.mark.parametrize("name", [*NAMES, "GLIBC_TUNABLES", "RAY_ADDRESS", "RAY_EXT_HOME"])
def test_variables_that_alter_the_interpreter_or_the_loader_are_refused(name: str) -> None:
    problem = problem_of(f'{MINIMAL}[runtime_env]\nenv_vars = {{ {name} = "x" }}\n')
    assert problem.startswith(f"extension.toml: runtime_env.env_vars.{name}: ")


GOOD_SCOPES = {
    "file_read": ["/", "/**", "/srv/a b", "/srv/x/**"],
    "file_write": ["/var/lib/x"],
    "network": ["a.example:1", "192.0.2.1:65535", "[2001:db8::1]:443", "localhost:80", "xn--bcher-kva.example:443"],
    "database": ["analytics:read", "a_b:write"],
    "integration": ["github:issues.write", "slack:chat"],
    "call": ["linear-sync"],
    "publish": ["a", "a.*", "a.**", "**", "a.*.b"],
    "subscribe": ["a.b-c.d_e"],
    "endpoint": ["GET /", "POST /a/b.c~d-e_f", "DELETE /x/"[:-1]],
}
BAD_SCOPES = {
    "file_read": ["", "srv", "/a/../b", "/a/./b", "//a", "/a/", "/a/*", "/a/**/b", "/a/*.py", "/a?",
                  "/a\\u0000", "/**/**"],
    "file_write": ["~/x", "$HOME/x", "./x"],
    "network": [
        "a.example", "a.example:", "a.example:0", "a.example:65536", "a.example:0443", "a.example:+1", "A.example:1",
        "a.example.:1", "*.example:1", "http://a:1", "127.1:80", "0x7f.1:80", "0x7f000001:80", "2130706433:80",
        "010.0.0.1:80", "::1:80", "[::1%lo]:80", "[0:0::1]:80", "[::FFFF]:1", "[::ffff:1.2.3.4]:1",
        "[::ffff:102:304]:1",
        "b\\u00fccher.example:1",
        "a_b.example:1", "-a.example:1", "user@a:1", "a b:1", ":1", "a..b:1",
    ],
    "database": ["analytics", "analytics:admin", "analytics:read:write", ":read", "A:read"],
    "integration": ["github", "github:", "github:*", "github:a..b", "GitHub:a"],
    "call": ["Linear_Sync", "*"],
    "publish": ["", "a..b", "a.**.b", "a*", "***", ".a", "a b", "a.**.*"],
    "endpoint": ["/x", "post /x", "POST", "POST x", "POST /a//b", "POST /a/../b", "POST /a?b", "POST /%2e", "TRACE /",
                 "GET  /"],
}  # fmt: skip


@pytest.mark.parametrize(("group", "scope"), [(group, scope) for group in GOOD_SCOPES for scope in GOOD_SCOPES[group]])
def test_a_scope_in_its_canonical_spelling_is_kept_as_written(group: str, scope: str) -> None:
    manifest = parse_manifest(f'{MINIMAL}[permissions]\n{group} = ["{scope}"]\n')
    assert manifest.permissions.groups()[group].scopes == (scope,)


@pytest.mark.parametrize(("group", "scope"), [(group, scope) for group in BAD_SCOPES for scope in BAD_SCOPES[group]])
def test_a_scope_in_any_other_spelling_is_refused(group: str, scope: str) -> None:
    problem = problem_of(f'{MINIMAL}[permissions]\n{group} = ["{scope}"]\n')
    assert problem.startswith(f"extension.toml: permissions.{group}[0]: found ")
