"""Environments that cannot be made: refused with the cause and the fix, nothing left behind, and a retry succeeds."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ray_ext.errors import EnvironmentFailed
from ray_ext.packages import environment_build
from ray_ext.packages.environments import EnvironmentCache, Lock, Progress, Sources
from tests.environments.wheels import Files, serve_index, write_sdist, write_wheel


@pytest.fixture
def links(tmp_path: Path) -> Path:
    folder = tmp_path / "links"
    folder.mkdir()
    write_wheel(folder, "alpha", "1.0", {"alpha/__init__.py": b"x = 1\n"})
    return folder


@pytest.fixture
def sources(links: Path) -> Sources:
    return Sources(find_links=(links,), is_offline=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def cache(root: Path) -> EnvironmentCache:
    return EnvironmentCache(root)


def refusal(action: Callable[[], object]) -> EnvironmentFailed:
    with pytest.raises(EnvironmentFailed) as caught:
        action()
    assert caught.value.fix
    assert caught.value.details["cause"]
    return caught.value


def entries(root: Path) -> set[str]:
    """What is in a cache, but for shards, locks and what uv keeps of its downloads."""
    return {path.name for path in root.glob("??/*") if path.suffix != ".lock"} | {
        path.name for path in root.iterdir() if len(path.name) != 2 and path.name not in ("downloads", "downloads.lock")
    }


# ---- requirements


@pytest.mark.parametrize(
    "requirement",
    [
        "alpha @ file:///tmp/alpha.whl", "alpha @ https://example.org/alpha.whl", "-r requirements.txt", "--pre",
        "-e .", "./alpha", "alpha>=1\nbeta", "${HOME}", "alpha==$X", "alpha===../../evil.whl", "git+https://x/y", "",
    ],
)  # fmt: skip
def test_what_is_no_plain_requirement_is_refused_before_uv_runs(
    cache: EnvironmentCache, sources: Sources, root: Path, requirement: str
) -> None:
    error = refusal(lambda: cache.lock(["alpha", requirement], sources))
    assert "these are no requirements" in error.what
    assert not root.exists()


def test_a_name_that_looks_like_a_file_is_a_name(cache: EnvironmentCache, sources: Sources) -> None:
    error = refusal(lambda: cache.lock(["alpha-1.0-py3-none-any.whl"], sources))
    assert "alpha-1-0-py3-none-any-whl was not found" in error.what


def test_a_package_without_a_wheel_is_refused_and_its_setup_never_runs(
    cache: EnvironmentCache, sources: Sources, links: Path, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    write_sdist(links, "delta", "1.0", f"open({str(ran)!r}, 'w')".encode())
    error = refusal(lambda: cache.lock(["delta"], sources))
    assert "delta==1.0 has no usable wheels" in error.what
    assert "only wheels are installed" in error.fix
    assert error.details["requirements"] == ["delta"]
    assert not ran.exists()


def test_versions_that_exclude_each_other_are_named(cache: EnvironmentCache, sources: Sources, links: Path) -> None:
    write_wheel(links, "beta", "1.0", {"beta.py": b""}, requires=["alpha>=2"])
    error = refusal(lambda: cache.lock(["beta"], sources))
    assert "alpha>=2" in error.what
    assert "correct the requirements" in error.fix


@pytest.mark.parametrize("change", [{"python": "cpython-39"}, {"platform": "linux-riscv64"}])
def test_a_lock_of_another_python_is_another_lock_and_refused(
    cache: EnvironmentCache, sources: Sources, change: dict[str, str]
) -> None:
    lock = cache.lock(["alpha"], sources)
    other = msgspec.structs.replace(lock, **change)
    assert other.digest != lock.digest
    assert f"locked for {other.python} on {other.platform}" in refusal(lambda: cache.build(other, sources)).what


# ---- wheels


HOSTILE: list[tuple[Files, bytes | None, str]] = [
    ({"json.py": b""}, None, "its own 'json.py'"),
    ({"asyncio/__init__.py": b""}, None, "its own 'asyncio'"),
    ({"msgspec/__init__.py": b""}, None, "its own 'msgspec'"),
    ({"ray_ext/evil.py": b""}, None, "its own 'ray_ext'"),
    ({"_socket.cpython-311-x86_64-linux-gnu.so": b""}, None, "its own '_socket.cpython"),
    ({"sitecustomize.py": b""}, None, "its own 'sitecustomize.py'"),
    ({"evil-1.0.data/data/usercustomize.py": b""}, None, "its own 'usercustomize.py'"),
    ({".environment.json": b"{}"}, None, "its own '.environment.json'"),
    ({"evil.py": b"x = 1\n"}, b"evil.py,sha256=" + b"A" * 43 + b",6\n", "'evil.py' is not what RECORD says"),
    ({"evil.py": b"x = 1\n"}, b"evil.py,,\n", "'evil.py' is not what RECORD says"),
    ({"evil.py": b"x = 1\n"}, b"other.py,,\n", "is not what RECORD says"),
    ({"evil.py": b"x = 1\n"}, b"evil.py,sha256=x,6\n", "is no RECORD"),
    ({"evil-1.0.data/data/../../evil.py": b""}, None, "names 'evil-1.0.data/data/../../evil.py'"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "record", "said"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_wheel_is_refused_and_nothing_of_it_stays(
    cache: EnvironmentCache, sources: Sources, links: Path, root: Path, files: Files, record: bytes | None, said: str
) -> None:
    write_wheel(links, "evil", "1.0", files, record=record)
    lock = cache.lock(["evil"], sources)
    error = refusal(lambda: cache.build(lock, sources))
    assert said in error.what
    assert error.details["requirements"] == ["evil==1.0"]
    assert cache.find(lock) is None
    assert entries(root) == set()


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "alpha/../../../evil.py"])
def test_a_wheel_cannot_write_outside_its_environment(
    cache: EnvironmentCache, sources: Sources, links: Path, root: Path, name: str
) -> None:
    write_wheel(links, "evil", "1.0", {name: b"", "fine.py": b""})
    lock = cache.lock(["evil"], sources)
    try:
        cache.build(lock, sources)
    except EnvironmentFailed:
        assert entries(root) == set()
    else:
        assert entries(root) == {lock.digest}
    assert not Path("/evil.py").exists()
    assert not [path for path in root.rglob("evil.py") if "downloads" not in path.parts]


def test_a_source_that_stops_the_compiler_stops_no_build(
    cache: EnvironmentCache, sources: Sources, links: Path
) -> None:
    write_wheel(links, "odd", "1.0", {"a.py": b"print 1\n", "b.py": b"-" * 100_000 + b"1\n", "c.py": b""})
    folder = cache.build(cache.lock(["odd"], sources), sources)
    assert {path.name for path in folder.glob("*.py")} == {"a.py", "b.py", "c.py"}
    assert [path.name for path in folder.glob("__pycache__/*")] == ["c.cpython-311.pyc"]


def test_a_compiler_that_takes_too_long_is_stopped_and_reported(
    cache: EnvironmentCache, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment_build, "_COMPILE_S", 0.001)
    lock, seen = cache.lock(["alpha"], sources), list[Progress]()
    folder = cache.build(lock, sources, report=seen.append)
    assert any(step.stage == "compile" and "first imports will be slower" in step.text for step in seen)
    assert cache.find(lock) == folder


def test_a_wheel_that_changed_since_it_was_locked_is_refused(
    cache: EnvironmentCache, sources: Sources, links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uv.toml").write_text("[pip]\nverify-hashes = false\n")
    monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
    lock = cache.lock(["alpha"], sources)
    cache.collect([])
    write_wheel(links, "alpha", "1.0", {"alpha/__init__.py": b"x = 'evil'\n"})
    error = refusal(lambda: cache.build(lock, sources))
    assert "hash mismatch" in error.what.lower()
    assert "resolve the requirements again" in error.fix


# ---- sources


def test_an_unreachable_index_fails_within_seconds_with_the_cause_and_the_fix(cache: EnvironmentCache) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        began = time.monotonic()
        error = refusal(lambda: cache.lock(["alpha"], Sources(index_url=f"http://127.0.0.1:{port}/simple")))
    assert time.monotonic() - began < 10
    assert "Connection refused" in error.what
    assert "--find-links" in error.fix


def test_an_index_that_never_answers_fails_within_the_operators_own_patience(
    cache: EnvironmentCache, links: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    is_over = threading.Event()
    with serve_index(links, before=lambda path: is_over.wait(30)) as host:
        error = refusal(lambda: cache.lock(["alpha"], Sources(index_url=f"http://{host}/simple")))
        is_over.set()
    assert "timed out" in error.what
    assert "--find-links" in error.fix


def test_uv_is_ended_when_it_takes_too_long(
    cache: EnvironmentCache, links: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment_build, "_UV_S", 0.2)
    is_over = threading.Event()
    with serve_index(links, before=lambda path: is_over.wait(30)) as host:
        error = refusal(lambda: cache.lock(["alpha"], Sources(index_url=f"http://{host}/simple")))
        is_over.set()
    assert "uv was ended by SIGKILL" in error.what


def test_an_index_that_wants_credentials_says_so(cache: EnvironmentCache, links: Path) -> None:
    with serve_index(links, credentials="user:secret") as host:
        error = refusal(lambda: cache.lock(["alpha"], Sources(index_url=f"http://{host}/simple")))
    assert "401" in error.what
    assert "${NAME}" in error.fix


def test_offline_nothing_but_the_given_folders_is_asked(cache: EnvironmentCache, sources: Sources) -> None:
    error = refusal(lambda: cache.lock(["beta"], sources))
    assert "the network was disabled" in error.what
    assert "--find-links" in error.fix


def test_a_folder_of_wheels_that_is_not_there_is_named(cache: EnvironmentCache, tmp_path: Path) -> None:
    error = refusal(lambda: cache.lock(["alpha"], Sources(find_links=(tmp_path / "nowhere",))))
    assert f"{tmp_path / 'nowhere'} is no folder" in error.what


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@example.org/simple", "https://hunter2@example.org/simple",
        "https://user:${X}hunter2@example.org/simple", "https://user:a/hunter2@example.org/simple",
        "https://example.org/simple?token=hunter2", "https://user:hunter2@[x/simple", "ftp://hunter2@example.org",
    ],
)  # fmt: skip
def test_credentials_as_text_are_refused_and_not_repeated(url: str) -> None:
    error = refusal(lambda: Sources(index_url=url))
    assert "hunter2" not in f"{error}{error.details}"


@pytest.mark.parametrize(
    "url", ["example.org/simple", "file:///tmp", "https:///simple", "https://x/ y", "https://x/\n", "https://x:y/"]
)
def test_an_index_url_is_http_with_a_host(url: str) -> None:
    assert "https://index.example.org/simple" in refusal(lambda: Sources(index_url=url)).fix


def test_a_token_in_the_path_of_an_index_url_shows_in_no_error(
    cache: EnvironmentCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INDEX_TOKEN", "hunter/2")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        here = Sources(index_url=f"http://127.0.0.1:{closed.getsockname()[1]}/${{INDEX_TOKEN}}/simple")
        error = refusal(lambda: cache.lock(["alpha"], here))
    assert "/****/simple/alpha" in error.what
    assert "hunter" not in f"{error}{error.details}"


def test_text_is_shown_without_any_credentials_that_uv_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDEX_PASSWORD", "p@ss")
    monkeypatch.setenv("UV_INDEX_INTERNAL_PASSWORD", "hunter2")
    here = Sources(index_url="https://user:${INDEX_PASSWORD}@example.org/simple")
    said = "p@ss or p%40ss or hunter2 at https://user:other@example.org/simple, not at https://example.org/"
    assert here.redacted(said) == "**** or **** or **** at https://****@example.org/simple, not at https://example.org/"


def test_a_variable_of_the_index_url_that_is_not_set_is_named(cache: EnvironmentCache) -> None:
    here = Sources(index_url="https://user:${NO_SUCH_VARIABLE}@example.org/simple")
    error = refusal(lambda: cache.lock(["alpha"], here))
    assert "NO_SUCH_VARIABLE" in error.what


# ---- interruptions

VICTIM = """
import os, resource, signal, sys, msgspec
from pathlib import Path
from ray_ext.packages import environment_build
from ray_ext.packages.environments import EnvironmentCache, Lock, Sources
root, source, lock, when, count, limit = sys.argv[1:]
left = int(count)

