"""Hostile packages are refused in bounded time and memory, or come to nothing; none writes elsewhere, none runs."""

from __future__ import annotations

import io
import os
import resource
import stat
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ray_ext.errors import ManifestInvalid, PackageInvalid
from ray_ext.packages import PackageCache, pack_folder

from .supply_corpus import HARMLESS_WHEELS, WHEELS, Attack
from .supply_folders import FOLDERS, HARMLESS_FOLDERS, SECRET, FolderAttack, honest_folder

MEMORY_BYTES = 400 << 20  # above the 64 MiB of a file, far below the 256 MiB of a package and what bombs take
TIME_S = 20.0


@dataclass(frozen=True)
class Scene:
    """A cache, and beside it what must stay as it is: a secret, a project folder, and no mark."""

    root: Path

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def folder(self) -> Path:
        return self.root / "project"

    @property
    def outside(self) -> Path:
        return self.root / "outside"

    @property
    def mark(self) -> Path:
        return self.root / "mark"

    @property
    def evil(self) -> str:
        return f"open({str(self.mark)!r}, 'a').close()\n"

    def state(self) -> dict[str, object]:
        """Everything but the cache."""
        found: dict[str, object] = {}
        for parent, folders, files in os.walk(self.root):
            if Path(parent) == self.root and "cache" in folders:
                folders.remove("cache")
            for path in (Path(parent, name) for name in [*folders, *files]):
                status = path.lstat()
                found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_nlink)
        return found


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path)
    scene.outside.mkdir()
    (scene.outside / "secret").write_text(SECRET)
    honest_folder(scene.folder, scene.evil)
    return scene


@contextmanager
def bounded() -> Iterator[None]:
    """Fail where more memory or time is taken than a package may take."""
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * page_bytes
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + MEMORY_BYTES, hard))
    started = time.monotonic()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert time.monotonic() - started < TIME_S


@contextmanager
def nothing_else_happens(scene: Scene) -> Iterator[None]:
    before = scene.state()
    yield
    assert scene.state() == before


