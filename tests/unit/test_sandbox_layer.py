from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ray_ext.sandbox import layer as layer_module
from ray_ext.sandbox.layer import guest_layer


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layers")


def test_the_layer_holds_what_guests_import_and_nothing_of_the_host(root: Path) -> None:
    layer = guest_layer(root)
    assert {path.name for path in layer.iterdir()} == {"ray_ext", "msgspec", "layer.json"}
    parts = {path.name for path in (layer / "ray_ext").iterdir() if path.is_dir()} - {"__pycache__"}
    assert parts == {"sandbox", "sdk", "wire"}
    assert not list(layer.rglob("seccomp.py"))


def test_every_module_is_compiled(root: Path) -> None:
    layer = guest_layer(root)
    tag = sys.implementation.cache_tag
    missing = [p for p in layer.rglob("*.py") if not (p.parent / "__pycache__" / f"{p.stem}.{tag}.pyc").exists()]
    assert missing == []


def test_a_guest_can_import_it_all_without_the_host(root: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {os.fspath(guest_layer(root))!r})\n"
        "import msgspec, ray_ext.errors, ray_ext.sandbox.bootstrap, ray_ext.sandbox.lockdown, ray_ext.sdk.guest\n"
    )
    subprocess.run([sys.executable, "-I", "-S", "-B", "-c", code], check=True, timeout=30)


def test_the_same_sources_give_the_same_layer_without_building_again(root: Path) -> None:
    first = guest_layer(root)
    made = first.stat().st_mtime_ns
    started = time.perf_counter()
    assert guest_layer(root) == first
    assert time.perf_counter() - started < 0.2
    assert first.stat().st_mtime_ns == made


def test_a_changed_source_or_python_gives_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"a.py": b"1", "b.py": b"2"}
    names = {layer_module._digest(f) for f in (files, {"a.py": b"1", "b.py": b"3"}, {"a.py": b"12", "b.py": b""})}
    monkeypatch.setattr(sys, "version", "4.0")
    assert len(names | {layer_module._digest(files)}) == 4


@pytest.mark.parametrize("damage", ["remove", "truncate", "add"])
def test_a_damaged_layer_is_built_again(tmp_path: Path, damage: str) -> None:
    layer = guest_layer(tmp_path)
    victim = layer / "ray_ext/errors.py"
    if damage == "remove":
        victim.unlink()
    elif damage == "truncate":
        victim.chmod(0o644)
        victim.write_text("")
    else:
        (layer / "asyncio.py").write_text("evil = True")
    assert guest_layer(tmp_path) == layer
    assert victim.stat().st_size > 0
    assert not (layer / "asyncio.py").exists()
    assert [path.name for path in tmp_path.iterdir()] == [layer.name]


def test_many_builders_at_once_agree(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ray_ext.sandbox.layer import guest_layer\n"
        "print(guest_layer(Path(sys.argv[1])))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.fspath(Path(__file__).parents[2]), *sys.path])}

    def build(_: int) -> bytes:
        return subprocess.run(
            [sys.executable, "-c", code, os.fspath(tmp_path)],
            env=environment,
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(build, range(4)))) == 1
    assert len(list(tmp_path.iterdir())) == 1
