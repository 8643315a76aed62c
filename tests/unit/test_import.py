from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import ray_ext

_PROBE = """
import json, sys, time
sys.path.insert(0, {path!r})
start = time.perf_counter()
import ray_ext
spent = time.perf_counter() - start
{more}
print(json.dumps([spent, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""


def run(more: str = "") -> tuple[float, set[str]]:
    program = _PROBE.format(path=str(Path(ray_ext.__file__).parents[1]), more=more)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    spent, modules = json.loads(done.stdout)
    return float(spent), set(modules)


def test_importing_ray_ext_imports_neither_ray_nor_pydantic_and_is_fast() -> None:
    runs = [run() for _ in range(5)]
    for _, modules in runs:
        assert not {"ray", "pydantic", "sqlalchemy", "click", "msgspec", "asyncio"} & modules
    assert statistics.median(spent for spent, _ in runs) < 0.05


@pytest.mark.parametrize("name", ["Extension", "exported", "RayExtError"])
def test_what_an_extension_imports_needs_no_ray(name: str) -> None:
    _, modules = run(f"from ray_ext import {name}")
    assert not {"ray", "pydantic", "sqlalchemy"} & modules


def test_every_public_name_is_there_and_listed() -> None:
    names = set(dir(ray_ext))
    assert {"Extension", "exported", "Runtime", "connect", "RayExtError", "OutcomeUnknown", "__version__"} <= names
    assert not [name for name in names if "ray_ext" not in getattr(getattr(ray_ext, name), "__module__", "ray_ext")]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        ray_ext.no_such_name  # noqa: B018
