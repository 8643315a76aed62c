"""One runtime for all tests of this package: its own state home, Ray and ports."""

from __future__ import annotations

import shutil
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ray_ext.client.runtime import Runtime, connect

#: Writes an extension's folder: id, code, further lines of the manifest.
MakeExtension = Callable[..., Path]

CODE = """
import asyncio
import os
import time
from dataclasses import dataclass

from ray_ext import Extension, exported


@dataclass
class Point:
    x: int
    y: int


class Hostile(Exception):
    def __repr__(self):
        raise RuntimeError("no")

    def __str__(self):
        raise SystemExit(3)


class Probe(Extension):
    async def on_load(self):
        self.calls = 0
        self.logger.info("probe is loaded")

    @exported
    async def echo(self, value):
        self.calls += 1
        return value

    @exported(idempotent=True)
    async def safe_echo(self, value):
        return value

    @exported
    async def flip(self, point: Point) -> Point:
        return Point(point.y, point.x)

    @exported
    async def sleep(self, seconds: float):
        await asyncio.sleep(seconds)
        return seconds

    @exported
    async def block(self, seconds: float):
        time.sleep(seconds)

    @exported
    def think(self, seconds: float):
        time.sleep(seconds)
        return seconds

    @exported
    async def fail(self, text: str):
        raise ValueError(text)

    @exported
    async def fail_hostile(self):
        raise Hostile

    @exported
    async def unsendable(self):
        return {"deep": [1, object()]}

    @exported
    async def blob(self, size: int):
        return b"x" * size

    @exported
    async def pid(self):
        return os.getpid()

    @exported
    async def config_is(self):
        return dict(self.config)

    @exported
    async def count_to(self, path: str):
        with open(self.data_dir / path, "a") as file:
            file.write("x")

    @exported
    async def counted(self, path: str):
        target = self.data_dir / path
        return len(target.read_text()) if target.exists() else 0

    async def hidden(self):
        return "secret"
"""


@pytest.fixture(scope="session")
def make_extension(tmp_path_factory: pytest.TempPathFactory) -> MakeExtension:
    def make(extension: str, *, code: str = CODE, version: str = "1.0.0", manifest: str = "") -> Path:
        folder = tmp_path_factory.mktemp(extension)
        package = extension.replace("-", "_")
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text(textwrap.dedent(code))
        (folder / "pyproject.toml").write_text(f'[project]\nname = "{extension}"\nversion = "{version}"\n')
        (folder / "extension.toml").write_text(
            f'schema_version = 1\nid = "{extension}"\nname = "{extension}"\nversion = "{version}"\n'
            f'description = "A probe"\nauthor = "The ray_ext developers"\ncategory = "platform.custom"\n'
            f'entry_point = "{package}:Probe"\n{manifest}'
        )
        return folder

    return make


@pytest.fixture(scope="package")
def runtime() -> Iterator[Runtime]:
    home = Path(tempfile.mkdtemp(prefix="rx-"))
    started = connect(home=home)
    yield started
    started.close()
    shutil.rmtree(home)


@pytest.fixture(scope="package")
def strict(runtime: Runtime, make_extension: MakeExtension) -> str:
    return runtime.install(make_extension("probe-strict")).id


@pytest.fixture(scope="package")
def trusted(runtime: Runtime, make_extension: MakeExtension) -> str:
    return runtime.install(make_extension("probe-trusted", manifest='isolation = "trusted"\n'), grant="requested").id


@pytest.fixture(params=["strict", "trusted"])
def probe(request: pytest.FixtureRequest, runtime: Runtime) -> Any:
    """A handle of the same code in both isolations."""
    return runtime.extension(request.getfixturevalue(request.param))
