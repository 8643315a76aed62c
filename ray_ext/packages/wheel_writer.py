"""Make a package of a project folder: a static, deterministic wheel writer. No build backend, nothing is executed.

Equal content gives equal bytes, on every machine: members are sorted, with fixed times and modes, and *stored*, because
deflate's output differs between zlib's versions while the sha256 of the wheel is the package's identity.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import stat
import zipfile
from pathlib import Path
from typing import NoReturn

from ray_ext.errors import PackageInvalid
from ray_ext.manifests.archive import FILES, TOTAL_BYTES, name_problems
from ray_ext.manifests.bounded_files import Unreadable, open_folder, read_regular
from ray_ext.manifests.model import Manifest
from ray_ext.manifests.problems import Problem, raise_problems, show
from ray_ext.manifests.reading import MANIFEST_NAME, ManifestSource, read_folder
from ray_ext.manifests.schema_check import SCHEMA_BYTES
from ray_ext.manifests.wheel_reading import ENTRY_POINT_GROUP
from ray_ext.packages.folder_files import package_files

__all__ = ["pack_folder", "record_hash"]

_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip archive can say
_MODE = 0o100644


def pack_folder(folder: Path) -> bytes:
    """The package of a project folder, as the bytes of a wheel.

    It holds the entry point's top-level package from the folder's root, or everything below ``src/`` where there is
    one, with ``extension.toml`` and its schema file put into that package; without hidden files, ``__pycache__`` and
    ``*.pyc``. Raises ManifestInvalid, or PackageInvalid naming the file.
    """
    folder = Path(folder)
    source = read_folder(folder)
    try:
        with open_folder(folder) as directory:
            files = _code(directory, source)
            _add_manifest(files, directory, source)
    except Unreadable as error:
        problem = Problem(show(str(folder)), "", error.found, "a project folder", error.fix)
        raise_problems(PackageInvalid, f"the folder {show(str(folder))}", [problem])
    problems = _name_problems(files, show(str(folder))[1:-1])
    if problems:
        raise_problems(PackageInvalid, f"the folder {show(str(folder))}", problems)
    files |= _dist_info(source.manifest, files)
    size_bytes = sum(map(len, files.values()))
    if len(files) > FILES or size_bytes > TOTAL_BYTES:
        found, allowed = f"{len(files)} files of {size_bytes} bytes", f"at most {FILES} files of {TOTAL_BYTES} bytes"
        problem = Problem(show(str(folder))[1:-1], "", found, allowed, "leave files out")
        raise_problems(PackageInvalid, f"the folder {show(str(folder))}", [problem])
    return _zip(files)


def record_hash(data: bytes) -> str:
    """A file's hash as RECORD writes it: ``sha256=`` and unpadded URL-safe base64."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _code(directory: int, source: ManifestSource) -> dict[str, bytes]:
    package = source.manifest.module.split(".")[0]
    # A link is taken for the folder that it stands for, so that reading refuses it by name.
    if _kind(directory, "src") in (stat.S_IFDIR, stat.S_IFLNK):
        files = {
            path.removeprefix("src/"): data for path, data in package_files(directory, "src", source.origin).items()
        }
        where = f"src/{package}/__init__.py"
    elif _kind(directory, package) in (stat.S_IFDIR, stat.S_IFLNK):
        files = package_files(directory, package, source.origin)
        where = f"{package}/__init__.py"
    else:
        files, where = {}, f"{package}/__init__.py"
    module = source.manifest.module.replace(".", "/")
    if f"{package}/__init__.py" not in files:
        is_single = f"{package}.py" in files or _kind(directory, f"{package}.py") == stat.S_IFREG
        found = f"the single module {package}.py" if is_single else "no such file"
        fix = f"make it a package: move {package}.py to {where}" if is_single else f"create {where}"
        _refuse(source, where, found, "the entry point's package, a folder with __init__.py", fix)
    if f"{module}.py" not in files and f"{module}/__init__.py" not in files:
        allowed = f"the module of the entry point {source.manifest.entry_point}"
        _refuse(source, f"{module}.py", "no such file", allowed, "create it, or correct entry_point in extension.toml")
    return files


def _add_manifest(files: dict[str, bytes], directory: int, source: ManifestSource) -> None:
    """Put extension.toml and its schema file into the package, at the same place relative to each other."""
    package = source.manifest.module.split(".")[0]
    added = {MANIFEST_NAME: source.text.encode()}
    if (name := source.manifest.schema_file) is not None:
        added[name] = read_regular(directory, name, SCHEMA_BYTES)
    for name, data in added.items():
        path = f"{package}/{name}"
        if files.setdefault(path, data) != data:
            allowed = f"the same content as {name} at the folder's root, which the package will hold there"
            _refuse(source, path, "another file", allowed, "remove it or rename it")


def _name_problems(files: dict[str, bytes], shown: str) -> list[Problem]:
    made = [path for path in files if path.split("/")[0].casefold().endswith(".dist-info")]
    return name_problems(list(files), shown) + [
        Problem(show(path)[1:-1], "", "a .dist-info folder", "none: packing makes it", "remove it") for path in made
    ]


def _dist_info(manifest: Manifest, files: dict[str, bytes]) -> dict[str, bytes]:
    name = manifest.id.replace("-", "_")
    folder = f"{name}-{manifest.version.replace('-', '_')}.dist-info"
    package = manifest.module.split(".")[0]
    made = {
        f"{folder}/METADATA": _metadata(manifest),
        f"{folder}/WHEEL": b"Wheel-Version: 1.0\nGenerator: ray_ext\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{folder}/entry_points.txt": f"[{ENTRY_POINT_GROUP}]\n{manifest.id} = {package}\n".encode(),
    }
    lines = [_record_line(path, data) for path, data in sorted({**files, **made}.items())]
    made[f"{folder}/RECORD"] = "".join([*lines, f"{folder}/RECORD,,\n"]).encode()
    return made


def _metadata(manifest: Manifest) -> bytes:
    lines = ["Metadata-Version: 2.1", f"Name: {manifest.id}", f"Version: {manifest.version}"]
    if manifest.description:
        lines.append(f"Summary: {manifest.description}")
    lines += [f"Requires-Dist: {requirement}" for requirement in manifest.runtime_env.pip]
    return ("\n".join(lines) + "\n").encode()


def _record_line(path: str, data: bytes) -> str:
    quoted = '"' + path.replace('"', '""') + '"' if any(letter in path for letter in ',"') else path
    return f"{quoted},{record_hash(data)},{len(data)}\n"


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, data in sorted(files.items()):
            member = zipfile.ZipInfo(path, _TIME)
            member.create_system = 3  # Unix, on every system
            member.external_attr = _MODE << 16
            archive.writestr(member, data)
    return buffer.getvalue()


def _kind(directory: int, name: str) -> int:
    """The file type of an entry itself (``stat.S_IFDIR``, ...), 0 where there is none."""
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except OSError:
        return 0


def _refuse(source: ManifestSource, path: str, found: str, allowed: str, fix: str) -> NoReturn:
    raise_problems(PackageInvalid, f"the folder {show(source.origin)}", [Problem(path, "", found, allowed, fix)])
