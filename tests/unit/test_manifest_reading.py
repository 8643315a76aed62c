"""Reading a manifest from a folder: every failure is a problem in words, and nothing can make it hang."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ray_ext.errors import ManifestInvalid, PackageInvalid
from ray_ext.manifests import parse_manifest, read_folder, read_wheel

MANIFEST = """\
schema_version = 1
id = "hello-world"
name = "Hello"
version = "1.0"
category = "workflow.orchestration"
entry_point = "hello_world:Hello"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "extension.toml").write_text(MANIFEST)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "Hello.World"\nversion = "1.0.0"\n')
    return tmp_path


def problem_of(folder: Path) -> str:
    with pytest.raises(ManifestInvalid) as caught:
        read_folder(folder)
    problems = caught.value.details["problems"]
    assert isinstance(problems, list)
    assert len(problems) == 1, problems
    return problems[0]


def test_a_folder_is_read_with_its_text_and_origin(folder: Path) -> None:
    source = read_folder(folder)
    assert source.manifest.id == "hello-world"
    assert (source.text, source.origin, source.configuration_schema) == (MANIFEST, str(folder), None)


def test_id_and_version_equal_those_of_pyproject(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[project]\nname = "other"\nversion = "2"\n')
    with pytest.raises(ManifestInvalid) as caught:
        read_folder(folder)
    assert "pyproject.toml: project.name: found 'other'; allowed: hello-world" in str(caught.value)
    assert "pyproject.toml: project.version: found '2'; allowed: 1.0" in str(caught.value)


def test_a_dynamic_version_is_not_compared(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[project]\nname = "hello-world"\ndynamic = ["version"]\n')
    assert read_folder(folder).manifest.version == "1.0"


@pytest.mark.parametrize("name", ["extension.toml", "pyproject.toml"])
@pytest.mark.parametrize("obstacle", ["missing", "folder", "link", "pipe", "large", "latin-1", "bom"])
def test_what_is_no_readable_file_is_a_problem_and_never_hangs(folder: Path, name: str, obstacle: str) -> None:
    path = folder / name
    content = path.read_text()
    path.unlink()
    if obstacle == "folder":
        path.mkdir()
    elif obstacle == "link":
        (folder / "target").write_text(content)
        path.symlink_to("target")
    elif obstacle == "pipe":
        os.mkfifo(path)
    elif obstacle == "large":
        path.write_text(content + "#" * 300_000)
    elif obstacle == "latin-1":
        path.write_bytes(b"# 1\n# \xe4\n" + content.encode())
    elif obstacle == "bom":
        path.write_bytes(b"\xef\xbb\xbf" + content.encode())
    found = {
        "missing": "no such file",
        "folder": "a directory",
        "link": "a link",
        "pipe": "a pipe",
        "large": "more than 262144 bytes",
        "latin-1": "the byte",
        "bom": "a byte order mark",
    }
    problem = problem_of(folder)
    assert problem.startswith(name)
    assert found[obstacle] in problem
    if obstacle == "latin-1":
        assert problem.startswith(f"{name}:2: ")


@pytest.mark.parametrize("path", ["nowhere", "extension.toml", "a\0b"])
def test_what_is_no_folder_is_a_problem(folder: Path, path: str) -> None:
    with pytest.raises(ManifestInvalid, match=r"a folder with extension\.toml"):
        read_folder(folder / path)


def test_a_syntax_error_names_its_line() -> None:
    with pytest.raises(ManifestInvalid, match=r"extension\.toml:2: found a syntax error"):
        parse_manifest('a = 1\nb = "unclosed\nc = 2\n')
    with pytest.raises(ManifestInvalid, match=r"extension\.toml:3: found a syntax error.*at the end of the file"):
        parse_manifest("a = 1\nb = [\n1,\n")


@pytest.mark.parametrize(
    "text",
    [
        "a." * 120_000 + "a = 1",
        "a . " * 60_000 + "a = 1",
        "x = {" + "a." * 100_000 + "a = 1}",
        "[" + "'a'." * 60_000 + "a]",
        'x = {a = """b"""", ' + "a." * 100_000 + 'a = 1, "" = 2}',
        "a = " + "[" * 200_000,
        "a = " + "{a=" * 50_000,
        "a = " + "9" * 200_000,
        "'''" * 80_000,
        '"' * 250_000,
    ],
    ids=range(10),
)
def test_hostile_toml_is_refused_quickly(text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ManifestInvalid):
        parse_manifest(text)
    assert time.perf_counter() - started < 2


def test_long_dotted_texts_in_strings_and_comments_are_no_keys() -> None:
    prose = "a. " * 50
    manifest = parse_manifest(f"# {prose}\ndescription = '{prose}'\n{MANIFEST}")
    assert manifest.description == prose


def test_a_schema_file_is_read_and_checked(folder: Path) -> None:
    (folder / "extension.toml").write_text(f'{MANIFEST}[configuration]\nschema_file = "c/config.schema.json"\n')
    (folder / "c").mkdir()
    schema = folder / "c" / "config.schema.json"
    assert "c/config.schema.json: found no such file" in problem_of(folder)
    schema.write_text('{"type": "object"}')
    assert read_folder(folder).configuration_schema == {"type": "object"}
    schema.write_text('{\n"type": }')
    assert problem_of(folder).startswith("c/config.schema.json:2: found Expecting value")
    schema.write_text("[]")
    assert "an object" in problem_of(folder)
    schema.write_text("[" * 100_000)
    assert "JSON" in problem_of(folder)
    schema.write_text('{"type": "string"}')
    assert problem_of(folder).startswith("c/config.schema.json: type: found 'string'")
    schema.unlink()
    os.mkfifo(schema)
    assert "a pipe" in problem_of(folder)


@pytest.mark.parametrize("name", ["../x.json", "/etc/passwd", "a/../../x", "", "a//b", "c\\\\d"])
def test_a_schema_file_stays_inside_the_folder(folder: Path, name: str) -> None:
    (folder / "extension.toml").write_text(f'{MANIFEST}[configuration]\nschema_file = "{name}"\n')
    assert "configuration.schema_file" in problem_of(folder)


def test_a_schema_file_behind_a_linked_folder_is_refused(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "x.json").write_text("{}")
    (folder / "c").symlink_to(outside)
    (folder / "extension.toml").write_text(f'{MANIFEST}[configuration]\nschema_file = "c/x.json"\n')
    assert "c/x.json: found " in problem_of(folder)


@pytest.mark.parametrize("content", [None, b"", b"PK", b"x" * 10_000, b"PK\5\6" + b"\0" * 18])
def test_what_is_no_wheel_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.whl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PackageInvalid) as caught:
        read_wheel(path)
    assert caught.value.details["problems"]


def test_a_pipe_instead_of_a_wheel_is_refused_and_never_hangs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.whl")
    with pytest.raises(PackageInvalid, match="special file"):
        read_wheel(tmp_path / "x.whl")
