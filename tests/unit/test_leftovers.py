"""What is ended of a runtime that is gone, and what is left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_ext.client.ending import end_runtime
from ray_ext.client.leftovers import BOOT, end_last_runtime, keepers_of, processes_of
from ray_ext.errors import RuntimeConflict
from ray_ext.home import Home
from ray_ext.runtime_record import RuntimeLock, RuntimeRecord, read_last, read_record, write_last, write_record


def record_of(home: Home, **changes: object) -> RuntimeRecord:
    facts: dict[str, object] = {
        "kind": "up",
        "pid": os.getpid(),
        "address": "",
        "namespace": home.namespace,
        "auth_mode": "token",
        "token_path": "",
        "dashboard": "",
        "started_at": 0.0,
        "home": str(home.root),
        "ray_temp": str(home.ray_temp),
    }
    return RuntimeRecord(**(facts | changes))  # type: ignore[arg-type]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home")
    made.ensure()
    yield made
    shutil.rmtree(made.ray_temp, ignore_errors=True)


@pytest.fixture
def ray_process(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    """What is marked as a process of this home's Ray, with the folder of that."""
    (home.ray_temp / "ray").mkdir(parents=True)
    process = subprocess.Popen(["sleep", "60"], env={BOOT: str(home.ray_temp)})
    yield process
    process.kill()
    process.wait()


def test_a_process_of_its_ray_is_ended_and_its_folder_removed(home: Home, ray_process: subprocess.Popen[bytes]) -> None:
    assert processes_of(home) == [ray_process.pid]
    assert end_runtime(home)
    assert ray_process.wait(10) == -9
    assert not home.ray_temp.exists()
    assert not end_runtime(home)


def test_a_process_that_only_names_the_folder_is_left_alone(home: Home) -> None:
    program = "import time; print(1, flush=True); time.sleep(60)"
    reader = subprocess.Popen([sys.executable, "-c", program, str(home.ray_temp)], stdout=subprocess.PIPE)
    try:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"1\n"
        assert processes_of(home) == []
        end_runtime(home)
        assert reader.poll() is None
    finally:
        reader.kill()
        reader.communicate()


def test_the_process_of_a_home_whose_name_begins_with_this_ones_is_left_alone(home: Home) -> None:
    other = subprocess.Popen(["sleep", "60"], env={BOOT: f"{home.ray_temp}1"})
    try:
        assert processes_of(home) == []
    finally:
        other.kill()
        other.wait()


def test_what_ran_before_a_home_was_moved_is_ended_from_the_new_place(
    home: Home, ray_process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    write_last(home, record_of(home))
    home.root.rename(tmp_path / "moved")
    moved = Home(tmp_path / "moved")
    assert processes_of(moved) == []
    assert end_runtime(moved)
    assert ray_process.wait(10) == -9
    assert not home.ray_temp.exists()
    assert read_last(moved) is None


def test_a_copy_of_a_home_does_not_end_what_the_original_runs(
    home: Home, ray_process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    lock = RuntimeLock(home)
    assert lock.acquire()
    write_record(home, record_of(home))
    shutil.copytree(home.root, tmp_path / "copy")
    copy = Home(tmp_path / "copy")
    end_runtime(copy)
    assert ray_process.poll() is None
    assert read_record(home) is not None
    assert not end_runtime(copy)
    lock.release()


def test_the_record_of_a_crash_stays_until_what_it_names_has_ended(home: Home) -> None:
    first = RuntimeLock(home)
    assert first.acquire()
    write_record(home, record_of(home, pid=7))
    assert first._descriptor is not None
    os.close(first._descriptor)  # as its process's death does
    assert read_record(home) is None
    for _ in range(2):  # the second died before it had ended anything
        lock = RuntimeLock(home)
        assert lock.acquire()
        last = read_last(home)
        assert last is not None
        assert last.pid == 7
        lock.release()
    lock = RuntimeLock(home)
    assert lock.acquire()
    end_last_runtime(home)
    assert read_last(home) is None
    lock.release()


def test_a_joined_cluster_that_is_gone_leaves_nothing_to_end(home: Home) -> None:
    write_last(home, record_of(home, has_own_ray=False, address="127.0.0.1:1"))
    (home.run / "cluster-token").write_text("secret")
    assert end_runtime(home)
    assert sorted(each.name for each in home.run.iterdir()) == ["lock"]


def test_an_embedded_runtime_is_not_ended(home: Home) -> None:
    lock = RuntimeLock(home)
    assert lock.acquire()
    write_record(home, record_of(home, kind="embedded"))
    with pytest.raises(RuntimeConflict, match="embedded in process"):
        end_runtime(home)
    assert read_record(home) is not None
    lock.release()


def test_a_home_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    assert not end_runtime(Home(tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_only_names_the_keeper_is_none(home: Home) -> None:
    program = "import time; print(1, flush=True); time.sleep(60)"
    arguments = ["python", "-c", program, "-m", "ray_ext.client.keeper", str(home.root), "{}", "3"]
    other = subprocess.Popen(arguments, executable=sys.executable, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"1\n"
        assert keepers_of(home) == []
    finally:
        other.kill()
        other.communicate()
