"""Read a manifest from a wheel (PEP 427, and PyPA's binary distribution format), without extracting anything."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection
from email.parser import HeaderParser
from pathlib import Path
from typing import IO

from packaging.utils import canonicalize_name

from ray_ext.errors import PackageInvalid
from ray_ext.manifests.archive import Archive, open_archive
from ray_ext.manifests.bounded_files import Unreadable
from ray_ext.manifests.model import Manifest
from ray_ext.manifests.problems import Problem, raise_problems, show
from ray_ext.manifests.reading import ManifestSource, manifest_source, version_differs

__all__ = [
    "ENTRY_POINT_GROUP",
    "dist_info",
    "entry_point_problems",
    "extension_entry",
    "metadata_problems",
    "read_archive",
    "read_wheel",
    "read_wheel_file",
]

ENTRY_POINT_GROUP = "ray_ext.extensions"
"""The entry point group that names the package with the manifest: ``<id> = <package>``."""

_TEXT_BYTES = 2**20
_PACKAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


def read_wheel(path: Path) -> ManifestSource:
    """The manifest of a wheel, which must equal the wheel's METADATA in id and version.

    Raises PackageInvalid for what is no proper wheel, and ManifestInvalid with every problem of the manifest.
    """
    shown = show(str(path))[1:-1]
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = (
            os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else "an impossible name"
        )
        raise_problems(PackageInvalid, shown, [Problem(shown, "", reason, "a readable wheel", "give a .whl file")])
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        problem = Problem(shown, "", "a folder or special file", "a wheel", "give a .whl file")
        raise_problems(PackageInvalid, shown, [problem])
    with os.fdopen(descriptor, "rb") as file:
        return read_wheel_file(file, str(path))


def read_wheel_file(file: IO[bytes], origin: str) -> ManifestSource:
    """The manifest of an open wheel, as :func:`read_wheel`."""
    with open_archive(file, origin) as archive:
        return read_archive(archive, origin)


def read_archive(archive: Archive, origin: str) -> ManifestSource:
    """The manifest of a wheel's archive, as :func:`read_wheel`."""
    info = dist_info(archive, origin)
    entry_points = f"{info}/entry_points.txt"
    extension, package = extension_entry(_text(archive, entry_points), entry_points, origin)
    folder = package.replace(".", "/")

    def read(relative: str, limit: int) -> bytes:
        name = f"{folder}/{relative}"
        if name not in archive:
            raise Unreadable(f"no such file ({name} in the wheel)", "add it to the package", is_missing=True)
        try:
            return archive.read(name, limit)
        except PackageInvalid as error:
            raise Unreadable(error.what.partition("found ")[2].partition(";")[0], "build the wheel again") from None

    def compare(manifest: Manifest) -> list[Problem]:
        return [
            *entry_point_problems(manifest, extension, package, archive.names, entry_points),
            *metadata_problems(manifest, _text(archive, f"{info}/METADATA"), f"{info}/METADATA"),
        ]

    return manifest_source(read, origin=origin, compare=compare, package=package)


def dist_info(archive: Archive, origin: str) -> str:
    """The name of the wheel's one ``.dist-info`` folder; raises PackageInvalid."""
    found = sorted({top for name in archive.names for top in [name.split("/")[0]] if top.endswith(".dist-info")})
    needed = ("METADATA", "RECORD", "entry_points.txt")
    if len(found) != 1 or not all(f"{found[0]}/{name}" in archive for name in needed):
        shown = show(origin)[1:-1]
        what = f"{len(found)} .dist-info folders" if len(found) != 1 else "an incomplete .dist-info folder"
        allowed = f"one .dist-info folder with {', '.join(needed)}"
        problem = Problem(shown, "", what, allowed, "build the wheel from its project folder")
        raise_problems(PackageInvalid, shown, [problem])
    return found[0]


def extension_entry(text: str, file: str, origin: str) -> tuple[str, str]:
    """The id and the package of the one extension that an ``entry_points.txt`` names; raises PackageInvalid.

    Lines are read as importlib.metadata reads them. A configparser would take quadratic time on long lines.
    """
    entries, group = [], ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1]
        elif group == ENTRY_POINT_GROUP and line and not line.startswith("#"):
            extension, _, package = line.partition("=")
            entries.append((extension.strip(), package.strip()))
    if len(entries) != 1 or not _PACKAGE.fullmatch(entries[0][1]):
        allowed = f"one entry <id> = <package> under [{ENTRY_POINT_GROUP}]"
        found = show([f"{extension} = {package}" for extension, package in entries]) if entries else "no entry"
        problem = Problem(file, ENTRY_POINT_GROUP, found, allowed, "build the wheel from its project folder")
        raise_problems(PackageInvalid, show(origin)[1:-1], [problem])
    return entries[0]


def _text(archive: Archive, name: str) -> str:
    return archive.read(name, _TEXT_BYTES).decode("utf-8", "replace")


def entry_point_problems(
    manifest: Manifest, extension: str, package: str, names: Collection[str], file: str
) -> list[Problem]:
    """Where a manifest is not that of the entry point ``extension = package``, by the files' names that there are."""
    problems = []
    if extension != manifest.id:
        allowed = f"{manifest.id}, the id in extension.toml"
        problems.append(Problem(file, "", show(extension), allowed, "build the wheel from its project folder"))
    module = manifest.module.replace(".", "/")
    is_there = any(name in (f"{module}.py", f"{module}/__init__.py") or name.startswith(f"{module}.") for name in names)
    if manifest.module.split(".")[0] != package.split(".")[0] or not is_there:
        allowed = f"a module in the package {package}"
        fix = "name a module that exists"
        problems.append(Problem("extension.toml", "entry_point", show(manifest.entry_point), allowed, fix))
    return problems


def metadata_problems(manifest: Manifest, text: str, file: str) -> list[Problem]:
    """Where the name and the version in a METADATA text are not the manifest's."""
    headers = HeaderParser().parsestr(text, headersonly=True)
    name, version = headers.get("Name"), headers.get("Version")
    fix = "make the two equal and build the wheel again"
    problems = []
    if not isinstance(name, str) or canonicalize_name(name[:200]) != manifest.id:
        problems.append(Problem(file, "Name", show(name), f"{manifest.id}, the id in extension.toml", fix))
    if version_differs(version, manifest.version):
        allowed = f"{manifest.version}, the version in extension.toml"
        problems.append(Problem(file, "Version", show(version), allowed, fix))
    return problems