def count_down(event):
    global left
    if event == when:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

if source.startswith("http"):
    sources = Sources(index_url=source)
else:
    sources = Sources(find_links=(Path(source),), is_offline=True)
cache = EnvironmentCache(Path(root))
lock = msgspec.json.decode(lock, type=Lock)
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
sys.addaudithook(lambda event, args: count_down(event))
try:
    if when == "resolve":
        cache.lock(["alpha"], sources, report=lambda step: count_down(step.stage))
    cache.build(lock, sources, report=lambda step: count_down(step.stage))
except Exception as error:
    print(type(error).__name__, error)
"""


def start_victim(
    root: Path, source: str, lock: Lock, *, when: str = "never", count: int = 1, limit_bytes: int = 0
) -> subprocess.Popen[str]:
    """A process that builds, and kills itself when it has come to a stage or an audit event for the nth time."""
    arguments = [str(root), source, msgspec.json.encode(lock).decode(), when, str(count), str(limit_bytes)]
    return subprocess.Popen([sys.executable, "-c", VICTIM, *arguments], stdout=subprocess.PIPE, text=True)


MOMENTS = [
    ("resolve", 1),
    ("download", 1),
    ("install", 1),
    ("compile", 1),
    ("verify", 1),
    ("os.mkdir", 1),
    ("subprocess.Popen", 1),  # before uv
    ("subprocess.Popen", 2),  # before the compiler
    ("os.chmod", 2),  # while it is sealed
    ("os.rename", 1),  # before the damaged one goes aside
    ("os.rename", 2),  # before the new one takes its place
    ("done", 1),
]


@pytest.mark.parametrize(("when", "count"), MOMENTS)
def test_a_build_that_is_killed_leaves_nothing_that_a_retry_stumbles_over(
    cache: EnvironmentCache, sources: Sources, links: Path, root: Path, when: str, count: int
) -> None:
    lock = cache.lock(["alpha"], sources)
    folder = cache.build(lock, sources)
    (folder / "alpha" / "__init__.py").chmod(0o600)
    (folder / "alpha" / "__init__.py").write_text("x = 'damaged'\n")
    with start_victim(root, str(links), lock, when=when, count=count) as victim:
        victim.communicate(timeout=60)
    assert victim.returncode == -signal.SIGKILL
    assert (cache.find(lock) == folder) == (when == "done")
    left = {name for name in entries(root) if name != lock.digest}
    still_there: list[str] = []
    assert cache.build(lock, sources, report=lambda step: still_there.extend(left & entries(root))) == folder
    assert still_there == []
    assert (folder / "alpha" / "__init__.py").read_bytes() == b"x = 1\n"
    assert entries(root) == {lock.digest}


def test_a_build_that_is_killed_while_uv_downloads_keeps_its_lock_until_uv_has_ended(
    cache: EnvironmentCache, links: Path, root: Path
) -> None:
    is_killed, may_go_on = threading.Event(), threading.Event()
    victims: list[subprocess.Popen[str]] = []

    def kill(path: str) -> None:
        if path.startswith("/files/") and victims and not is_killed.is_set():
            victims[0].kill()
            victims[0].wait()
            is_killed.set()
            may_go_on.wait(30)

    with serve_index(links, before=kill) as host:
        here = Sources(index_url=f"http://{host}/simple")
        lock = cache.lock(["alpha"], here)
        cache.collect([])
        with start_victim(root, f"http://{host}/simple", lock) as victim:
            victims.append(victim)
            assert is_killed.wait(30)
            [lock_file] = root.glob(f"??/{lock.digest}.lock")
            with lock_file.open() as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            may_go_on.set()
            folder = cache.build(lock, here)
    assert victim.returncode == -signal.SIGKILL
    assert cache.find(lock) == folder
    assert entries(root) == {lock.digest}


def test_what_the_report_raises_ends_the_build_and_uv(
    cache: EnvironmentCache, links: Path, sources: Sources, root: Path
) -> None:
    class Enough(Exception):
        pass

    def stop(step: Progress) -> None:
        if step.text.startswith("Downloading big"):
            raise Enough

    is_over = threading.Event()
    write_wheel(links, "big", "1.0", {"big.bin": os.urandom(3 * 2**20)})
    lock = cache.lock(["big"], sources)
    cache.collect([])
    with serve_index(links, amid=lambda path: path.startswith("/files/") and is_over.wait(30)) as host:
        began = time.monotonic()
        with pytest.raises(Enough):
            cache.build(lock, Sources(index_url=f"http://{host}/simple"), report=stop)
        assert time.monotonic() - began < 10
        is_over.set()
    assert entries(root) == set()
    assert cache.build(lock, sources) == cache.find(lock)


@pytest.mark.parametrize("size_bytes", [100_000, 10])
def test_a_full_disk_fails_the_build_and_leaves_nothing(
    cache: EnvironmentCache, links: Path, sources: Sources, root: Path, size_bytes: int
) -> None:
    # The large file is too much for uv. The many small ones fit, and so does their wheel, but not their index.
    files = {f"big/m{number}.py": b"#" * size_bytes for number in range(300 if size_bytes == 10 else 1)}
    write_wheel(links, "big", "1.0", files)
    lock = cache.lock(["big"], sources)
    cache.collect([])
    with start_victim(root, str(links), lock, limit_bytes=56_000) as victim:
        output, _ = victim.communicate(timeout=60)
    assert victim.returncode == 0
    assert output.startswith("EnvironmentFailed the packages big==1.0 cannot be installed: ")
    assert "free space where environments are kept" in output
    assert entries(root) == set()
    assert cache.build(lock, sources) == cache.find(lock)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, sources: Sources) -> None:
    (tmp_path / "file").write_text("")
    error = refusal(lambda: EnvironmentCache(tmp_path / "file" / "root").lock(["alpha"], sources))
    assert str(tmp_path / "file") in error.what
    assert "can be written" in error.fix


def test_uv_is_not_run_in_the_callers_folder(
    cache: EnvironmentCache, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uv.toml").write_text("this is no configuration")
    monkeypatch.chdir(tmp_path)
    assert cache.lock(["alpha"], sources).packages == ("alpha==1.0",)
    assert os.listdir(cache.build(cache.lock(["alpha"], sources), sources))
