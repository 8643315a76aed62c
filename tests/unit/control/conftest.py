"""A state home, and who serves there."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_ext.control.addresses import HomeAddress
from ray_ext.control.socket_file import bind_socket
from ray_ext.control.transport import Transport
from ray_ext.home import Home
from tests.unit.control.server import Serve, Server


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.run.mkdir(parents=True, mode=0o700)
    return home


@pytest.fixture
def lives(home: Home) -> Iterator[None]:
    """Somebody holds the runtime's lock, until the test is over."""
    with (home.run / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def serve(home: Home) -> Iterator[Serve]:
    servers: list[Server] = []

    def start(*replies: bytes | None) -> Server:
        servers.append(Server(bind_socket(home.run), *replies))
        return servers[-1]

    yield start
    for each in servers:
        each.close()


@pytest.fixture
def transport(home: Home) -> Transport:
    return Transport(HomeAddress(home), patience_s=5.0)