def assert_holds(scene: Scene, folder: Path, wheel: bytes, name: str) -> None:
    """An unpacked folder holds the wheel's files, ``name`` among them, read-only, and beside them only bytecode."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        expected = {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
    found = [path for path in folder.rglob("*") if not path.is_dir()]
    assert all(path.is_file() and not path.is_symlink() for path in found)
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o444}
    content = {str(path.relative_to(folder)): path.read_bytes() for path in found if path.suffix != ".pyc"}
    assert content == expected
    assert name in content
    assert {path.parent.name for path in found if path.suffix == ".pyc"} <= {"__pycache__"}


@pytest.mark.parametrize("attack", WHEELS, ids=str)
def test_a_hostile_wheel_is_refused_and_leaves_nothing(scene: Scene, attack: Attack) -> None:
    wheel = attack.make(scene.evil.encode())
    with nothing_else_happens(scene), bounded(), pytest.raises((PackageInvalid, ManifestInvalid)) as caught:
        PackageCache(scene.cache).add(wheel)
    assert attack.said in str(caught.value)
    assert caught.value.details["problems"]
    assert len(str(caught.value)) < 50_000
    assert not scene.cache.exists()


@pytest.mark.parametrize("attack", HARMLESS_WHEELS, ids=str)
def test_a_strange_wheel_that_is_accepted_comes_to_nothing(scene: Scene, attack: Attack) -> None:
    wheel = attack.make(scene.evil.encode())
    cache = PackageCache(scene.cache)
    with nothing_else_happens(scene), bounded():
        stored = cache.add(wheel)
        folder = cache.unpacked(stored.sha256)
    assert (stored.source.manifest.id, stored.source.manifest.runtime_env.pip) == ("hello-world", ())
    assert_holds(scene, folder, wheel, attack.said)


@pytest.mark.parametrize("attack", FOLDERS, ids=str)
def test_a_hostile_folder_is_refused_and_leaves_nothing(scene: Scene, attack: FolderAttack) -> None:
    attack.change(scene.folder, scene.outside, scene.evil)
    with nothing_else_happens(scene), bounded(), pytest.raises((PackageInvalid, ManifestInvalid)) as caught:
        pack_folder(scene.folder)
    assert attack.said in str(caught.value)
    assert caught.value.details["problems"]
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("attack", HARMLESS_FOLDERS, ids=str)
def test_a_strange_folder_that_is_accepted_comes_to_nothing(scene: Scene, attack: FolderAttack) -> None:
    attack.change(scene.folder, scene.outside, scene.evil)
    cache = PackageCache(scene.cache)
    with nothing_else_happens(scene), bounded():
        wheel = pack_folder(scene.folder)
        folder = cache.unpacked(cache.add(wheel).sha256)
    assert SECRET.encode() not in wheel
    assert_holds(scene, folder, wheel, attack.said)


def test_a_device_in_a_folder_is_refused_unopened(scene: Scene) -> None:
    try:
        os.mknod(scene.folder / "hello_world" / "odd", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("making devices takes privileges")
    with bounded(), pytest.raises(PackageInvalid, match="hello_world/odd: found "):
        pack_folder(scene.folder)


def test_a_file_that_may_not_be_read_is_refused() -> None:
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        honest_folder(Path(folder), "")
        (Path(folder) / "hello_world" / "odd").write_text(SECRET)
        (Path(folder) / "hello_world" / "odd").chmod(0)
        os.seteuid(user or 65534)
        try:
            with pytest.raises(PackageInvalid, match="hello_world/odd: found permission denied"):
                pack_folder(Path(folder))
        finally:
            os.seteuid(user)


def test_what_a_hard_link_shares_is_copied_once_and_changes_no_more(scene: Scene) -> None:
    shared = scene.folder / "hello_world" / "shared"
    os.link(scene.outside / "secret", shared)
    cache = PackageCache(scene.cache)
    folder = cache.unpacked(cache.add(pack_folder(scene.folder)).sha256)
    (scene.outside / "secret").write_text("changed")
    assert (folder / "hello_world" / "shared").read_text() == SECRET
    assert (folder / "hello_world" / "shared").stat().st_nlink == 1


@pytest.mark.parametrize("which", ["file", "folder", "manifest", "package"])
def test_what_is_exchanged_for_a_link_while_it_is_packed_never_gets_in(scene: Scene, which: str) -> None:
    package = scene.folder / "hello_world"
    (package / "sub").mkdir()
    (package / "sub" / "data").write_text("honest")
    swapped, target = {
        "file": (package / "sub" / "data", scene.outside / "secret"),
        "folder": (package / "sub", scene.outside),
        "manifest": (scene.folder / "extension.toml", scene.outside / "secret"),
        "package": (package, scene.outside),
    }[which]
    (scene.outside / "data").write_text(SECRET)
    aside, link = scene.root / "aside", scene.root / "link"
    link.symlink_to(target)
    is_over = threading.Event()

    def exchange() -> None:
        while not is_over.is_set():
            swapped.rename(aside)
            link.rename(swapped)
            swapped.rename(link)
            aside.rename(swapped)

    thread = threading.Thread(target=exchange)
    thread.start()
    packed: list[bytes] = []
    refused: list[str] = []
    deadline = time.monotonic() + TIME_S
    try:
        while (len(packed) + len(refused) < 300 or not packed or not refused) and time.monotonic() < deadline:
            try:
                packed.append(pack_folder(scene.folder))
            except (PackageInvalid, ManifestInvalid) as error:
                refused.append(str(error))
    finally:
        is_over.set()
        thread.join()
    assert packed, "no packing was spared"
    assert refused, "no packing met an exchange"
    assert not any(SECRET.encode() in wheel for wheel in packed)
    assert not any(SECRET in text for text in refused)


def test_the_mark_shows_when_something_runs(scene: Scene) -> None:
    subprocess.run([sys.executable, "-c", "import hello_world"], cwd=scene.folder, check=True)
    assert scene.mark.exists()
