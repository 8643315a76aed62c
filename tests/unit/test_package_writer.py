"""Packing a folder: static, deterministic, bounded, and never through a link or a pipe."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import zipfile
from pathlib import Path

import pytest

from ray_ext.errors import PackageInvalid, RayExtError
from ray_ext.manifests import read_wheel
from ray_ext.packages import PackageCache, folder_files, pack_folder, wheel_writer

MANIFEST = """\
schema_version = 1
id = "hello-world"
name = "Hello"
version = "1.0"
description = "Says hello"
category = "workflow.orchestration"
entry_point = "hello_world:Hello"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "hello_world").mkdir(parents=True)
    (root / "hello_world" / "__init__.py").write_text("class Hello: ...\n")
    (root / "extension.toml").write_text(MANIFEST)
    (root / "pyproject.toml").write_text('[project]\nname = "hello-world"\nversion = "1.0"\n')
    return root


def names(wheel: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(wheel)).namelist()


def refusal(folder: Path) -> str:
    with pytest.raises(RayExtError) as caught:
        pack_folder(folder)
    assert caught.value.details["problems"]
    return str(caught.value)


def test_the_wheel_holds_the_package_the_manifest_and_a_true_record(folder: Path) -> None:
    (folder / "extension.toml").write_text(MANIFEST + '[runtime_env]\npip = ["pyyaml>=6"]\n')
    wheel = pack_folder(folder)
    archive = zipfile.ZipFile(io.BytesIO(wheel))
    info = "hello_world-1.0.dist-info"
    assert archive.namelist() == [
        f"{info}/METADATA",
        f"{info}/RECORD",
        f"{info}/WHEEL",
        f"{info}/entry_points.txt",
        "hello_world/__init__.py",
        "hello_world/extension.toml",
    ]
    metadata = archive.read(f"{info}/METADATA").decode().splitlines()
    assert metadata[1:] == ["Name: hello-world", "Version: 1.0", "Summary: Says hello", "Requires-Dist: pyyaml>=6"]
    assert archive.read(f"{info}/entry_points.txt") == b"[ray_ext.extensions]\nhello-world = hello_world\n"
    for name, digest, size in csv.reader(archive.read(f"{info}/RECORD").decode().splitlines()):
        if not name.endswith("RECORD"):
            data = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (digest, size) == (f"sha256={expected}", str(len(data)))


