"""What this version does not offer yet is refused, by name and all at once."""

from __future__ import annotations

import pytest

from ray_ext.errors import ManifestInvalid, NotLanded
from ray_ext.manifests import check_runtime_version, parse_manifest, refuse_unlanded

MINIMAL = """
schema_version = 1
id = "hello"
name = "Hello"
version = "1.0"
category = "workflow.orchestration"
entry_point = "hello:Hello"
"""

OFFERED = """
isolation = "trusted"
[runtime_env]
env_vars = { A = "1" }
[resources]
cpus = 1
[configuration]
type = "object"
[permissions]
network = []
"""

UNLANDED = [
    ('[runtime_env]\nconda = "x"', "runtime_env.conda"),
    ('[runtime_env]\nimage_uri = "x"', "runtime_env.image_uri"),
    ('[permissions]\nnetwork = ["a.example:1"]', "permissions.network"),
    ('[permissions]\ncall = ["other"]', "permissions.call"),
    ('[events."a.b"]', "events"),
    ("[health]", "health"),
    ("[swap]", "swap"),
]


def test_a_manifest_that_uses_what_is_offered_passes() -> None:
    refuse_unlanded(parse_manifest(MINIMAL + OFFERED))


@pytest.mark.parametrize(("table", "part"), UNLANDED)
def test_a_part_that_has_not_landed_is_refused_by_name(table: str, part: str) -> None:
    with pytest.raises(NotLanded) as caught:
        refuse_unlanded(parse_manifest(f"{MINIMAL}{table}\n"))
    assert caught.value.details["keys"] == [part]
    assert part in str(caught.value)


def test_all_parts_that_have_not_landed_are_named_in_one_error() -> None:
    with pytest.raises(NotLanded) as caught:
        refuse_unlanded(parse_manifest(f"{MINIMAL}[health]\n[swap]\n[runtime_env]\nconda = 'x'\n"))
    assert caught.value.details["keys"] == ["runtime_env.conda", "health", "swap"]


@pytest.mark.parametrize("version", ["0.1.0", "0.9.5", "0.2.0.dev1"])
def test_a_runtime_within_the_range_is_accepted(version: str) -> None:
    check_runtime_version(parse_manifest(f'requires_runtime = ">=0.1,<1"\n{MINIMAL}'), version)


def test_a_runtime_outside_the_range_is_refused_with_both_versions() -> None:
    with pytest.raises(ManifestInvalid, match=r"requires_runtime: found \">=2\".*holds this ray_ext, 0\.1\.0"):
        check_runtime_version(parse_manifest(f'requires_runtime = ">=2"\n{MINIMAL}'), "0.1.0")
