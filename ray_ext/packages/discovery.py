"""What extensions there are: project folders and wheels on search paths, and installed distributions.

Nothing is imported, built or executed. Of a wheel the names and the manifest are checked, of a folder the manifest;
installing checks every file.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import Distribution
from importlib.metadata import distributions as installed_distributions
from pathlib import Path
from typing import Literal

from packaging.version import Version

from ray_ext.errors import ManifestInvalid, PackageInvalid
from ray_ext.manifests.bounded_files import Unreadable, open_folder, read_regular
from ray_ext.manifests.model import Manifest
from ray_ext.manifests.problems import Problem, raise_problems, show
from ray_ext.manifests.reading import MANIFEST_NAME, ManifestSource, manifest_source, read_folder
from ray_ext.manifests.wheel_reading import (
    ENTRY_POINT_GROUP,
    entry_point_problems,
    extension_entry,
    metadata_problems,
    read_wheel,
)

__all__ = ["Discovered", "discover", "discover_configured", "search_paths"]

Kind = Literal["folder", "wheel", "distribution"]

_ENTRIES = 2_000
"""Entries of one search path. A folder with more is no folder of extensions."""


@dataclass(frozen=True, kw_only=True)
class Discovered:
    """An extension that was found, or a place where one should be.

    ``source`` is its path, escaped where that cannot be printed; for a distribution, the folder of the package with
    the manifest, or of the distribution where the package is not known. ``id``, ``version``, ``name`` and
    ``description`` are empty unless it ``is_valid``; else ``problems`` holds one text for each. ``shadowed_by`` is the
    source of the same id and version earlier in the list.
    """

    source: str
    kind: Kind
    id: str = ""
    version: str = ""
    name: str = ""
    description: str = ""
    is_valid: bool
    problems: tuple[str, ...] = ()
    shadowed_by: str = ""


def search_paths(environ: Mapping[str, str], default: Path) -> tuple[Path, ...]:
    """The paths in ``RAY_EXT_PATH``, separated by ``os.pathsep``, each once; ``default`` where it is unset or empty.

    ``~`` is the home folder. A relative path is kept as it is, for :func:`discover` to refuse by name.
    """
    written = [entry for entry in environ.get("RAY_EXT_PATH", "").split(os.pathsep) if entry]
    return tuple(dict.fromkeys(Path(_expanded(entry, environ)) for entry in written)) or (default,)


def discover_configured(environ: Mapping[str, str], default: Path) -> list[Discovered]:
    """What lies on ``RAY_EXT_PATH``; without that, in ``default``, where it exists, and among the installed
    distributions."""
    if environ.get("RAY_EXT_PATH"):
        return discover(search_paths(environ, default), distributions=False)
    return discover((default,) if default.exists() else (), distributions=True)


def discover(paths: Sequence[Path], *, distributions: bool) -> list[Discovered]:
    """The extensions on the search paths and, with ``distributions``, those installed beside this interpreter.

    A path is a project folder, a wheel, or a folder of both; subfolders are looked at, and what lies deeper is not.
    Hidden entries are skipped. Entries may be links, which the operator placed; inside a project folder no link is
    followed. What cannot be read, a missing path included, is listed with its problems. The order is that of the paths
    and, within a path, of the names; distributions follow in the order of ``sys.path``.
    """
    found = [each for path in paths for each in _on_path(path)]
    if distributions:
        found += _installed(installed_distributions())
    return _shadowed(dict.fromkeys(found))


def _expanded(entry: str, environ: Mapping[str, str]) -> str:
    if "HOME" in environ and (entry == "~" or entry.startswith("~/")):
        return environ["HOME"] + entry[1:]
    return os.path.expanduser(entry)


def _on_path(path: Path) -> Iterator[Discovered]:
    if not path.is_absolute():
        allowed = "an absolute path: a relative one leads elsewhere from each working directory"
        yield _unusable(path, "a relative path", allowed, "write it in full")
    elif not str(path).isprintable():
        yield _unusable(path, "unprintable characters in the path", "a path of printable Unicode", "rename it")
    elif _is_project(path):
        yield _read("folder", path)
    else:
        try:
            names = _names(path)
        except NotADirectoryError:
            yield _read("wheel", path)
        except OSError as error:
            reason = os.strerror(error.errno).lower() if error.errno else "an error"
            yield _unusable(path, reason, "a readable folder or wheel", "correct the search path")
        else:
            yield from _in_folder(path, names)


def _names(folder: Path) -> list[str]:
    """The names in a folder, sorted; one more than the limit at most."""
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > _ENTRIES:
                break
    return sorted(names)


def _in_folder(folder: Path, names: list[str]) -> Iterator[Discovered]:
    if len(names) > _ENTRIES:
        allowed = f"a folder of at most {_ENTRIES} entries"
        yield _unusable(folder, f"more than {_ENTRIES} entries", allowed, "keep extensions in a folder of their own")
        return
    for name in names:
        kind: Kind | None = None if name.startswith(".") else _kind(folder / name)
        if kind is not None and not name.isprintable():
            yield _unusable(folder / name, "unprintable characters in the name", "printable Unicode", "rename it", kind)
        elif kind is not None:
            yield _read(kind, folder / name)


def _kind(path: Path) -> Kind | None:
    if _is_project(path):
        return "folder"
    return "wheel" if path.suffix == ".whl" else None


def _is_project(folder: Path) -> bool:
    try:
        os.lstat(folder / MANIFEST_NAME)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return folder.suffix != ".whl"  # reading it says what is wrong
    return True


def _read(kind: Kind, path: Path) -> Discovered:
    return _described(kind, str(path), lambda: read_folder(path) if kind == "folder" else read_wheel(path))


def _described(kind: Kind, source: str, read: Callable[[], ManifestSource]) -> Discovered:
    try:
        manifest = read().manifest
    except (PackageInvalid, ManifestInvalid) as error:
        return _invalid(kind, source, error)
    return Discovered(
        source=source,
        kind=kind,
        id=manifest.id,
        version=manifest.version,
        name=manifest.name,
        description=manifest.description,
        is_valid=True,
    )


def _invalid(kind: Kind, source: str, error: PackageInvalid | ManifestInvalid) -> Discovered:
    problems = error.details["problems"]
    assert isinstance(problems, list)
    return Discovered(source=source, kind=kind, is_valid=False, problems=tuple(problems))


def _unusable(path: Path, found: str, allowed: str, fix: str, kind: Kind = "folder") -> Discovered:
    shown = show(str(path))[1:-1]
    source = str(path) if str(path).isprintable() else shown
    return Discovered(
        source=source, kind=kind, is_valid=False, problems=(str(Problem(shown, "", found, allowed, fix)),)
    )


def _shadowed(found: Iterable[Discovered]) -> list[Discovered]:
    first: dict[tuple[str, Version], str] = {}
    listed = []
    for each in found:
        source = first.setdefault((each.id, Version(each.version)), each.source) if each.is_valid else each.source
        listed.append(each if source == each.source else replace(each, shadowed_by=source))
    return listed


# ---- installed distributions


def _installed(every: Iterable[Distribution]) -> list[Discovered]:
    places: dict[str, int] = {}
    found = []
    for distribution in every:
        place = str(distribution.locate_file(""))
        order = places.setdefault(place, len(places))
        row = _distribution(distribution, place)
        if row is not None:
            found.append((order, row.source, row.problems, row))
    return [row for *_, row in sorted(found, key=lambda each: each[:3])]  # a folder is listed in any order


def _distribution(distribution: Distribution, place: str) -> Discovered | None:
    """The extension that a distribution in the folder ``place`` brings; None for one that brings none."""
    try:
        text = distribution.read_text("entry_points.txt") or ""
    except (OSError, ValueError) as error:
        found = f"a distribution with unreadable entry points ({show(str(error))[1:-1]})"
        return _unusable(Path(place), found, "entry_points.txt in UTF-8", "install it again", "distribution")
    if f"[{ENTRY_POINT_GROUP}]" not in text:
        return None
    try:
        extension, package = extension_entry(text, "entry_points.txt", place)
    except PackageInvalid as error:
        return _invalid("distribution", place, error)
    source = os.path.join(place, *package.split("."))
    return _described("distribution", source, lambda: _installed_source(distribution, place, extension, package))


def _installed_source(distribution: Distribution, place: str, extension: str, package: str) -> ManifestSource:
    """The manifest of an installed distribution, held to the same rules as that of a wheel."""
    try:
        files = {file.as_posix() for file in distribution.files or ()}
        metadata = distribution.read_text("METADATA") or ""
    except (OSError, ValueError, TypeError, csv.Error) as error:  # what importlib.metadata raises for broken files
        problem = Problem("RECORD", "", show(str(error))[1:-1], "readable METADATA and RECORD", "install it again")
        raise_problems(PackageInvalid, show(place)[1:-1], [problem])

    def read(relative: str, limit: int) -> bytes:
        path = f"{package.replace('.', '/')}/{relative}"
        if path not in files:  # it may belong to another distribution that shares the package
            fix = (
                "install it from a wheel; where it is installed as editable, put its project folder on the search path"
            )
            raise Unreadable(f"no {path} among the distribution's files", fix)
        with open_folder(Path(place)) as directory:
            return read_regular(directory, path, limit)

    def compare(manifest: Manifest) -> list[Problem]:
        return [
            *entry_point_problems(manifest, extension, package, files, "entry_points.txt"),
            *metadata_problems(manifest, metadata, "METADATA"),
        ]

    return manifest_source(read, origin=place, compare=compare, package=package)
