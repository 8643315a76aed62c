"""``ray-ext doctor``: break something, see the check turn red with the fix, run the fix as it stands, see it green."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ray_ext.cli.checking import checks
from ray_ext.client.leftovers import BOOT, processes_of
from ray_ext.packages.environment_check import seal
from ray_ext.packages.requirement_sets import Lock
from ray_ext.store.store import Store
from tests.cli.command_line import Cli, await_true

_IS_ROOT = os.geteuid() == 0
_DASHBOARD_PORT = 8265


@pytest.fixture
def sick(tmp_path: Path) -> Iterator[Cli]:
    """A state home as a runtime leaves it, with a store, and none that is up."""
    sick = Cli(tmp_path / "home of mine")
    sick.environment["PATH"] = f"{Path(sys.executable).parent}:{sick.environment['PATH']}"
    sick.home.ensure()
    store = Store(sick.home.store_url)
    store.close()
    (sick.home.logs / "system").mkdir(mode=0o700)
    yield sick
    shutil.rmtree(sick.home.ray_temp, ignore_errors=True)


def examined(cli: Cli, check: str) -> dict[str, Any]:
    """What a check finds, and that the exit status says it."""
    done = cli.run("doctor", check, "--json")
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert (document["shape"], document["kind"]) == (1, "doctor")
    (found,) = document["data"]["checks"]
    assert list(found) == ["id", "title", "status", "evidence", "fix"]
    assert done.returncode == (1 if found["status"] == "fail" else 0)
    return dict(found)


def mend(cli: Cli, found: dict[str, Any]) -> None:
    """Paste the fix into a shell."""
    done = subprocess.run(
        ["bash", "-c", found["fix"]], env=cli.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_check_imports_ray(sick: Cli) -> None:
    program = (
        "import sys\n"
        "from ray_ext.cli.checking import Patient, checks, run\n"
        "from ray_ext.home import Home\n"
        "print(len(list(run(Patient(Home.default()), checks()))), 'ray' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=sick.environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == f"{len(checks())} False\n"


def test_it_looks_at_everything(sick: Cli) -> None:
    done = sick.run("doctor", "--json")
    assert done.stderr == ""
    data = json.loads(done.stdout)["data"]
    assert sorted(each["id"] for each in data["checks"]) == sorted(each.id for each in checks())
    found = {each["id"]: each["status"] for each in data["checks"]}
    assert (found["home-rights"], found["store"], found["python-version"], found["disk-home"]) == ("ok",) * 4
    assert (found["system-actors"], found["environments"]) == ("skip", "skip")
    assert data["counts"] == {status: list(found.values()).count(status) for status in ("fail", "warn", "ok", "skip")}


def test_it_changes_nothing(tmp_path: Path) -> None:
    healthy = Cli(tmp_path / "home")
    done = healthy.run("doctor")
    assert "home-rights" in done.stdout
    assert not healthy.home.root.exists()


def test_the_worst_comes_first_and_its_fix_stands_on_a_line_of_its_own(sick: Cli) -> None:
    sick.home.run.chmod(0o755)
    done = sick.run("doctor")
    assert done.returncode == 1
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["check", "status", "evidence"]
    assert rows[1][:2] == ["home-rights", "fail"]
    assert f"    chmod 0700 '{sick.home.run}'" in done.stdout.splitlines()
    assert "1 fail" in done.stderr


def test_every_wrong_right_in_the_state_home_is_named_and_mended(sick: Cli) -> None:
    home = sick.home
    assert examined(sick, "home-rights")["status"] == "ok"
    secrets = [home.run / "ray-token", home.run / "control-token", home.logs / "system" / "keeper.log"]
    for path in secrets:
        path.write_text("s3cret")
        path.chmod(0o600)
    with socket.socket(socket.AF_UNIX) as control:
        place = os.open(home.run, os.O_PATH)
        control.bind(f"/proc/self/fd/{place}/control.sock")
        os.close(place)
        home.ray_temp.mkdir()
        wrong = {
            home.ray_temp: 0o755,
            home.root: 0o755,
            home.run: 0o711,
            home.packages: 0o750,
            home.logs: 0o500,
            home.run / "control.sock": 0o666,
            home.root / "store.db": 0o640,
            **dict.fromkeys(secrets, 0o604),
        }
        for path, mode in wrong.items():
            path.chmod(mode)
        found = examined(sick, "home-rights")
        assert found["status"] == "fail"
        for path in wrong:
            assert str(path) in found["fix"], path
        mend(sick, found)
        assert examined(sick, "home-rights")["status"] == "ok"
        assert {stat.S_IMODE(path.stat().st_mode) for path in wrong} == {0o700, 0o600}


@pytest.mark.skipif(not _IS_ROOT, reason="only root can give a file away")
def test_what_belongs_to_another_user_is_named_and_mended(sick: Cli) -> None:
    stranger = sick.home.run / "ray-token"
    stranger.write_text("s3cret")
    stranger.chmod(0o600)
    os.chown(stranger, 12345, -1)
    found = examined(sick, "home-rights")
    assert found["status"] == "fail"
    assert f"{stranger} belongs to 12345" in found["evidence"]
    mend(sick, found)
    assert examined(sick, "home-rights")["status"] == "ok"


def _can_recover(folder: Path) -> bool:
    """Whether SQLite's command line is here, and was built with what ``.recover`` takes: Debian 12's was not."""
    if shutil.which("sqlite3") is None:
        return False
    with closing(sqlite3.connect(folder / "trial.db")) as connection:
        connection.execute("CREATE TABLE trial (a)")
    done = subprocess.run(
        ["sqlite3", str(folder / "trial.db"), ".recover"], capture_output=True, text=True, check=False
    )
    return "CREATE TABLE trial" in done.stdout and not done.stderr


def test_a_damaged_store_is_found_and_its_fix_recovers_it_or_leaves_it_alone(sick: Cli, tmp_path: Path) -> None:
    path = sick.home.root / "store.db"
    assert examined(sick, "store")["status"] == "ok"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("CREATE TABLE ballast (text)")
        connection.executemany("INSERT INTO ballast VALUES (?)", [("x" * 3000,)] * 200)
        connection.commit()
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with path.open("r+b") as file:
        file.seek(size * 120)
        file.write(os.urandom(size * 4))
    damaged = path.read_bytes()
    found = examined(sick, "store")
    assert found["status"] == "fail"
    assert f"{path} is damaged" in found["evidence"]
    if _can_recover(tmp_path):
        mend(sick, found)
        assert examined(sick, "store")["status"] == "ok"
        assert path.with_name("store.db.damaged").read_bytes() == damaged
    else:
        with pytest.raises(AssertionError):
            mend(sick, found)
        assert path.read_bytes() == damaged
    assert examined(sick, "home-rights")["status"] == "ok"


def test_a_store_that_can_be_read_and_is_not_consistent_is_found(sick: Cli) -> None:
    path = sick.home.root / "store.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    with path.open("r+b") as file:
        # The number of free pages, <https://sqlite.org/fileformat.html>, 1.3: there are none.
        file.seek(36)
        file.write((5).to_bytes(4, "big"))
    found = examined(sick, "store")
    assert (found["status"], "is damaged: *** in database main" in found["evidence"]) == ("fail", True)
    assert found["evidence"].isprintable()


def test_a_file_that_is_no_database_or_not_ours_is_found(sick: Cli) -> None:
    path = sick.home.root / "store.db"
    path.write_bytes(b"nonsense" * 1000)
    assert "is damaged" in examined(sick, "store")["evidence"]
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (a)")
    found = examined(sick, "store")
    assert "not a store of ours" in found["evidence"]
    mend(sick, found)
    assert examined(sick, "store")["status"] == "skip"


def test_the_store_of_a_newer_version_is_found(sick: Cli) -> None:
    with closing(sqlite3.connect(sick.home.root / "store.db")) as connection:
        connection.execute("UPDATE runtime SET schema_version = 999")
        connection.commit()
    found = examined(sick, "store")
    assert (found["status"], "schema 999" in found["evidence"]) == ("fail", True)


def test_an_altered_environment_is_found_and_removed(sick: Cli) -> None:
    lock = Lock(requirements="", python="cpython-311", platform="linux-x86_64")
    folder = sick.home.environments / lock.digest[:2] / lock.digest
    folder.mkdir(parents=True)
    sick.home.environments.chmod(0o700)
    (folder / "module.py").write_text("word = 'hello'\n")
    seal(folder, lock, {"module.py": (15, "5" * 64)})
    assert examined(sick, "environments")["status"] == "fail"  # not the bytes that the index names
    found = examined(sick, "environments")
    assert lock.digest[:12] in found["evidence"]
    mend(sick, found)
    assert not folder.exists()
    assert examined(sick, "environments")["status"] == "skip"

    folder.mkdir(parents=True)
    seal(folder, lock, {})
    assert examined(sick, "environments")["status"] == "ok"
    other = folder.with_name("0" * 64)
    folder.rename(other)
    assert "0" * 12 in examined(sick, "environments")["evidence"]
    other.chmod(0o700)


def test_processes_and_files_that_a_crash_left_are_found_and_ended(sick: Cli) -> None:
    assert examined(sick, "leftovers")["status"] == "ok"
    sick.home.ray_temp.mkdir()
    left = subprocess.Popen(["sleep", "600"], env=sick.environment | {BOOT: str(sick.home.ray_temp)})
    try:
        await_true(lambda: processes_of(sick.home))
        found = examined(sick, "leftovers")
        assert found["status"] == "warn"
        assert str(left.pid) in found["evidence"]
        assert str(sick.home.ray_temp) in found["evidence"]
        mend(sick, found)
        assert left.wait(timeout=30) != 0
        assert examined(sick, "leftovers")["status"] == "ok"
    finally:
        left.kill()
        left.wait()


def test_a_port_that_another_program_has_is_found(sick: Cli) -> None:
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", _DASHBOARD_PORT))
            taken.listen()
        except OSError:
            pass  # somebody else has it: that is as good
        found = examined(sick, "ports")
    assert (found["status"], f"127.0.0.1:{_DASHBOARD_PORT} is taken" in found["evidence"]) == ("warn", True)


def test_a_clock_that_was_set_back_is_seen_by_what_the_store_was_written_with(sick: Cli) -> None:
    assert examined(sick, "clock")["status"] in ("ok", "warn", "skip")
    later = time.time() + 86_400
    os.utime(sick.home.root / "store.db", (later, later))
    found = examined(sick, "clock")
    assert (found["status"], "set back" in found["evidence"]) == ("fail", True)


def test_too_few_open_files_are_found(sick: Cli) -> None:
    command = ["bash", "-c", 'ulimit -Sn 200; exec "$@"', "bash", *sick.command("doctor", "open-files", "--json")]
    done = subprocess.run(command, env=sick.environment, capture_output=True, text=True, timeout=60, check=True)
    (found,) = json.loads(done.stdout)["data"]["checks"]
    assert (found["status"], found["evidence"]) == ("warn", "only 200 may be open in one process")
    assert found["fix"].startswith("ulimit -n ")


def test_a_temporary_folder_too_deep_for_rays_sockets_is_found(sick: Cli, tmp_path: Path) -> None:
    assert examined(sick, "path-lengths")["status"] == "ok"
    deep = tmp_path / ("d" * 60)
    deep.mkdir()
    sick.environment["TMPDIR"] = str(deep)
    found = examined(sick, "path-lengths")
    assert found["status"] == "fail"
    done = subprocess.run(
        ["bash", "-c", f'{found["fix"]}; exec "$@"', "bash", *sick.command("doctor", "path-lengths")],
        env=sick.environment,
        timeout=60,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0


@pytest.mark.skipif(not _IS_ROOT, reason="only root can become another user")
def test_the_state_home_of_another_user_is_refused_with_its_owner(sick: Cli) -> None:
    # Imported first: the interpreter may lie where that user cannot read.
    program = (
        "import os\n"
        "from pathlib import Path\n"
        "from ray_ext.cli.checking import Patient, checks, run\n"
        "from ray_ext.home import Home\n"
        "chosen = [each for each in checks() if each.id == 'home-rights']\n"
        "os.setgid(12345)\n"
        "os.setuid(12345)\n"
        "(found,) = run(Patient(Home(Path(os.environ['RAY_EXT_HOME']))), chosen)\n"
        "print(found.status, found.evidence, found.fix, sep='\\n')\n"
    )
    # Folders of pytest's are root's alone; this one anybody may enter.
    place = Path(tempfile.mkdtemp(prefix="rx-"))
    place.chmod(0o755)
    home = sick.home.root.rename(place / "home")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=sick.environment | {"RAY_EXT_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    shutil.rmtree(place)
    assert done.stderr == ""
    status, evidence, fix = done.stdout.splitlines()
    assert (status, evidence) == ("fail", f"{home} belongs to 0, and you are 12345")
    assert fix.startswith(f"sudo chown -R 12345 {home}")


def test_a_control_api_that_was_asked_for_and_does_not_answer_is_found(sick: Cli, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret")
    sick.environment |= {"RAY_EXT_CONTROL": "http://127.0.0.1:9", "RAY_EXT_TOKEN_FILE": str(token)}
    found = examined(sick, "system-actors")
    assert found["status"] == "fail"
    assert "127.0.0.1:9" in found["evidence"]
    del sick.environment["RAY_EXT_CONTROL"]
    assert examined(sick, "system-actors")["status"] == "skip"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if not _IS_ROOT:
        pytest.skip("only root can mount a file system")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_found_by_writing_to_it(small_disk: Path) -> None:
    cli = Cli(small_disk / "home")
    assert "writing fails" not in examined(cli, "disk-home")["evidence"]
    with (small_disk / "ballast").open("wb", buffering=0) as file:
        # The first write is cut short where the disk ends.
        file.write(bytes(2**21))
        with pytest.raises(OSError, match="No space left"):
            file.write(b"x")
    found = examined(cli, "disk-home")
    assert found["status"] == "fail"
    assert "writing fails: No space left on device" in found["evidence"]
    assert str(small_disk) in found["fix"]


def test_a_state_home_in_memory_is_found(small_disk: Path) -> None:
    found = examined(Cli(small_disk / "home"), "home-file-system")
    assert (found["status"], f"tmpfs, mounted at {small_disk}" in found["evidence"]) == ("warn", True)


def test_a_check_that_does_not_exist_is_wrong_usage(sick: Cli) -> None:
    assert "there is no check weather; there are python-version," in sick.refused(2, "doctor", "weather")


def test_of_a_runtime_that_is_up_every_system_actor_answers(cli: Cli) -> None:
    await_true(lambda: examined(cli, "system-actors")["status"] == "ok")  # a spare host may still be starting
    for check in ("home-rights", "ports", "store", "system-actors"):
        found = examined(cli, check)
        assert found["status"] == "ok", found
    actors = examined(cli, "system-actors")["evidence"]
    for name in ("registry", "control", "keeper", "node"):
        assert name in actors
    assert examined(cli, "leftovers")["status"] == "skip"


@pytest.mark.parametrize("name", ["registry", "control"])
def test_a_system_actor_that_hangs_is_named(cli: Cli, name: str) -> None:
    pid = next(each["pid"] for each in cli.data("status", "status")["actors"] if each["name"] == name)
    os.kill(pid, signal.SIGSTOP)
    try:
        found = examined(cli, "system-actors")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (found["status"], found["fix"]) == ("fail", "ray-ext down && ray-ext up")
    assert ("away: registry" if name == "registry" else "no answer within") in found["evidence"]
    await_true(lambda: examined(cli, "system-actors")["status"] == "ok")
