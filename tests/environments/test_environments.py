"""Environments: one folder for each lock, built once, read-only, verified at each use, and free of secrets."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ray_ext.errors import EnvironmentFailed
from ray_ext.packages.environments import Collected, EnvironmentCache, Lock, Progress, Sources
from tests.environments.wheels import serve_index, write_wheel

BASE = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
PASSWORD = "p@ss/word:100%"


@pytest.fixture(scope="module")
def links(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("links")
    for version in ("1.0", "2.0"):
        write_wheel(folder, "alpha", version, {"alpha/__init__.py": f'VERSION = "{version}"\n'.encode()})
    write_wheel(folder, "beta", "1.0", {"beta.py": b"from alpha import VERSION\n"}, requires=["alpha>=1"])
    return folder


@pytest.fixture
def sources(links: Path) -> Sources:
    return Sources(find_links=(links,), is_offline=True)


@pytest.fixture
def cache(tmp_path: Path) -> EnvironmentCache:
    return EnvironmentCache(tmp_path / "root")


@pytest.fixture
def lock(cache: EnvironmentCache, sources: Sources) -> Lock:
    return cache.lock(["beta"], sources)


def in_guest(folder: Path, code: str) -> str:
    """What a program prints whose path ends with an environment, as a guest's does."""
    program = f"import sys; sys.path.append({str(folder)!r}); {code}"
    return subprocess.run([BASE, "-I", "-S", "-B", "-c", program], capture_output=True, text=True, check=True).stdout


