"""A wheel's RECORD: the hash of every file, and the check that a wheel holds exactly those files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from typing import NoReturn

from ray_ext.errors import PackageInvalid
from ray_ext.manifests.archive import FILES, Archive
from ray_ext.manifests.problems import Problem, raise_problems, show
from ray_ext.manifests.wheel_reading import dist_info
from ray_ext.packages.wheel_writer import record_hash

__all__ = ["recorded_hashes", "verified_files"]

_RECORD_BYTES = 16 * 2**20
_HASH = re.compile(r"sha256=[A-Za-z0-9_-]{43}")


def recorded_hashes(archive: Archive, origin: str) -> dict[str, str]:
    """The hash of each file of a wheel, RECORD's own included; raises PackageInvalid unless RECORD names them all.

    Hashes are written as RECORD writes them: ``sha256=`` and unpadded URL-safe base64.
    """
    name = f"{dist_info(archive, origin)}/RECORD"
    data = archive.read(name, _RECORD_BYTES)
    hashes: dict[str, str] = {}
    problems = []
    for row in _rows(data, name, origin):
        path, digest = (row[0], row[1]) if len(row) == 3 else ("", "")
        if path in hashes or (path != name and not _HASH.fullmatch(digest)):
            allowed = "each file once: path,sha256=...,size"
            problems.append(Problem(name, show(path)[1:-1], show(row), allowed, "build the wheel again"))
        hashes[path] = digest
    fix = "build the wheel again"
    unnamed, missing = set(archive.names) - set(hashes), set(hashes) - set(archive.names)
    problems += [Problem(name, show(path)[1:-1], "a file beside RECORD", "recorded files", fix) for path in unnamed]
    problems += [Problem(name, show(path)[1:-1], "no such file in the wheel", "its files", fix) for path in missing]
    if problems:
        raise_problems(PackageInvalid, show(origin)[1:-1], problems)
    return {**hashes, name: record_hash(data)}


def verified_files(archive: Archive, hashes: Mapping[str, str], origin: str) -> Iterator[tuple[str, bytes]]:
    """The files of a wheel, each with its content; raises PackageInvalid where one differs from its hash."""
    for path in archive.names:
        data = archive.read(path)
        if record_hash(data) != hashes[path]:
            _refuse(origin, path, "content that differs from its hash in RECORD", "unchanged files")
        yield path, data


def _rows(data: bytes, name: str, origin: str) -> list[list[str]]:
    rows = []
    try:
        for row in csv.reader(io.StringIO(data.decode("utf-8"), newline="")):
            rows.append(row)
            if len(rows) > FILES:  # rows take far more memory than their text
                _refuse(origin, name, f"more than {FILES} lines", "a line for each file")
    except (csv.Error, UnicodeDecodeError) as error:
        _refuse(origin, name, f"no CSV in UTF-8 ({show(str(error))[1:-1]})", "lines of path,sha256=...,size")
    return [row for row in rows if row]


def _refuse(origin: str, path: str, found: str, allowed: str) -> NoReturn:
    problem = Problem(show(path)[1:-1], "", found, allowed, "build the wheel again")
    raise_problems(PackageInvalid, show(origin)[1:-1], [problem])
