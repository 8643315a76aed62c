"""``up``, ``down`` and ``status``: what runs is found, shown and ended, and nothing else is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ray_ext.client.leftovers import is_running, keepers_of, processes_of
from ray_ext.home import Home
from ray_ext.runtime_record import RuntimeRecord, read_record
from tests.cli.command_line import Cli, write_project
from tests.cli.ray_cluster import OtherCluster, other_cluster


@pytest.fixture
def own() -> Iterator[Cli]:
    """A command line with a state home of its own, where nothing is left at the end."""
    folder = Path(tempfile.mkdtemp(prefix="rx-"))
    own = Cli(folder / "home")
    yield own
    own.run("down")
    assert_nothing_is_left(own.home)
    shutil.rmtree(folder)


def assert_nothing_is_left(home: Home) -> None:
    assert processes_of(home) == []
    assert keepers_of(home) == []
    assert not home.ray_temp.exists()
    left = {each.name for each in home.run.iterdir()} if home.run.exists() else set()
    assert left <= {"lock", "ray-token", "control-token"}


def begin(own: Cli, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        own.command(*arguments),
        env=own.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def await_that(condition: Callable[[], Any], what: str) -> Any:
    give_up = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < give_up, what
        time.sleep(0.02)
    return found


def await_end(pid: int) -> None:
    await_that(lambda: not is_running(pid), f"{pid} has ended")


def program(pid: int) -> str:
    """The name of the program that a process runs."""
    return Path(f"/proc/{pid}/exe").readlink().name


def record(own: Cli) -> RuntimeRecord:
    found = read_record(own.home)
    assert found is not None
    return found


def actors(status: Any) -> dict[str, Any]:
    return {each["name"].partition(" ")[0]: each for each in status["actors"]}


def test_two_ups_at_once_start_one_runtime_which_status_shows_and_down_ends(own: Cli) -> None:
    both = [begin(own, "up", "--spares", "0", "--listen", "127.0.0.1:0") for _ in range(2)]
    said = [each.communicate(timeout=150) for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert sorted(err.count("The runtime is already up.") for _, err in said) == [0, 1]
    assert sorted(err.count("The runtime is up.") for _, err in said) == [0, 1]
    assert len(keepers_of(own.home)) == 1

    places = dict(line.split(None, 1) if "  " not in line else line.split("  ", 1) for line in said[0][0].splitlines())
    places = {name: where.strip() for name, where in places.items()}
    assert places["state home"] == str(own.home.root)
    assert places["logs"] == str(own.home.logs)
    assert places["socket"] == str(own.home.run / "control.sock")
    assert places["listens at"].startswith("http://127.0.0.1:")
    assert places["dashboard"].startswith("http://127.0.0.1:")
    assert places["namespace"] == own.home.namespace
    assert places["keeper"].startswith(f"pid {record(own).pid}")
    assert {"registry", "control", "ray"} <= places.keys()
    assert said[0][0] == said[1][0]

    # Ray's control store is in a folder of this boot, in RocksDB's files.
    (storage,) = own.home.ray_temp.glob("gcs-*")
    assert list(storage.rglob("MANIFEST-*"))
    assert (storage.stat().st_mode & 0o777, own.home.ray_temp.stat().st_mode & 0o777) == (0o700, 0o700)
    # What Ray's processes write to the temporary folder is where `down` removes it. Those that retitle themselves have
    # overwritten the environment that they were started with; these two do not.
    servers = {name: pid for pid in processes_of(own.home) if (name := program(pid)) in ("gcs_server", "raylet")}
    assert servers.keys() == {"gcs_server", "raylet"}
    for pid in servers.values():
        environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
        assert f"TMPDIR={own.home.ray_temp}" in environment
        assert f"RAY_gcs_storage_path={storage}" in environment

    status = own.data("status", "status", "--check")
    assert status["differences"] == []
    assert {each["state"] for each in status["actors"]} == {"answers"}
    again = own.run("up", "--json")
    assert (again.returncode, again.stderr) == (0, "")
    assert actors(json.loads(again.stdout)["data"]) == actors(status)

    # A part that does not answer is told, and the rest with it.
    for part, told in (("registry", "registry is away"), ("control", "control is away")):
        pid = actors(status)[part]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            partial = own.data("status", "status")
            assert actors(partial)[part]["state"] == "away"
            assert [each for each in partial["differences"] if told in each]
            assert partial["runtime"] is None
            assert partial["address"] == status["address"]
            checked = own.run("status", "--check")
            assert checked.returncode == 1
            assert told in checked.stdout
        finally:
            os.kill(pid, signal.SIGCONT)

    # An end that was asked for goes on without the one who asked.
    os.kill(record(own).pid, signal.SIGSTOP)
    down = begin(own, "down")
    assert down.stderr is not None
    assert down.stderr.readline() == "Waiting for the extensions and Ray to end …\n"
    down.send_signal(signal.SIGINT)
    _, err = down.communicate(timeout=60)
    assert (down.returncode, "goes on ending by itself" in err) == (130, True), err
    os.kill(record(own).pid, signal.SIGCONT)
    await_that(lambda: not keepers_of(own.home), "the keeper has ended")
    assert_nothing_is_left(own.home)
    for pid in {each["pid"] for each in status["actors"]}:
        await_end(pid)
    assert own.data("down", "down") == {"was_up": False, "home": str(own.home.root)}
    assert "ray-ext up" in own.refused(5, "status")
    assert own.run("status", "--check").returncode == 5


def test_down_ends_what_a_killed_keeper_and_a_moved_home_leave_and_up_loads_what_was_loaded(
    own: Cli, tmp_path: Path
) -> None:
    own.ok("up", "--spares", "0")
    own.ok("install", write_project(tmp_path, "kept"))
    guest = own.data("extension", "show", "kept")["instance"]["guest_pid"]
    status = own.data("status", "status")
    # Ray's own processes would notice, and end: those that cannot are left.
    stopped = [pid for pid in processes_of(own.home) if b"raylet" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    pids = [guest, *processes_of(own.home), *(each["pid"] for each in status["actors"])]
    for pid in (*stopped, actors(status)["registry"]["pid"]):
        os.kill(pid, signal.SIGSTOP)
    os.kill(actors(status)["control"]["pid"], signal.SIGKILL)
    os.kill(record(own).pid, signal.SIGKILL)
    await_that(lambda: read_record(own.home) is None, "the keeper is gone")
    assert "ray-ext up" in own.refused(5, "status")
    before = own.home
    before.root.rename(before.root.with_name("moved"))
    own.home = Home(before.root.with_name("moved"))
    own.environment["RAY_EXT_HOME"] = str(own.home.root)
    assert "The runtime is down." in own.note("down")
    for pid in pids:
        await_end(pid)
    assert_nothing_is_left(before)
    assert not before.root.exists()
    assert "No runtime is up." in own.note("down")
    own.ok("up", "--spares", "0")
    assert own.ok("call", "kept", "version") == '"1.0.0"\n'
    assert own.data("status", "status", "--check")["differences"] == []


def test_an_interrupted_up_ends_what_it_started_and_down_ends_one_that_is_starting(own: Cli) -> None:
    up = begin(own, "up", "--spares", "0")
    await_that(lambda: processes_of(own.home), "Ray is starting")
    up.send_signal(signal.SIGINT)
    _, err = up.communicate(timeout=60)
    assert up.returncode == 130, err
    assert "what was started has been ended" in err
    assert_nothing_is_left(own.home)

    up = begin(own, "up", "--spares", "0")
    await_that(lambda: processes_of(own.home), "Ray is starting")
    assert "The runtime is down." in own.note("down")
    _, err = up.communicate(timeout=60)
    assert (up.returncode, "did not start" in err, "keeper waiting for Ray" in err) == (5, True, True), err
    assert_nothing_is_left(own.home)


def test_a_start_that_cannot_work_says_why_and_leaves_nothing(own: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = own.refused(3, "up", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert "in use" in said
    assert "TLS" in own.refused(3, "up", "--listen", "0.0.0.0:0")
    assert "none.pem" in own.refused(
        3, "up", "--listen", "127.0.0.1:0", "--tls-cert", "none.pem", "--tls-key", "none.pem"
    )
    assert "--listen" in own.refused(2, "up", "--tls-cert", "none.pem")
    assert "127.0.0.1:1" in own.refused(5, "up", "--address", "127.0.0.1:1")
    assert not own.home.root.exists()

    own.home.root.write_text("in the way")
    assert "state home cannot be made" in own.refused(1, "up")
    assert own.home.root.read_text() == "in the way"
    own.home.root.unlink()


def test_a_keeper_that_fails_says_why(own: Cli) -> None:
    # Ray's folder cannot be made.
    own.home.ray_temp.write_text("in the way")
    try:
        said = own.refused(5, "up")
        assert "FileExistsError" in said
        assert str(own.home.logs / "system" / "keeper.log") in said
    finally:
        own.home.ray_temp.unlink()
    assert_nothing_is_left(own.home)


EMBEDDING = """
import subprocess, sys, ray_ext
runtime = ray_ext.connect(home=sys.argv[1], spares=0)
theirs = subprocess.Popen(["sleep", "60"])
runtime.close()
print(theirs.poll())
theirs.kill()
theirs.wait()
"""


def test_a_program_that_embeds_the_runtime_keeps_its_own_processes(own: Cli) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EMBEDDING, str(own.home.root)],
        env=own.environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert done.stdout == "None\n", done.stderr
    assert_nothing_is_left(own.home)


@pytest.fixture
def cluster() -> Iterator[OtherCluster]:
    with other_cluster() as cluster:
        yield cluster


def test_a_cluster_that_was_joined_goes_on_without_us(own: Cli, cluster: OtherCluster) -> None:
    bystander, before = cluster.bystander()
    theirs = dict(own.environment)
    for is_killed in (False, True):
        own.environment |= cluster.environment
        assert "the cluster's own" in own.ok("up", "--address", cluster.address, "--spares", "1")
        status = own.data("status", "status")
        assert not own.home.ray_temp.exists()
        assert stat_mode(own.home.run / "cluster-token") == 0o600
        names = cluster.bystander()[1]
        assert {f"{own.home.namespace}:{each}" for each in ("registry", "control")} <= set(names)
        # The one who ends it needs nothing of the environment in which it was started.
        own.environment = dict(theirs)
        if is_killed:
            os.kill(record(own).pid, signal.SIGKILL)
            await_that(lambda: read_record(own.home) is None, "the keeper is gone")
        assert "The runtime is down." in own.note("down")
        for pid in {each["pid"] for each in status["actors"]}:
            await_end(pid)
        assert cluster.bystander() == (bystander, before)
        assert_nothing_is_left(own.home)


def stat_mode(path: Path) -> int:
    return path.stat().st_mode & 0o777
