"""One runtime for the whole package; each test has extensions of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_ext.client.leftovers import processes_of
from ray_ext.client.runtime import Runtime, connect
from tests.cli.command_line import CREDENTIALS, Cli


@pytest.fixture(scope="package")
def cli() -> Iterator[Cli]:
    home = Path(tempfile.mkdtemp(prefix="rx-"))
    cli = Cli(home, CREDENTIALS)
    cli.ok("up", "--spares", "2")
    yield cli
    cli.run("down")
    assert processes_of(cli.home) == []
    shutil.rmtree(home)


@pytest.fixture(scope="package")
def runtime(cli: Cli) -> Iterator[Runtime]:
    """The same runtime from within: to prepare what a verb is tried on, and to see what it did."""
    with connect(home=cli.home.root, is_embedding=False) as runtime:
        yield runtime
