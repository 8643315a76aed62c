from __future__ import annotations

import itertools
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ray_ext.sandbox.nursery import Nursery, zygote_address
from ray_ext.sandbox.spawn import GuestSpec, spawn_guest

from .conftest import DEADLINE_S, Attacker
from .test_death import assert_dies, host, numbers_of


@pytest.fixture
def nursery(spec: GuestSpec, tmp_path: Path) -> Iterator[Nursery]:
    """One of the test's own, for it is killed."""
    nursery = Nursery(tmp_path, spec.layer, tmp_path / "zygote.log", {"RAY_EXT_BOOT": "mark"})
    yield nursery
    nursery.close()
    assert not nursery.address.exists()


def replaced(nursery: Nursery) -> int:
    assert select.select([nursery.pidfd], [], [], DEADLINE_S)[0]
    return nursery.replace()


@pytest.mark.parametrize("order", list(itertools.permutations(["host", "stub", "zygote"])), ids="-".join)
def test_a_guest_never_outlives_its_host_whatever_dies_first(
    spec: GuestSpec, nursery: Nursery, tmp_path: Path, order: tuple[str, ...]
) -> None:
    with host(spec.layer, tmp_path / "data", zygote=nursery.address) as process:
        guest_pid, stub = numbers_of(process)
        guest, stub_end = os.pidfd_open(guest_pid), os.pidfd_open(stub)
        victims = {"host": process.pid, "stub": stub, "zygote": nursery.pid}
        for victim in order:
            try:
                os.kill(victims[victim], signal.SIGKILL)
            except ProcessLookupError:
                assert victim == "stub", "a stub ends by itself after its host"
        assert_dies(guest)
        assert_dies(stub_end)


def test_guests_outlive_their_zygote_and_the_next_one_makes_more(spec: GuestSpec, nursery: Nursery) -> None:
    guest = spawn_guest(spec, zygote=nursery.address)
    os.kill(nursery.pid, signal.SIGKILL)
    assert replaced(nursery) == -signal.SIGKILL
    assert Attacker(guest, {}).run("result = 'alive'") == "ok: 'alive'"
    another = spawn_guest(spec, zygote=nursery.address)
    assert another.report.is_forked
    guest.kill()
    assert guest.wait(DEADLINE_S) == -signal.SIGKILL
    assert Attacker(another, {}).run("import os; os._exit(7)") == "exit 7"
    guest.close()
    another.close()


def test_a_request_that_finds_no_zygote_waits_for_the_next(spec: GuestSpec, nursery: Nursery) -> None:
    os.kill(nursery.pid, signal.SIGKILL)
    assert select.select([nursery.pidfd], [], [], DEADLINE_S)[0]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as early:
        early.connect(os.fspath(nursery.address))
        nursery.replace()
        guest = spawn_guest(spec, zygote=nursery.address)
    assert guest.report.is_forked
    guest.close()


def test_without_a_zygote_the_guest_is_executed(spec: GuestSpec, tmp_path: Path) -> None:
    guest = spawn_guest(spec, zygote=zygote_address(tmp_path, spec.layer))
    assert not guest.report.is_forked
    assert guest.stub_pid is None
    guest.close()


def test_a_zygote_that_hangs_is_done_without_and_its_late_guest_ends(
    spec: GuestSpec, nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_ext.sandbox.process._BIRTH_S", 0.2)
    # A first guest: the zygote has imported everything.
    spawn_guest(spec, zygote=nursery.address).close()
    os.kill(nursery.pid, signal.SIGSTOP)
    guest = spawn_guest(spec, zygote=nursery.address)
    assert not guest.report.is_forked
    os.kill(nursery.pid, signal.SIGCONT)
    assert Attacker(guest, {}).run("result = 'alone'") == "ok: 'alone'"
    # Its turn comes after that of the late one.
    spawn_guest(spec, zygote=nursery.address).close()
    while children := Path(f"/proc/{nursery.pid}/task/{nursery.pid}/children").read_text().split():
        assert_dies(os.pidfd_open(int(children[0])))
    guest.close()


@pytest.mark.parametrize("content", [b"", b"x", b"{}"])
def test_whoever_connects_and_asks_for_nothing_gets_nothing(spec: GuestSpec, nursery: Nursery, content: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.settimeout(DEADLINE_S)
        stranger.connect(os.fspath(nursery.address))
        if content:
            stranger.send(content)
        else:
            stranger.shutdown(socket.SHUT_WR)
        assert stranger.recv(100) == b""
    spawn_guest(spec, zygote=nursery.address).close()


def test_a_zygote_ends_with_its_owner(spec: GuestSpec, tmp_path: Path) -> None:
    owns = (
        "from ray_ext.sandbox.nursery import Nursery\n"
        "nursery = Nursery(Path(sys.argv[2]), Path(sys.argv[1]), Path(sys.argv[2], 'log'))\n"
        "print(nursery.pid, flush=True)"
    )
    with host(spec.layer, tmp_path, owns) as owner:
        pidfd = os.pidfd_open(numbers_of(owner)[0])
        owner.kill()
        assert_dies(pidfd)


def test_a_zygote_holds_nothing_of_its_owner(spec: GuestSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    planted = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(planted, True)
    nursery = Nursery(tmp_path, spec.layer, tmp_path / "zygote.log", {"RAY_EXT_BOOT": "mark"})
    try:
        guest = spawn_guest(spec, zygote=nursery.address)
        names = {entry.partition(b"=")[0] for entry in Path(f"/proc/{nursery.pid}/environ").read_bytes().split(b"\0")}
        assert names == {b"", b"PATH", b"LANG", b"MALLOC_ARENA_MAX", b"RAY_EXT_BOOT"}
        targets = [os.readlink(entry) for entry in Path(f"/proc/{nursery.pid}/fd").iterdir()]
        assert "/etc/passwd" not in targets
        assert Attacker(guest, {}).run("import os; result = 'RAY_EXT_BOOT' in os.environ") == "ok: False"
        guest.close()
    finally:
        nursery.close()
        os.close(planted)


def test_guests_of_one_zygote_draw_different_random_numbers(
    spec: GuestSpec, nursery_of: Callable[[Path], Nursery]
) -> None:
    guests = [spawn_guest(spec, zygote=nursery_of(spec.layer).address) for _ in range(2)]
    drawn = [
        Attacker(guest, {}).run(
            "import random, secrets, uuid; result = (random.random(), secrets.token_hex(), uuid.uuid4())"
        )
        for guest in guests
    ]
    assert all(outcome.startswith("ok") for outcome in drawn)
    assert drawn[0] != drawn[1]
    for guest in guests:
        guest.close()


def test_a_nursery_takes_the_place_of_a_dead_ones_socket_also_below_a_long_path(
    spec: GuestSpec, tmp_path: Path
) -> None:
    folder = tmp_path / ("deep" * 30)
    folder.mkdir()
    zygote_address(folder, spec.layer).touch()
    nursery = Nursery(folder, spec.layer, tmp_path / "zygote.log")
    assert len(os.fspath(nursery.address)) > 107
    guest = spawn_guest(spec, zygote=nursery.address)
    assert guest.report.is_forked
    guest.close()
    nursery.close()
