"""The package cache: hostile wheels stay out, damage never stays hidden, and any number of processes may share it."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import shutil
import stat
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ray_ext.errors import ManifestInvalid, PackageInvalid, RayExtError
from ray_ext.manifests import archive as archive_module
from ray_ext.packages import PackageCache, StoredPackage
from ray_ext.packages.wheel_writer import record_hash

MANIFEST = """\
schema_version = 1
id = "hello-world"
name = "Hello"
version = "1.0"
category = "workflow.orchestration"
entry_point = "hello_world:Hello"
"""
INFO = "hello_world-1.0.dist-info"

Files = dict[str, bytes]


def files() -> Files:
    return {
        "hello_world/__init__.py": b"from hello_world.sub import answer\n\n\nclass Hello: ...\n",
        "hello_world/sub/__init__.py": b"answer = 42\n",
        "hello_world/extension.toml": MANIFEST.encode(),
        f"{INFO}/METADATA": b"Metadata-Version: 2.1\nName: hello_world\nVersion: 1.0.0\n",
        f"{INFO}/WHEEL": b"Wheel-Version: 1.0\n",
        f"{INFO}/entry_points.txt": b"[ray_ext.extensions]\nhello-world = hello_world\n",
    }


def record(content: Files) -> bytes:
    lines = [f"{name},{record_hash(data)},{len(data)}\n" for name, data in content.items()]
    return "".join([*lines, f"{INFO}/RECORD,,\n"]).encode()


def build(content: Files, *, change: Callable[[zipfile.ZipFile], None] | None = None, deflate: bool = False) -> bytes:
    content = {**content, f"{INFO}/RECORD": content.get(f"{INFO}/RECORD", record(content))}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
        if change is not None:
            change(archive)
    return buffer.getvalue()


@pytest.fixture
def cache(tmp_path: Path) -> PackageCache:
    return PackageCache(tmp_path / "cache")


@pytest.fixture
def stored(cache: PackageCache) -> StoredPackage:
    return cache.add(build(files()))


def refusal(cache: PackageCache, wheel: bytes) -> str:
    with pytest.raises(RayExtError) as caught:
        cache.add(wheel)
    assert isinstance(caught.value, PackageInvalid | ManifestInvalid)
    assert caught.value.details["problems"]
    return str(caught.value)


def content_of(folder: Path) -> Files:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def state_of(folder: Path) -> dict[str, object]:
    """Everything in a folder, links and bytecode included."""
    return {
        str(path): path.readlink()
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else path.stat().st_mode
        for path in folder.rglob("*")
    }


def test_a_wheel_is_kept_by_its_sha256_and_unpacked_whole(cache: PackageCache, tmp_path: Path) -> None:
    wheel = build(files())
    stored = cache.add(wheel)
    assert stored.sha256 == hashlib.sha256(wheel).hexdigest()
    assert stored.path == tmp_path / "cache" / stored.sha256[:2] / f"{stored.sha256}.whl"
    assert stored.path.read_bytes() == wheel
    assert stored.source.manifest.id == "hello-world"
    assert cache.wheel(stored.sha256) == stored.path
    folder = cache.unpacked(stored.sha256)
    assert folder.name == stored.sha256
    assert content_of(folder) == {**files(), f"{INFO}/RECORD": record(files())}
    assert cache.add(wheel) == stored
    assert cache.unpacked(stored.sha256) == folder


def test_a_deflated_wheel_of_an_ordinary_build_tool_is_accepted(cache: PackageCache) -> None:
    def add_folder(archive: zipfile.ZipFile) -> None:
        archive.writestr(zipfile.ZipInfo("hello_world/"), b"")

    stored = cache.add(build(files(), deflate=True, change=add_folder))
    assert content_of(cache.unpacked(stored.sha256))["hello_world/sub/__init__.py"] == b"answer = 42\n"


def test_what_is_unpacked_can_be_imported_without_writing_bytecode(cache: PackageCache, stored: StoredPackage) -> None:
    folder = cache.unpacked(stored.sha256)
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import hello_world as h; print(h.answer, h.__cached__)"
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    answer, cached = run.stdout.split()
    assert answer == "42"
    header = Path(cached).read_bytes()[:16]
    assert header[4:8] == b"\x03\0\0\0"  # PEP 552: hash-based, and checked against the source
    source_hash = importlib.util.source_hash((folder / "hello_world" / "__init__.py").read_bytes())
    assert header[8:16] == source_hash
    assert cache.unpacked(stored.sha256) == folder


def test_what_is_unpacked_is_read_only(cache: PackageCache, stored: StoredPackage) -> None:
    folder = cache.unpacked(stored.sha256)
    for path in [folder, *folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o555 if path.is_dir() else 0o444)


def damage_content(folder: Path) -> None:
    path = folder / "hello_world" / "__init__.py"
    status = path.stat()
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"Hello", b"Hullo"))
    path.chmod(0o444)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def damage_bytecode(folder: Path) -> None:
    path = next(folder.rglob("*.pyc"))
    path.chmod(0o600)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def damage_record(folder: Path) -> None:
    damage_content(folder)
    altered = {**content_of(folder)}
    path = folder / INFO / "RECORD"
    path.chmod(0o600)
    path.write_bytes(record({name: data for name, data in altered.items() if not name.endswith("RECORD")}))


def remove_file(folder: Path) -> None:
    (folder / "hello_world").chmod(0o700)
    (folder / "hello_world" / "__init__.py").unlink()


def add_file(folder: Path) -> None:
    (folder / "hello_world").chmod(0o700)
    (folder / "hello_world" / "extra.py").write_text("")


def add_bytecode(folder: Path) -> None:
    (folder / "hello_world" / "__pycache__").chmod(0o700)
    (folder / "hello_world" / "__pycache__" / "extra.cpython-311.pyc").write_bytes(b"")


def add_folder(folder: Path) -> None:
    folder.chmod(0o700)
    (folder / "json").mkdir()


def link_file(folder: Path) -> None:
    path = folder / "hello_world" / "sub" / "__init__.py"
    copy = folder.parent / "copy.py"
    copy.write_bytes(path.read_bytes())
    path.parent.chmod(0o700)
    path.unlink()
    path.symlink_to(copy)


def link_folder(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "copy")
    shutil.rmtree(folder / "hello_world" / "sub")
    (folder / "hello_world" / "sub").symlink_to(folder.parent / "copy" / "hello_world" / "sub")


def replace_by_pipe(folder: Path) -> None:
    remove_file(folder)
    os.mkfifo(folder / "hello_world" / "__init__.py")


def remove_all(folder: Path) -> None:
    shutil.rmtree(folder)


def replace_by_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


def forget_bytecode(folder: Path) -> None:
    folder.with_suffix(".bytecode").unlink()


def break_bytecode_list(folder: Path) -> None:
    folder.with_suffix(".bytecode").write_bytes(b"[")


DAMAGES = [
    damage_content, damage_bytecode, damage_record, remove_file, add_file, add_bytecode, add_folder, link_file,
    link_folder, replace_by_pipe, remove_all, replace_by_file, forget_bytecode, break_bytecode_list,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_altered_folder_is_rebuilt(
    cache: PackageCache, stored: StoredPackage, damage: Callable[[Path], None]
) -> None:
    folder = cache.unpacked(stored.sha256)
    expected = content_of(folder)
    damage(folder)
    damaged = state_of(folder.parent)
    assert cache.unpacked(stored.sha256) == folder
    assert state_of(folder.parent) != damaged
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert content_of(folder) == expected
    rebuilt = folder.stat().st_ino
    assert cache.unpacked(stored.sha256).stat().st_ino == rebuilt
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_a_damaged_wheel_is_never_used_and_healed_by_adding_it_again(
    cache: PackageCache, stored: StoredPackage
) -> None:
    folder = cache.unpacked(stored.sha256)
    wheel = stored.path.read_bytes()
    stored.path.write_bytes(wheel.replace(b"Hello", b"Hullo"))
    for use in (cache.unpacked, cache.wheel):
        with pytest.raises(PackageInvalid, match="is damaged"):
            use(stored.sha256)
    assert cache.add(wheel) == stored
    assert cache.unpacked(stored.sha256) == folder


@pytest.mark.parametrize("sha256", ["0" * 64, "../x", "", "A" * 64, "0" * 63])
def test_an_unknown_or_impossible_name_is_refused(cache: PackageCache, sha256: str) -> None:
    for use in (cache.unpacked, cache.wheel):
        with pytest.raises(PackageInvalid):
            use(sha256)


def test_left_overs_of_a_dead_process_are_removed(cache: PackageCache, stored: StoredPackage) -> None:
    left = stored.path.parent / f".{stored.sha256}.0123"
    left.mkdir()
    (left / "x").write_text("")
    cache.unpacked(stored.sha256)
    assert not left.exists()


def test_threads_and_processes_share_a_cache(cache: PackageCache, tmp_path: Path) -> None:
    wheel = tmp_path / "x.whl"
    wheel.write_bytes(build(files()))
    code = (
        "import sys, pathlib; from ray_ext.packages import PackageCache; c = PackageCache(pathlib.Path(sys.argv[1]))\n"
        "s = c.add(pathlib.Path(sys.argv[2]).read_bytes())\n"
        "for _ in range(5): assert (c.unpacked(s.sha256) / 'hello_world' / '__init__.py').is_file()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache"), str(wheel)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: cache.unpacked(cache.add(wheel.read_bytes()).sha256), range(8)))
    assert len(set(results)) == 1
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert content_of(results[0]) == {**files(), f"{INFO}/RECORD": record(files())}


# ---- hostile wheels


NAMES = [
    "../evil.py", "/etc/evil.py", "hello_world/../../evil.py", "hello_world//evil.py", "./evil.py", "C:/evil.py",
    "hello_world\\evil.py", "evil.pth", "hello_world/EVIL.PTH", "json/__init__.py", "json.py", "JSON.py",
    "ray_ext/evil.py", "msgspec.py", "ray_ext.cpython-311-x86_64-linux-gnu.so", "sitecustomize.py", "_socket.so",
    "hello_world/Sub/__init__.py", "hello_world/\uff53ub/__init__.py", "hello_world/__init__.py/evil",
    "hello_world/sub",
    "x-1.data/purelib/evil.py", "hello_world/a\nb.py", "hello_world/" + "a" * 300, "/".join("a" * 800),
    "hello_world/__pycache__/__init__.cpython-311.pyc", "hello_world/evil.pyc",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_member_with_a_dangerous_name_is_refused(cache: PackageCache, name: str) -> None:
    assert "found " in refusal(cache, build({**files(), name: b"x"}))


def link(archive: zipfile.ZipFile) -> None:
    member = zipfile.ZipInfo("hello_world/odd")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(member, "/etc/passwd")


def device(archive: zipfile.ZipFile) -> None:
    member = zipfile.ZipInfo("hello_world/odd")
    member.external_attr = (stat.S_IFIFO | 0o777) << 16
    archive.writestr(member, "")


def unrecorded(archive: zipfile.ZipFile) -> None:
    archive.writestr("hello_world/odd", "x")


def unusual(archive: zipfile.ZipFile) -> None:
    archive.writestr("hello_world/odd", "x", compress_type=zipfile.ZIP_LZMA)


def twice(archive: zipfile.ZipFile) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("hello_world/__init__.py", "evil")


KINDS = [
    (link, "hello_world/odd: found a link or special file"),
    (device, "hello_world/odd: found a link or special file"),
    (unrecorded, "hello_world/odd: found a file beside RECORD"),
    (unusual, "hello_world/odd: found an unusual compression"),
    (twice, "hello_world/__init__.py: found the same name"),
]


@pytest.mark.parametrize(("change", "said"), KINDS)
def test_a_member_of_a_dangerous_kind_is_refused(
    cache: PackageCache, change: Callable[[zipfile.ZipFile], None], said: str
) -> None:
    assert said in refusal(cache, build(files(), change=change))


RECORDS = [
    b"",
    b"\xff",
    b"hello_world/__init__.py\n",
    record(files()).replace(b"sha256=", b"md5=", 1),
    record(files()).replace(b"sha256=", b"", 1),
    record(files()) + b"hello_world/missing.py,sha256=" + b"A" * 43 + b",1\n",
    record(files()) + record(files()),
    record({**files(), "hello_world/__init__.py": b"other"}),
    b'"' * 1001,
]


@pytest.mark.parametrize("text", RECORDS, ids=range(len(RECORDS)))
def test_a_record_that_does_not_tell_the_whole_truth_is_refused(cache: PackageCache, text: bytes) -> None:
    assert refusal(cache, build({**files(), f"{INFO}/RECORD": text}))


CHANGES: list[tuple[str, bytes | None, str]] = [
    (f"{INFO}/METADATA", b"Name: other\nVersion: 1.0\n", "METADATA: Name: found 'other'"),
    (f"{INFO}/METADATA", b"Name: hello-world\nVersion: 2\n", "METADATA: Version: found '2'"),
    (f"{INFO}/METADATA", b"\xff\xff", "METADATA: Name: found None"),
    (f"{INFO}/METADATA", None, "incomplete .dist-info"),
    (f"{INFO}/entry_points.txt", b"[ray_ext.extensions]\nother = hello_world\n", "entry_points.txt: found 'other'"),
    (f"{INFO}/entry_points.txt", b"[ray_ext.extensions]\nhello-world = ../etc\n", "<id> = <package>"),
    (f"{INFO}/entry_points.txt", b"[ray_ext.extensions]\na = b\nc = d\n", "<id> = <package>"),
    (f"{INFO}/entry_points.txt", b"[console_scripts]\na = b\n", "<id> = <package>"),
    (f"{INFO}/entry_points.txt", b"\xff\0[", "<id> = <package>"),
    (f"{INFO}/entry_points.txt", b"[ray_ext.extensions]\nhello-world = nowhere\n", "no such file"),
    ("hello_world/extension.toml", MANIFEST.replace("hello_world:", "hello_world.no:").encode(), "entry_point"),
    ("hello_world/extension.toml", MANIFEST.replace("hello_world:", "other:").encode(), "entry_point"),
    ("hello_world/extension.toml", b"\xff", "UTF-8"),
    ("hello_world/extension.toml", b"x" * 300_000, "bytes"),
    ("hello_world/extension.toml", None, "no such file"),
    ("other-1.dist-info/METADATA", b"Name: other\n", "2 .dist-info folders"),
]


@pytest.mark.parametrize(("name", "data", "said"), CHANGES, ids=range(len(CHANGES)))
def test_a_wheel_that_contradicts_itself_is_refused(
    cache: PackageCache, name: str, data: bytes | None, said: str
) -> None:
    content = files()
    if data is None:
        del content[name]
    else:
        content[name] = data
    assert said in refusal(cache, build(content))


def test_nothing_of_a_refused_wheel_is_kept(cache: PackageCache, tmp_path: Path) -> None:
    refusal(cache, build({**files(), "../evil.py": b"x"}))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_bomb_is_refused_by_the_bytes_that_really_come_out(
    cache: PackageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = build({**files(), "hello_world/zeros": bytes(20 * 2**20)}, deflate=True)
    assert "grows more than 200 times" in refusal(cache, zeros)
    large = build({**files(), "hello_world/large": bytes(64 * 2**20 + 1)}, deflate=True)
    assert "hello_world/large: found more than 67108864 bytes" in refusal(cache, large)
    monkeypatch.setattr(archive_module, "TOTAL_BYTES", 100_000)
    many = build({**files(), **{f"hello_world/f{n}": os.urandom(30_000) for n in range(4)}})
    assert "found " in refusal(cache, many)


def test_a_bomb_takes_no_more_memory_than_the_limit_of_one_file(cache: PackageCache) -> None:
    wheel = build({**files(), "hello_world/large": bytes(400 * 2**20)}, deflate=True)
    tracemalloc.start()
    try:
        refusal(cache, wheel)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 200 * 2**20


def test_sizes_that_the_archive_claims_are_not_believed(cache: PackageCache) -> None:
    data = bytes(65 * 2**20)
    wheel = bytearray(build({**files(), "hello_world/large": data}, deflate=True))
    claimed = len(data).to_bytes(4, "little")
    assert wheel.count(claimed) == 2
    refusal(cache, bytes(wheel.replace(claimed, (10).to_bytes(4, "little"))))


def test_a_directory_of_too_many_entries_is_refused_before_it_is_read(cache: PackageCache) -> None:
    wheel = bytearray(build(files()))
    wheel[-14:-10] = (20_000).to_bytes(2, "little") * 2
    assert "20000 entries" in refusal(cache, bytes(wheel))
    wheel = bytearray(build(files()))
    wheel[-10:-6] = (2**31).to_bytes(4, "little")
    assert "directory of 2147483648 bytes" in refusal(cache, bytes(wheel))


def test_a_truncated_or_altered_wheel_never_escapes_the_family(cache: PackageCache) -> None:
    wheel = build(files(), deflate=True)
    for end in range(0, len(wheel), 97):
        refusal(cache, wheel[:end])
    for position in range(0, len(wheel), 7):
        altered = bytearray(wheel)
        altered[position] ^= 0xFF
        try:
            cache.add(bytes(altered))
        except RayExtError:
            continue
