"""Zip archives (wheels) that nobody vouches for: members checked by name and kind, and read within real bounds.

What the archive says about sizes is never believed: the limits count bytes as they come out of the decompressor.
"""

from __future__ import annotations

import os
import stat
import struct
import unicodedata
import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import IO, NoReturn

from ray_ext.errors import PackageInvalid
from ray_ext.manifests.grammar import RESERVED_MODULES
from ray_ext.manifests.problems import Problem, raise_problems, show

__all__ = ["DEPTH", "FILES", "FILE_BYTES", "TOTAL_BYTES", "Archive", "name_problems", "open_archive"]

FILES = 10_000
"""Files in a package."""
FILE_BYTES = 64 * 2**20
"""Bytes of one file."""
TOTAL_BYTES = 256 * 2**20
"""Bytes of all files, and of the wheel itself."""
DEPTH = 32
"""Folders on the way to a file; removing what lies deeper exhausts the interpreter's stack or its descriptors."""

_RATIO = 200
"""Times that a wheel may grow when it is unpacked, once that is above _RATIO_FROM. Source text grows 3 to 10 times."""
_RATIO_FROM = 16 * 2**20

_DIRECTORY_BYTES = FILES * 600
_LOCAL_HEADER_BYTES = 30  # without name and extra field, APPNOTE 4.3.7
_END = struct.Struct("<4s4H2LH")  # the end of central directory record, APPNOTE 4.3.16


class Archive:
    """An open archive whose member names and kinds are checked."""

    def __init__(self, zip_file: zipfile.ZipFile, file: str, size_bytes: int) -> None:
        self._zip = zip_file
        self._file = file
        self._left = TOTAL_BYTES
        self._grown = 0
        self._allowed = max(_RATIO_FROM, _RATIO * size_bytes)
        self._members = {info.filename: info for info in zip_file.infolist() if not info.is_dir()}

    @property
    def names(self) -> list[str]:
        """The names of all files, in the archive's order."""
        return list(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str, limit: int = FILE_BYTES) -> bytes:
        """The content of a file, at most ``limit`` bytes; raises PackageInvalid."""
        try:
            with self._zip.open(self._members[name]) as member:
                data = member.read(limit + 1)
        except (
            zipfile.BadZipFile,
            zlib.error,
            OSError,
            EOFError,
            ValueError,
            OverflowError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            # RuntimeError is zipfile's word for encrypted members, OverflowError is Python's for absurd offsets; the
            # others are damage.
            _refuse(self._file, name, f"damaged data ({show(str(error))[1:-1]})", "a readable file", "build it again")
        if len(data) > limit:
            _refuse(self._file, name, f"more than {limit} bytes", f"at most {limit} bytes", "make the file smaller")
        self._left -= len(data)
        self._grown += len(data)
        if self._left < 0:
            found, allowed = f"more than {TOTAL_BYTES} bytes in all", f"at most {TOTAL_BYTES} bytes"
            _refuse(self._file, "", found, allowed, "make the package smaller")
        if self._grown > self._allowed:
            found = f"data that grows more than {_RATIO} times when it is unpacked"
            _refuse(self._file, name, found, "ordinary compression", "leave such data out of the package")
        return data


@contextmanager
def open_archive(file: IO[bytes], origin: str) -> Iterator[Archive]:
    """An archive whose members all have safe names and kinds; raises PackageInvalid with every problem."""
    shown = show(origin)[1:-1]
    size_bytes = file.seek(0, os.SEEK_END)
    _check_end(file, size_bytes, shown)
    file.seek(0)
    try:
        zip_file = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
        _refuse(shown, "", f"no zip archive ({show(str(error))[1:-1]})", "a wheel", "build it again")
    with zip_file:
        if (count := len(zip_file.infolist())) > FILES:  # the end record's number, checked above, may lie
            _refuse(shown, "", f"{count} entries", f"at most {FILES} files", "make the package smaller")
        problems = _member_problems(zip_file.infolist(), shown)
        if problems:
            raise_problems(PackageInvalid, shown, problems)
        yield Archive(zip_file, shown, size_bytes)


def _refuse(file: str, key: str, found: str, allowed: str, fix: str) -> NoReturn:
    raise_problems(PackageInvalid, file, [Problem(file, key, found, allowed, fix)])


def _check_end(file: IO[bytes], size_bytes: int, shown: str) -> None:
    """Bound the directory before zipfile reads it whole: its entries take far more memory than bytes."""
    if size_bytes > TOTAL_BYTES + _DIRECTORY_BYTES:
        _refuse(shown, "", f"{size_bytes} bytes", f"at most {TOTAL_BYTES} bytes", "make the package smaller")
    allowed = "a wheel: a zip archive without comment, zip64 and several disks"
    if size_bytes < _END.size:
        _refuse(shown, "", f"{size_bytes} bytes that are no zip archive", allowed, "build it again")
    file.seek(size_bytes - _END.size)
    signature, _, _, _, entries, directory_bytes, _, comment_bytes = _END.unpack(file.read(_END.size))
    if signature != b"PK\5\6" or comment_bytes:
        _refuse(shown, "", "bytes that end in no zip directory", allowed, "build it again")
    if entries > FILES or directory_bytes > _DIRECTORY_BYTES:
        found = f"{entries} entries in a directory of {directory_bytes} bytes"
        _refuse(shown, "", found, f"at most {FILES} files", "make the package smaller")
    if size_bytes >= _END.size + 20:
        file.seek(size_bytes - _END.size - 20)
        if file.read(4) == b"PK\6\7":  # the locator through which zipfile would take other numbers than these
            _refuse(shown, "", "a zip64 archive", allowed, "build it again")


def _member_problems(members: list[zipfile.ZipInfo], file: str) -> list[Problem]:
    problems = []
    for member in members:
        name = show(member.orig_filename)[1:-1]
        kind = stat.S_IFMT(member.external_attr >> 16)
        if member.orig_filename != member.filename:  # zipfile cuts names at a NUL
            problems.append(Problem(file, name, "a name with a NUL", "ordinary names", "rename the file"))
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR and not member.is_dir()):
            problems.append(Problem(file, name, "a link or special file", "regular files", "leave it out"))
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 0x1:
            found = "an unusual compression or encryption"
            problems.append(Problem(file, name, found, "stored or deflated files", "build it again"))
    for member, following in pairwise(sorted(members, key=lambda member: member.header_offset)):
        if member.header_offset + _LOCAL_HEADER_BYTES + member.compress_size > following.header_offset:
            name = show(following.filename)[1:-1]
            problems.append(
                Problem(file, name, "data that overlaps another file's", "data of its own", "build it again")
            )
    names = [member.filename for member in members if not member.is_dir()]
    folders = [member.filename.rstrip("/") for member in members if member.is_dir()]
    return problems + name_problems(names, file, folders=folders)


