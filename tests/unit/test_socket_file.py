"""The control API's socket: private, replaced in one step, and reachable however long the state home's path is."""

from __future__ import annotations

import os
import select
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ray_ext.control.socket_file import bind_socket, connect_socket, socket_path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Deeper than an address of a socket may be long."""
    deep = tmp_path / ("a" * 100) / ("b" * 100)
    deep.mkdir(parents=True)
    assert len(os.fsencode(socket_path(deep))) > 107
    return deep


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def _reached(run: Path, *listening: socket.socket) -> list[socket.socket]:
    """Those of these sockets that a client reaches which connects now."""
    with connect_socket(run, 5.0):
        ready, _, _ = select.select(listening, [], [], 5.0)
        for each in ready:
            each.accept()[0].close()
        return ready


def test_a_client_reaches_it_in_a_folder_whose_path_is_too_long_for_a_socket(run: Path, stack: ExitStack) -> None:
    bound = stack.enter_context(bind_socket(run))
    assert _reached(run, bound) == [bound]


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_its_rights_are_its_owners_alone_whatever_the_umask(umask: int, run: Path, stack: ExitStack) -> None:
    before = os.umask(umask)
    try:
        stack.enter_context(bind_socket(run))
    finally:
        os.umask(before)
    assert stat.S_IMODE(socket_path(run).stat().st_mode) == 0o600


def test_a_successor_takes_its_place_and_leaves_nothing_beside_it(run: Path, stack: ExitStack) -> None:
    first = stack.enter_context(bind_socket(run))
    second = stack.enter_context(bind_socket(run))
    assert _reached(run, first, second) == [second]
    assert [each.name for each in run.iterdir()] == [socket_path(run).name]


def test_one_that_nobody_serves_any_more_is_replaced(run: Path, stack: ExitStack) -> None:
    bind_socket(run).close()
    with pytest.raises(ConnectionRefusedError):
        connect_socket(run, 1.0)
    bound = stack.enter_context(bind_socket(run))
    assert _reached(run, bound) == [bound]


def test_where_it_cannot_take_its_place_it_leaves_nothing(run: Path) -> None:
    socket_path(run).mkdir()
    with pytest.raises(IsADirectoryError):
        bind_socket(run)
    assert [each.name for each in run.iterdir()] == [socket_path(run).name]


def test_where_there_is_none_the_client_is_told_so(run: Path, tmp_path: Path) -> None:
    for folder in (run, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError):
            connect_socket(folder, 1.0)


def test_neither_side_leaves_a_descriptor_open(run: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with bind_socket(run), connect_socket(run, 1.0):
        pass
    with pytest.raises(FileNotFoundError):
        connect_socket(run / "nowhere", 1.0)
    assert len(os.listdir("/proc/self/fd")) == len(before)
