from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ray_ext.sandbox.guest import Guest
from ray_ext.sandbox.spawn import GuestSpec, spawn_guest

from .conftest import DEADLINE_S, Layers, Spawn

REPOSITORY = Path(__file__).parents[2]

# A host of its own: spawns a guest as told, and says its pid; then waits to be killed.
_HOST = """
import os, signal, sys
from pathlib import Path
from ray_ext.sandbox import handshake, spawn
{before}
guest = spawn.spawn_guest(spawn.GuestSpec(
    extension="orphan", layer=Path(sys.argv[1]), code_paths=(), data_dir=Path(sys.argv[2]), memory_bytes=64 << 20),
    zygote=Path(sys.argv[3]) if sys.argv[3:] else None)
print(guest.pid, guest.stub_pid or 0, flush=True)
signal.pause()
"""


@contextmanager
def host(
    layer: Path, data_dir: Path, before: str = "", zygote: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [layer, data_dir] if zygote is None else [layer, data_dir, zygote]
    process = subprocess.Popen(
        [sys.executable, "-c", _HOST.format(before=before), *map(os.fspath, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.fspath(REPOSITORY), *sys.path])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def numbers_of(process: subprocess.Popen[bytes]) -> list[int]:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], DEADLINE_S)[0]
    return [int(word) for word in process.stdout.readline().split()]


def assert_dies(pidfd: int) -> None:
    try:
        assert select.select([pidfd], [], [], DEADLINE_S)[0], "the guest outlived its host"
    finally:
        os.close(pidfd)


def test_a_guest_dies_with_its_host(layers: Layers, tmp_path: Path) -> None:
    with host(layers("attack"), tmp_path / "data") as process:
        pidfd = os.pidfd_open(numbers_of(process)[0])
        process.kill()
        assert_dies(pidfd)


def test_a_guest_whose_host_died_before_the_policy_ends(layers: Layers, tmp_path: Path) -> None:
    dies_early = (
        "import psutil\n"
        "def send_policy(channel, policy):\n"
        "    print(psutil.Process().children()[0].pid, flush=True)\n"
        "    sys.stdin.readline()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "handshake.send_policy = send_policy"
    )
    with host(layers("attack"), tmp_path / "data", dies_early) as process:
        pidfd = os.pidfd_open(numbers_of(process)[0])
        process.communicate(b"\n", timeout=DEADLINE_S)
        assert_dies(pidfd)


def test_a_guest_whose_host_died_before_the_death_signal_was_set_ends(layers: Layers, tmp_path: Path) -> None:
    waits = (
        "def _wait_for_the_test(policy: Policy) -> None:\n"
        "    with open(os.environ['HOME'] + '/here', 'w') as file: file.write(str(os.getpid()))\n"
        "    open(os.environ['HOME'] + '/go').read()\n"
        "STEPS = (('wait', _wait_for_the_test), *STEPS)\n"
    )
    layer = layers("waits", lockdown=waits)
    data = tmp_path / "data"
    data.mkdir()
    os.mkfifo(data / "here")
    os.mkfifo(data / "go")
    with host(layer, data) as process:
        pidfd = os.pidfd_open(int((data / "here").read_text()))
        process.kill()
        process.wait()
        (data / "go").write_text("")
        assert_dies(pidfd)


def test_an_executed_guest_dies_with_the_thread_that_spawned_it(spec: GuestSpec) -> None:
    guests: list[Guest] = []
    thread = threading.Thread(target=lambda: guests.append(spawn_guest(spec)))
    thread.start()
    thread.join()
    assert guests[0].wait(DEADLINE_S) == -signal.SIGKILL
    guests[0].close()


async def test_an_event_loop_sees_the_death(spawn: Spawn, spec: GuestSpec) -> None:
    guest = spawn(spec)
    loop = asyncio.get_running_loop()
    died = asyncio.Event()
    loop.add_reader(guest.exit_descriptor, died.set)
    assert guest.poll() is None
    guest.kill()
    await asyncio.wait_for(died.wait(), DEADLINE_S)
    loop.remove_reader(guest.exit_descriptor)
    assert guest.poll() == -signal.SIGKILL
    guest.kill()
    guest.close()
    guest.close()
    guest.kill()
    assert guest.poll() == -signal.SIGKILL


def test_a_guest_that_blocks_every_signal_is_killed(spawn: Spawn, spec: GuestSpec) -> None:
    from .conftest import Attacker

    guest = spawn(spec)
    Attacker(guest, {}).run("import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))")
    guest.kill()
    assert guest.wait(DEADLINE_S) == -signal.SIGKILL
    guest.close()


def test_waiting_for_a_guest_that_runs_on_times_out(spawn: Spawn, spec: GuestSpec) -> None:
    guest = spawn(spec)
    with pytest.raises(TimeoutError):
        guest.wait(0.01)
    guest.close()