def test_what_is_packed_can_be_read_and_kept(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(pack_folder(folder))
    source = read_wheel(tmp_path / "x.whl")
    assert (source.manifest.id, source.text, source.package) == ("hello-world", MANIFEST, "hello_world")
    assert PackageCache(tmp_path / "cache").add(pack_folder(folder)).source.manifest == source.manifest


def test_equal_content_gives_equal_bytes_whatever_the_times_modes_and_order(folder: Path) -> None:
    for name in ("b.py", "a.py"):
        (folder / "hello_world" / name).write_text("x = 1\n")
    first = pack_folder(folder)
    for name in ("b.py", "a.py"):
        (folder / "hello_world" / name).unlink()
    for name in ("a.py", "b.py"):
        (folder / "hello_world" / name).write_text("x = 1\n")
        (folder / "hello_world" / name).chmod(0o700)
        os.utime(folder / "hello_world" / name, (1, 1))
    assert pack_folder(folder) == first
    (folder / "hello_world" / "a.py").write_text("x = 2\n")
    assert pack_folder(folder) != first


def test_hidden_files_and_bytecode_stay_out_and_the_rest_of_the_folder_too(folder: Path) -> None:
    package = folder / "hello_world"
    for name in (".env", "x.pyc", "__pycache__/y.py", ".git/config", "sub/data.txt"):
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text("x")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_x.py").write_text("")
    packed = [name for name in names(pack_folder(folder)) if ".dist-info" not in name]
    assert packed == ["hello_world/__init__.py", "hello_world/extension.toml", "hello_world/sub/data.txt"]


def test_everything_below_src_is_packed_where_there_is_one(folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "hello_world").rename(folder / "src" / "hello_world")
    (folder / "src" / "other").mkdir()
    (folder / "src" / "other" / "__init__.py").write_text("")
    packed = names(pack_folder(folder))
    assert "other/__init__.py" in packed
    assert "hello_world/__init__.py" in packed
    assert not any(name.startswith("src") for name in packed)


def test_a_schema_file_keeps_its_place_beside_the_manifest(folder: Path, tmp_path: Path) -> None:
    (folder / "extension.toml").write_text(f'{MANIFEST}[configuration]\nschema_file = "c/config.json"\n')
    (folder / "c").mkdir()
    (folder / "c" / "config.json").write_text('{"type": "object"}')
    (tmp_path / "x.whl").write_bytes(pack_folder(folder))
    assert read_wheel(tmp_path / "x.whl").configuration_schema == {"type": "object"}
    (folder / "hello_world" / "c").mkdir()
    (folder / "hello_world" / "c" / "config.json").write_text("{}")
    assert "hello_world/c/config.json: found another file" in refusal(folder)


def test_a_single_module_is_refused_with_the_fix(folder: Path) -> None:
    (folder / "hello_world" / "__init__.py").rename(folder / "hello_world.py")
    (folder / "hello_world").rmdir()
    assert "make it a package: move hello_world.py to hello_world/__init__.py" in refusal(folder)


def test_a_missing_package_or_module_is_named(folder: Path) -> None:
    (folder / "extension.toml").write_text(MANIFEST.replace("hello_world:", "hello_world.core:"))
    assert "hello_world/core.py: found no such file" in refusal(folder)
    (folder / "hello_world" / "__init__.py").unlink()
    assert "create hello_world/__init__.py" in refusal(folder)


@pytest.mark.parametrize("kind", ["link", "folder link", "broken link", "pipe", "pth", "case", "unreadable name"])
def test_what_no_package_may_hold_is_refused_by_name(folder: Path, kind: str) -> None:
    package = folder / "hello_world"
    if kind == "link":
        (package / "odd").symlink_to("/etc/passwd")
    elif kind == "folder link":
        (package / "odd").symlink_to("/etc")
    elif kind == "broken link":
        (package / "odd").symlink_to("nowhere")
    elif kind == "pipe":
        os.mkfifo(package / "odd")
    elif kind == "pth":
        (package / "odd.pth").write_text("import os")
    elif kind == "case":
        (package / "odd").write_text("")
        (package / "Odd").write_text("")
    elif kind == "unreadable name":
        (package / "odd\n").write_text("")
    assert "hello_world/odd" in refusal(folder).casefold()


@pytest.mark.parametrize("linked", ["src", "hello_world"])
def test_a_linked_source_folder_is_refused(folder: Path, linked: str) -> None:
    (folder / "hello_world").rename(folder / "elsewhere")
    (folder / linked).symlink_to("elsewhere")
    assert f"{linked}: found " in refusal(folder)


@pytest.mark.parametrize("name", ["json", "ray_ext", "msgspec", "sitecustomize"])
def test_a_module_that_hides_one_that_the_guest_runs_on_is_refused(folder: Path, name: str) -> None:
    (folder / "src" / name).mkdir(parents=True)
    (folder / "src" / name / "__init__.py").write_text("")
    (folder / "hello_world").rename(folder / "src" / "hello_world")
    assert f"{name}/__init__.py: found a module that hides" in refusal(folder)


def test_limits_are_enforced_with_the_file_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "hello_world" / "large").open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    assert "hello_world/large: found more than 67108864 bytes" in refusal(folder)
    (folder / "hello_world" / "large").unlink()
    monkeypatch.setattr(folder_files, "TOTAL_BYTES", 10_000)
    (folder / "hello_world" / "data1").write_bytes(b"x" * 6_000)
    (folder / "hello_world" / "data2").write_bytes(b"x" * 6_000)
    assert "hello_world/data2: found more than " in refusal(folder)
    (folder / "hello_world" / "data1").unlink()
    (folder / "hello_world" / "data2").unlink()
    monkeypatch.setattr(folder_files, "FILES", 3)
    for number in range(3):
        (folder / "hello_world" / f"f{number}").write_text("")
    assert "hello_world/f2: found more than 3 files" in refusal(folder)
    monkeypatch.setattr(folder_files, "FILES", 4)
    monkeypatch.setattr(wheel_writer, "FILES", 4)
    with pytest.raises(PackageInvalid, match="9 files"):
        pack_folder(folder)


def test_nothing_of_the_extension_is_executed(folder: Path) -> None:
    (folder / "hello_world" / "__init__.py").write_text("raise SystemExit('ran')\n")
    (folder / "setup.py").write_text("raise SystemExit('ran')\n")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "hello_world"\nbackend-path = ["."]\n'
        '[project]\nname = "hello-world"\nversion = "1.0"\n'
    )
    pack_folder(folder)
