"""Whatever is read, every failure is of the family and comes in time; equal folders give equal packages."""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_ext.errors import RayExtError
from ray_ext.manifests import check_schema, parse_manifest, redact, validate_configuration
from ray_ext.packages import PackageCache, pack_folder

MANIFEST = """\
schema_version = 1
id = "hello-world"
name = "Hello"
version = "1.0"
category = "workflow.orchestration"
entry_point = "hello_world:Hello"
"""

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20)
json_values = st.recursive(
    scalars, lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=8), below, max_size=4)
)
KEYWORDS = [
    "type", "properties", "$ref", "$defs", "items", "anyOf", "allOf", "oneOf", "not", "enum", "const", "default",
    "pattern", "patternProperties", "additionalProperties", "required", "uniqueItems", "unevaluatedProperties",
    "unevaluatedItems", "minimum", "multipleOf", "maxLength", "if", "then", "contains", "minContains", "prefixItems",
    "dependentRequired", "dependentSchemas", "propertyNames", "writeOnly", "$dynamicRef", "$id", "$schema", "format",
]  # fmt: skip
atoms = (
    scalars
    | st.sampled_from(["object", "string", "integer", "array", "#/$defs/a", "#/properties/a", "#", "^a+$", "(?=x)"])
    | st.lists(st.sampled_from(["a", "b", "object"]), max_size=3)
)
schemas = st.recursive(
    st.dictionaries(st.sampled_from(KEYWORDS), atoms, max_size=4),
    lambda below: st.dictionaries(
        st.sampled_from(KEYWORDS),
        atoms
        | below
        | st.lists(below, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "^a"]), below, max_size=3),
        max_size=5,
    ),
    max_leaves=12,
)
tables = st.dictionaries(st.sampled_from(["a", "b", "c"]), json_values, max_size=3)

toml_tokens = st.sampled_from(
    ["[", "]", "[[", "]]", "=", "\n", ".", ",", "{", "}", '"', "'", '"""', "'''", "#", "\\", "a", "id", "permissions",
     "network", "configuration", "1", "-1e9", "nan", "1979-05-27", "true", "\x00", "\ud800", "\ufeff", " ", "swap"]
)  # fmt: skip


@given(st.lists(toml_tokens, max_size=60).map("".join) | st.text(max_size=200))
@settings(deadline=None, max_examples=400)
def test_junk_toml_never_raises_outside_the_family(text: str) -> None:
    for candidate in (text, MANIFEST + text):
        with suppress(RayExtError):
            parse_manifest(candidate)


@given(
    st.dictionaries(st.sampled_from(["id", "tags", "resources", "permissions", "configuration", "swap"]), json_values)
)
@SLOW
def test_a_manifest_of_any_values_never_raises_outside_the_family(values: dict[str, Any]) -> None:
    from pydantic import ValidationError

    from ray_ext.manifests import Manifest
    from ray_ext.manifests.translation import problems_of

    try:
        Manifest.model_validate(values)
    except ValidationError as error:
        problems = problems_of(error, values, "f")
        assert problems
        assert all(problem.key and len(str(problem)) < 2_000 for problem in problems)


@given(schemas, tables)
@SLOW
def test_any_json_as_schema_never_hangs_or_raises_outside_the_family(
    schema: dict[str, Any], values: dict[str, Any]
) -> None:
    started = time.perf_counter()
    problems = check_schema(schema, file="f")
    assert all(str(problem) for problem in problems)
    if not problems:
        redact(schema, values)
        with suppress(RayExtError):
            filled = validate_configuration(schema, values)
            assert validate_configuration(schema, filled) == filled
    assert time.perf_counter() - started < 10


names = st.text(st.sampled_from("abcXYZ_é0"), min_size=1, max_size=8).map(lambda name: f"m{name}.txt")


@given(st.dictionaries(names, st.binary(max_size=200), max_size=5), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_equal_folders_give_equal_packages_that_the_cache_accepts(content: dict[str, bytes], random: Any) -> None:
    packages = []
    with tempfile.TemporaryDirectory() as scratch:
        for copy in ("one", "two"):
            folder = Path(scratch, copy)
            (folder / "hello_world").mkdir(parents=True)
            (folder / "extension.toml").write_text(MANIFEST)
            (folder / "pyproject.toml").write_text('[project]\nname = "hello-world"\nversion = "1.0"\n')
            files = [*content.items(), ("__init__.py", b"class Hello: ...\n")]
            random.shuffle(files)
            for name, data in files:
                (folder / "hello_world" / name).write_bytes(data)
            try:
                packages.append(pack_folder(folder))
            except RayExtError as error:
                packages.append(str(error).replace(str(folder), "").encode())
        assert packages[0] == packages[1]
        if packages[0].startswith(b"PK"):
            assert PackageCache(Path(scratch, "cache")).add(packages[0]).source.manifest.id == "hello-world"