def name_problems(names: list[str], file: str, *, folders: list[str] | None = None) -> list[Problem]:
    """What is wrong with the names of a package's files, each by itself and all together."""
    problems = [
        Problem(file, show(name)[1:-1], found, allowed, "rename it or leave it out")
        for name in [*names, *(folders or ())]
        for found, allowed in _one_name_problems(name)
    ]
    seen: dict[str, str] = {}
    for name in names:
        folded = _folded(name)
        if folded in seen:
            found = f"the same name as {show(seen[folded])}, but for case or Unicode form"
            problems.append(Problem(file, show(name)[1:-1], found, "names that differ everywhere", "rename one"))
        seen[folded] = name
    ordered = sorted(seen)
    for folded, name in seen.items():
        after = bisect_left(ordered, f"{folded}/")
        if after < len(ordered) and ordered[after].startswith(f"{folded}/"):
            problems.append(Problem(file, show(name)[1:-1], "a file and a folder", "one", "rename one"))
    return problems


def _one_name_problems(name: str) -> Iterator[tuple[str, str]]:
    parts = name.split("/")
    if len(name.encode("utf-8", "replace")) > 1024 or any(len(part.encode("utf-8", "replace")) > 200 for part in parts):
        yield "a very long name", "at most 200 bytes in each part, 1024 in all"
        return
    if len(parts) > DEPTH + 1:
        yield "folders nested too deeply", f"at most {DEPTH} levels"
    if any(part in ("", ".", "..") for part in parts) or "\\" in name or ":" in name:
        yield "a path that may lead elsewhere", "relative paths without .., empty parts, colons and backslashes"
    if not name.isprintable() or not _is_unicode(name):
        yield "unprintable characters in the name", "printable Unicode names"
    if _folded(name).endswith(".pth"):
        yield "a .pth file", "no .pth files: the interpreter would run their lines"
    if "__pycache__" in map(_folded, parts) or _folded(name).endswith(".pyc"):
        yield "bytecode", "sources: bytecode that is not made from them could hide anything"
    top = _folded(parts[0])
    if top.endswith(".data"):
        yield "a .data folder", "files in the package itself"
    if not top.endswith(".dist-info") and top.split(".")[0] in RESERVED_MODULES:
        yield "a module that hides one of the standard library or the runtime", "top-level names of its own"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _is_unicode(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