def children() -> list[str]:
    """The processes that this one has started and that still run."""
    return [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- locks


def test_a_lock_names_versions_and_hashes_of_everything_needed_and_no_source(lock: Lock, links: Path) -> None:
    assert lock.packages == ("alpha==2.0", "beta==1.0")
    assert [line.count(" --hash=sha256:") for line in lock.requirements.splitlines()] == [1, 1]
    assert str(links) not in lock.requirements
    assert (lock.python, lock.platform) == ("cpython-311", f"linux-{os.uname().machine}")


def test_the_order_and_spelling_of_requirements_do_not_change_the_lock(
    cache: EnvironmentCache, sources: Sources
) -> None:
    one = cache.lock(["beta", "alpha <3, >=1"], sources)
    other = cache.lock(["Alpha>=1,<3", "BETA", "beta"], sources)
    assert one == other
    assert one.digest == other.digest
    assert cache.lock(["beta", "alpha<2"], sources).digest != one.digest


def test_requirements_for_another_python_are_left_out(cache: EnvironmentCache, sources: Sources) -> None:
    assert cache.lock(['alpha; python_version < "3"', "alpha<2"], sources).packages == ("alpha==1.0",)


def test_a_lock_survives_json_and_keeps_its_digest(lock: Lock) -> None:
    again = msgspec.json.decode(msgspec.json.encode(lock), type=Lock)
    assert again == lock
    assert again.digest == lock.digest


HASH = f"--hash=sha256:{'0' * 64}"


@pytest.mark.parametrize(
    "text",
    [
        "alpha==1.0\n", f"alpha {HASH}\n", f"alpha==1.0 {HASH}", f"-r x {HASH}\n", f"--index-url=http://x {HASH}\n",
        f"alpha @ file:///x {HASH}\n", f"alpha==1.0 {HASH} --no-deps\n", f"alpha==1.0 {HASH}\n-e .\n",
        f"beta==1 {HASH}\nalpha==1 {HASH}\n", f"alpha==1 {HASH}\nalpha==2 {HASH}\n", f"alpha==1.0 {HASH[:-1]}\n",
        f"alpha==${{X}} {HASH}\n", f"alpha==1.0 {HASH}\n\n", f"alpha==1.0 {HASH}\r\n",
    ],
)  # fmt: skip
def test_a_lock_holds_nothing_but_pinned_packages_with_hashes(text: str) -> None:
    stored = msgspec.json.encode({"requirements": text, "python": "cpython-311", "platform": "linux"})
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(stored, type=Lock)


# ---- builds


def test_what_is_built_can_be_imported_with_its_dependencies(
    cache: EnvironmentCache, lock: Lock, sources: Sources
) -> None:
    folder = cache.build(lock, sources)
    assert (folder.parent.name, folder.name) == (lock.digest[:2], lock.digest)
    code = "import beta, importlib.metadata as m; print(beta.VERSION, m.version('alpha'), beta.__cached__)"
    version, recorded, cached = in_guest(folder, code).split()
    assert version == recorded == "2.0"
    assert Path(cached).read_bytes()[4:8] == b"\1\0\0\0"  # PEP 552: by hash, and not checked against the source


def test_what_is_built_is_read_only_and_shares_no_file_with_the_downloads(
    cache: EnvironmentCache, lock: Lock, sources: Sources
) -> None:
    folder = cache.build(lock, sources)
    for path in [folder, *folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o555 if path.is_dir() else 0o444)
        assert path.is_dir() or path.stat().st_nlink == 1


def test_scripts_pth_files_and_foreign_bytecode_are_left_out(cache: EnvironmentCache, tmp_path: Path) -> None:
    files = {
        "gamma.py": b"x = 1\n",
        "gamma.pth": b"import os\n",
        "gamma_data/weights.pth": b"numbers",
        "__pycache__/gamma.cpython-311.pyc": b"evil",
        "old/__pycache__/only.cpython-310.pyc": b"old",
        "gamma-1.0.data/scripts/gamma": b"#!python\nprint(1)\n",
    }
    write_wheel(tmp_path, "gamma", "1.0", files)
    here = Sources(find_links=(tmp_path,), is_offline=True)
    folder = cache.build(cache.lock(["gamma"], here), here)
    assert {path.name for path in folder.iterdir()} == {
        "gamma.py", "gamma_data", "gamma-1.0.dist-info", "__pycache__", ".environment.json",
    }  # fmt: skip
    assert (folder / "gamma_data" / "weights.pth").read_bytes() == b"numbers"
    assert in_guest(folder, "import gamma; print(gamma.x)") == "1\n"


def test_two_versions_of_a_package_live_side_by_side(cache: EnvironmentCache, sources: Sources) -> None:
    folders = [cache.build(cache.lock([f"alpha=={version}"], sources), sources) for version in ("1.0", "2.0")]
    assert [in_guest(folder, "import alpha; print(alpha.VERSION)") for folder in folders] == ["1.0\n", "2.0\n"]


def test_an_empty_set_is_an_empty_environment(cache: EnvironmentCache, sources: Sources) -> None:
    lock = cache.lock([], sources)
    assert list(content_of(cache.build(lock, sources))) == [".environment.json"]


def test_a_build_reports_its_stages_in_order_and_what_is_there_is_not_built_again(
    cache: EnvironmentCache, sources: Sources
) -> None:
    seen: list[Progress] = []
    lock = cache.lock(["beta"], sources, report=seen.append)
    assert cache.find(lock) is None
    folder = cache.build(lock, sources, report=seen.append)
    assert list(dict.fromkeys(step.stage for step in seen)) == [
        "resolve", "download", "install", "compile", "verify", "done",
    ]  # fmt: skip
    assert any("+ beta==1.0" in step.text for step in seen)
    assert cache.find(lock) == folder
    seen.clear()
    assert cache.build(lock, Sources(is_offline=True), report=seen.append) == folder
    assert [step.stage for step in seen] == ["done"]


def test_files_that_two_packages_share_may_come_from_either(cache: EnvironmentCache, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_wheel(tmp_path, name, "1.0", {f"{name}.py": b"", "shared/__init__.py": f"# {name}\n".encode()})
    here = Sources(find_links=(tmp_path,), is_offline=True)
    folder = cache.build(cache.lock(["one", "two"], here), here)
    assert (folder / "shared" / "__init__.py").read_bytes() in (b"# one\n", b"# two\n")


RACER = """
import sys, msgspec
from pathlib import Path
from ray_ext.packages.environments import EnvironmentCache, Lock, Sources
root, links, lock = sys.argv[1:]
sources = Sources(find_links=(Path(links),), is_offline=True)
print("ready", flush=True)
sys.stdin.readline()
cache = EnvironmentCache(Path(root))
cache.build(msgspec.json.decode(lock, type=Lock), sources, report=lambda step: print(step.stage, flush=True))
"""


def test_of_processes_that_race_one_builds_and_the_others_find_it(
    cache: EnvironmentCache, lock: Lock, links: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", RACER, str(tmp_path / "root"), str(links), msgspec.json.encode(lock).decode()]
    pipe = subprocess.PIPE
    racers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(3)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    stages = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    for racer in racers:
        output, errors = racer.communicate(timeout=60)
        assert racer.returncode == 0, errors
        stages += output.split()
    assert stages.count("done") == 3
    assert stages.count("verify") == 1
    assert cache.find(lock) is not None


# ---- damage


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    path.chmod(0o444)


def flip_source(folder: Path) -> None:
    flip(folder / "beta.py")


def flip_bytecode(folder: Path) -> None:
    flip(next((folder / "__pycache__").iterdir()))


def flip_index(folder: Path) -> None:
    flip(folder / ".environment.json")


def delete_file(folder: Path) -> None:
    (folder / "beta.py").unlink()


def delete_index(folder: Path) -> None:
    (folder / ".environment.json").unlink()


def add_file(folder: Path) -> None:
    (folder / "alpha" / "extra.py").write_text("")


def add_folder(folder: Path) -> None:
    (folder / "gamma").mkdir()


def link_file(folder: Path) -> None:
    copy = folder.parents[2] / "copy.py"
    shutil.copy(folder / "beta.py", copy)
    (folder / "beta.py").unlink()
    (folder / "beta.py").symlink_to(copy)


def link_folder(folder: Path) -> None:
    copy = folder.parents[2] / "copy"
    (folder / "alpha").rename(copy)
    (folder / "alpha").symlink_to(copy)


def replace_by_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


DAMAGES = [
    flip_source, flip_bytecode, flip_index, delete_file, delete_index, add_file, add_folder, link_file, link_folder,
    shutil.rmtree, replace_by_file,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_altered_environment_is_not_found_and_is_rebuilt(
    cache: EnvironmentCache, lock: Lock, sources: Sources, damage: Callable[[Path], None]
) -> None:
    folder = cache.build(lock, sources)
    expected = content_of(folder)
    for path in (folder, folder / "alpha"):
        path.chmod(0o700)
    damage(folder)
    assert cache.find(lock) is None
    assert cache.build(lock, sources) == folder
    assert cache.find(lock) == folder
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert content_of(folder).keys() == expected.keys()
    assert {path.name for path in folder.parent.iterdir()} == {lock.digest, f"{lock.digest}.lock"}


def test_damaged_downloads_are_fetched_again(
    cache: EnvironmentCache, lock: Lock, sources: Sources, tmp_path: Path
) -> None:
    shutil.rmtree(cache.build(lock, sources))
    for path in (tmp_path / "root" / "downloads").rglob("beta.py"):
        path.write_text("VERSION = 'evil'\n")
    folder = cache.build(lock, sources)
    assert (folder / "beta.py").read_bytes() == b"from alpha import VERSION\n"


# ---- what is there, and what goes


def test_the_list_names_environments_with_their_packages_and_sizes(
    cache: EnvironmentCache, lock: Lock, sources: Sources
) -> None:
    folder = cache.build(lock, sources)
    [facts] = cache.list()
    assert (facts.digest, facts.path, facts.packages) == (lock.digest, folder, lock.packages)
    assert facts.size_bytes == sum(map(len, content_of(folder).values()))
    flip_index(folder)
    (folder / ".environment.json").chmod(0o600)
    (folder / ".environment.json").write_text("[")
    assert [facts.packages for facts in cache.list()] == [()]


def test_collecting_removes_what_is_not_kept_and_the_downloads(
    cache: EnvironmentCache, sources: Sources, tmp_path: Path
) -> None:
    kept, other = (cache.lock([f"alpha=={version}"], sources) for version in ("1.0", "2.0"))
    kept_folder, other_folder = cache.build(kept, sources), cache.build(other, sources)
    size_bytes = sum(map(len, content_of(other_folder).values()))
    gone = cache.collect([kept.digest])
    downloads = tmp_path / "root" / "downloads"
    assert [item.path for item in gone] == [other_folder, downloads]
    assert gone[0] == Collected(other_folder, size_bytes)
    assert gone[1].size_bytes > 0
    assert not other_folder.exists()
    assert not downloads.exists()
    assert cache.find(kept) == kept_folder
    assert cache.collect([kept.digest]) == []
    assert cache.build(other, sources) == other_folder


def test_collecting_leaves_alone_what_is_being_built(cache: EnvironmentCache, lock: Lock, sources: Sources) -> None:
    gone: list[Collected] = []
    cache.build(lock, sources, report=lambda step: gone.extend(cache.collect([])) if step.stage == "verify" else None)
    assert gone == []
    assert cache.find(lock) is not None


def test_collecting_removes_what_a_dead_build_left(cache: EnvironmentCache, lock: Lock, sources: Sources) -> None:
    folder = cache.build(lock, sources)
    left = folder.parent / f".{lock.digest}.0123"
    left.mkdir()
    (left / "x").write_text("12345")
    assert Collected(left, 5) in cache.collect([lock.digest])
    assert not left.exists()
    assert cache.find(lock) == folder


# ---- indexes and credentials


def test_an_index_with_credentials_from_the_environment_works_and_they_show_nowhere(
    cache: EnvironmentCache, links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INDEX_PASSWORD", PASSWORD)
    shown: list[str] = []

    def look(path: str) -> None:
        shown.append(path)
        shown.extend(Path(f"/proc/{pid}/cmdline").read_text() for pid in children())

    with serve_index(links, credentials=f"user:{PASSWORD}", before=look) as host:
        here = Sources(index_url=f"http://user:${{INDEX_PASSWORD}}@{host}/simple")
        lock = cache.lock(["beta"], here, report=lambda step: shown.append(step.text))
        folder = cache.build(lock, here, report=lambda step: shown.append(step.text))
        with pytest.raises(EnvironmentFailed) as caught:
            cache.lock(["nothing-like-it"], here)
    assert any("pip\0install" in text for text in shown)
    assert any("/files/beta" in text for text in shown)
    shown += [repr(here), repr(lock), str(caught.value), repr(caught.value.details)]
    everything = "\n".join(shown).encode() + b"".join(content_of(tmp_path / "root").values())
    for secret in (PASSWORD, "p%40ss", "cEBzcy93b3Jk"):  # as it is, percent-encoded, and the start of its base64
        assert secret.encode() not in everything
    assert host.encode() not in msgspec.json.encode(lock)
    assert in_guest(folder, "import beta; print(beta.VERSION)") == "2.0\n"


def test_without_an_index_url_the_operators_own_configuration_of_uv_decides(
    cache: EnvironmentCache, links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_index(links, credentials="user:secret") as host:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://user:secret@{host}/simple")
        assert cache.lock(["alpha"], Sources()).packages == ("alpha==2.0",)
        monkeypatch.delenv("UV_DEFAULT_INDEX")
        configuration = tmp_path / "uv.toml"
        configuration.write_text(f'index-url = "http://user:secret@{host}/simple"\n[pip]\nemit-index-url = true\n')
        monkeypatch.setenv("UV_CONFIG_FILE", str(configuration))
        assert cache.lock(["alpha<2"], Sources()).packages == ("alpha==1.0",)


def test_variables_of_uv_that_would_change_how_it_builds_are_not_handed_on(
    cache: EnvironmentCache, lock: Lock, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UV_NO_VERIFY_HASHES", "UV_SYSTEM_PYTHON", "UV_COMPILE_BYTECODE", "UV_NO_CACHE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("UV_LINK_MODE", "symlink")
    assert cache.find(lock) is None
    assert cache.build(lock, sources) == cache.find(lock)
