"""Hostile packages: wheels and project folders; ids are those of the threat list, the rest are our own.

Each carries ``evil``, a line of Python that leaves a mark when it runs, wherever something might run it.
"""

from __future__ import annotations

import io
import json
import os
import random
import socket
import stat
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ray_ext.packages.wheel_writer import record_hash

__all__ = ["FOLDERS", "HARMLESS_FOLDERS", "HARMLESS_WHEELS", "SECRET", "WHEELS", "Attack", "FolderAttack", "honest_folder"]

SECRET = "the operator's secret"
INFO = "hello_world-1.0.dist-info"
MANIFEST = """\
schema_version = 1
id = "hello-world"
name = "Hello"
version = "1.0"
category = "workflow.orchestration"
entry_point = "hello_world:Hello"
"""
GROUP = "[ray_ext.extensions]\n"
Files = dict[str, bytes]


@dataclass(frozen=True)
class Attack:
    """A wheel; ``said`` is part of the refusal, or the name of a file that shows that nothing came of it."""

    id: str
    name: str
    make: Callable[[bytes], bytes]
    said: str

    def __str__(self) -> str:
        return f"{self.id} {self.name}".strip()


@dataclass(frozen=True)
class FolderAttack:
    """Changes an honest project folder; ``outside`` is a folder beside it that holds a secret."""

    id: str
    name: str
    change: Callable[[Path, Path, str], object]
    said: str

    def __str__(self) -> str:
        return f"{self.id} {self.name}".strip()


# ---- wheels, by way of zipfile


def contents(evil: bytes) -> Files:
    return {
        "hello_world/__init__.py": evil + b"class Hello: ...\n",
        "hello_world/extension.toml": MANIFEST.encode(),
        f"{INFO}/METADATA": b"Metadata-Version: 2.1\nName: hello-world\nVersion: 1.0\n",
        f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{INFO}/entry_points.txt": f"{GROUP}hello-world = hello_world\n".encode(),
    }


def record(files: Files) -> bytes:
    lines = [f'"{name}",{record_hash(data)},{len(data)}\n' for name, data in files.items()]
    return "".join([*lines, f"{INFO}/RECORD,,\n"]).encode("utf-8", "surrogatepass")


def wheel(evil: bytes, more: Files | None = None, *, without: str = "", deflate: bool = False) -> bytes:
    """An honest wheel with more files, or one fewer; RECORD is true unless it is among them."""
    files = {**contents(evil), **(more or {})}
    files.pop(without, None)
    if without != f"{INFO}/RECORD":
        files.setdefault(f"{INFO}/RECORD", record(files))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def manifest(evil: bytes, text: str) -> bytes:
    return wheel(evil, {"hello_world/extension.toml": (MANIFEST + text).encode()}, deflate=True)


def info(evil: bytes, name: str, data: bytes) -> bytes:
    return wheel(evil, {f"{INFO}/{name}": data}, deflate=True)


def altered_record(evil: bytes, change: Callable[[bytes], bytes]) -> bytes:
    return info(evil, "RECORD", change(record(contents(evil))))


# ---- wheels, byte by byte (APPNOTE 4.3)


@dataclass
class Member:
    """A member whose headers may say anything: ``local`` and ``central`` replace fields of the two headers."""

    name: bytes
    data: bytes
    local: dict[str, int | bytes] = field(default_factory=dict)
    central: dict[str, int | bytes] = field(default_factory=dict)


def raw(members: Sequence[Member], *, before: bytes = b"", count: int | None = None, comment: bytes = b"") -> bytes:
    body, directory = before, b""
    for member in members:
        said: dict[str, int | bytes] = {
            "version": 20, "flags": 0, "method": 0, "crc": zipfile.crc32(member.data), "packed": len(member.data),
            "size": len(member.data), "extra": b"", "system": 3, "mode": stat.S_IFREG | 0o644, "name": member.name,
            "offset": len(body),
        }  # fmt: skip
        here = {**said, **member.local}
        body += struct.pack(
            "<4s5H3L2H", b"PK\3\4", here["version"], here["flags"], here["method"], 0, 33, here["crc"], here["packed"],
            here["size"], len(_bytes(here["name"])), len(_bytes(here["extra"])),
        ) + _bytes(here["name"]) + _bytes(here["extra"]) + member.data  # fmt: skip
        there = {**said, **member.central}
        directory += struct.pack(
            "<4s4B4H3L5H2L", b"PK\1\2", 20, there["system"], there["version"], 0, there["flags"], there["method"], 0,
            33, there["crc"], there["packed"], there["size"], len(_bytes(there["name"])), len(_bytes(there["extra"])),
            0, 0, 0, int(there["mode"]) << 16, there["offset"],
        ) + _bytes(there["name"]) + _bytes(there["extra"])  # fmt: skip
    number = len(members) if count is None else count
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, number, number, len(directory), len(body), len(comment))
    return body + directory + end + comment


def _bytes(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value


def members(evil: bytes, *odd: Member, recorded: bool = True) -> list[Member]:
    """An honest wheel's members and the odd ones, which RECORD knows."""
    files = contents(evil)
    names = {member.name.decode("utf-8", "surrogateescape"): member.data for member in odd if recorded}
    files[f"{INFO}/RECORD"] = record({**files, **names})
    return [*(Member(name.encode(), data) for name, data in files.items()), *odd]


def odd(evil: bytes, **central: int | bytes) -> bytes:
    return raw(members(evil, Member(b"hello_world/odd", b"/etc/passwd", central=central)))


def overlapping(evil: bytes) -> bytes:
    inner = raw([Member(b"hello_world/inner", evil)])
    inner = inner[: inner.index(b"PK\1\2")]
    every = members(evil, Member(b"hello_world/outer", inner), Member(b"hello_world/inner", evil))
    place = raw(every).index(inner)
    every[-1].central = {"offset": place}
    return raw(every)


def many_entries(evil: bytes) -> bytes:
    honest = raw(members(evil))
    start, end = honest.index(b"PK\1\2"), honest.rindex(b"PK\5\6")
    entry = struct.pack("<4s4B4H3L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = honest[start:end] + entry * 120_000
    return honest[:start] + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 6, 6, len(directory), start, 0)


def zip64_locator(evil: bytes) -> bytes:
    honest = raw(members(evil))
    end = honest.rindex(b"PK\5\6")
    return honest[:end] + struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1) + honest[end:]


def descriptor_lies(evil: bytes) -> bytes:
    """Local headers that leave sizes to data descriptors (bit 3), and descriptors that lie."""
    every = members(evil)
    for member in every:
        member.local = {"flags": 8, "crc": 0, "packed": 0, "size": 0}
        member.central = {"flags": 8, "packed": len(member.data), "crc": zipfile.crc32(member.data)}
        member.central |= {"size": len(member.data)}
        member.data += struct.pack("<4s3L", b"PK\7\x08", 7, 2**31, 5)
    return raw(every)


def nested_bomb() -> bytes:
    data = bytes(2**20)
    for _ in range(4):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(16):
                archive.writestr(f"{number}.zip", data)
        data = buffer.getvalue()
    return data


# ---- wheels that are refused

ELSEWHERE = "a path that may lead elsewhere"
UNPRINTABLE = "unprintable characters in the name"
HIDES = "a module that hides"
LIKE = "the same name as"

NAMES: list[tuple[str, str, str]] = [
    ("S01 dotdot", "../evil.py", ELSEWHERE),
    ("S01 dotdot-inside", "hello_world/../../evil.py", ELSEWHERE),
    ("S01 absolute", "/tmp/evil.py", ELSEWHERE),
    ("S01 network-path", "//server/share/evil.py", ELSEWHERE),
    ("S01 drive", "C:/evil.py", ELSEWHERE),
    ("S01 drive-relative", "C:evil.py", ELSEWHERE),
    ("S01 stream", "hello_world/__init__.py:evil", ELSEWHERE),
    ("S01 backslash", "..\\..\\evil.py", ELSEWHERE),
    ("S01 empty-part", "hello_world//evil.py", ELSEWHERE),
    ("S01 dot-part", "./hello_world/evil.py", ELSEWHERE),
    ("newline", "hello_world/a\n../evil.py", UNPRINTABLE),
    ("terminal-escape", "hello_world/\x1b[2J.py", UNPRINTABLE),
    ("right-to-left", "hello_world/\u202eyp.live", UNPRINTABLE),
    ("zero-width", "hello_world/__init__\u200b.py", UNPRINTABLE),
    ("case-collision", "Hello_World/__INIT__.py", LIKE),
    ("width-collision", "hello_world/\uff3f\uff3finit__.py", LIKE),
    ("slash-collision", "hello_world\uff0f__init__.py", LIKE),
    ("file-as-folder", "hello_world/__init__.py/evil.py", "a file and a folder"),
    ("folder-as-file", "HELLO_WORLD", "a file and a folder"),
    ("long-part", "hello_world/" + "a" * 201, "a very long name"),
    ("long-name", "/".join(["a" * 150] * 7), "a very long name"),
    ("deep-nesting", "a/" * 33 + "evil.py", "folders nested too deeply"),
    ("deep-nesting-bomb", "a/" * 30_000 + "evil.py", "a very long name"),
    ("S05 pth", "evil.pth", "a .pth file"),
    ("S05 pth-in-package", "hello_world/deep/er/evil.pth", "a .pth file"),
    ("S05 pth-upper-case", "EVIL.PTH", "a .pth file"),
    ("S05 pth-full-width", "evil.\uff50\uff54\uff48", "a .pth file"),
    ("S05 pth-in-data", "hello_world-1.0.data/purelib/evil.pth", "a .pth file"),
    ("S05 sitecustomize", "sitecustomize.py", HIDES),
    ("S05 usercustomize-package", "usercustomize/__init__.py", HIDES),
    ("S05 sitecustomize-native", "sitecustomize.cpython-311-x86_64-linux-gnu.so", HIDES),
    ("S05 main", "__main__.py", HIDES),
    ("S10 asyncio", "asyncio/__init__.py", HIDES),
    ("S10 json-module", "json.py", HIDES),
    ("S10 json-namespace", "json/evil/__init__.py", HIDES),
    ("S10 encodings", "encodings/evil.py", HIDES),
    ("S10 upper-case", "Asyncio/__init__.py", HIDES),
    ("S10 ligature", "\ufb01lecmp.py", HIDES),
    ("S10 msgspec", "msgspec/__init__.py", HIDES),
    ("S10 ray_ext", "ray_ext/sandbox/evil.py", HIDES),
    ("S10 ray_ext-native", "ray_ext.abi3.so", HIDES),
    ("S10 socket-native", "_socket.cpython-311-x86_64-linux-gnu.so", HIDES),
    ("S10 data-scripts", "hello_world-1.0.data/scripts/python", "a .data folder"),
    ("S10 data-purelib", "hello_world-1.0.data/purelib/json.py", "a .data folder"),
    ("S10 data-upper-case", "hello_world-1.0.DATA/platlib/json.py", "a .data folder"),
    ("bytecode", "hello_world/__pycache__/__init__.cpython-311.pyc", "bytecode"),
    ("bytecode-beside", "hello_world/evil.pyc", "bytecode"),
    ("bytecode-upper-case", "hello_world/__PYCACHE__/evil.bin", "bytecode"),
    ("second-dist-info", "evil-1.0.dist-info/METADATA", "2 .dist-info folders"),
    ("dist-info-file", "evil.dist-info", "2 .dist-info folders"),
]  # fmt: skip

KIND = "a link or special file"
METADATA_OTHER = b"Name: other\nVersion: 1.0\n"
DAMAGED = "damaged data"

RAW: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("S01 nul", lambda e: raw(members(e, Member(b"hello_world/a.py\0.txt", e), recorded=False)), "a name with a NUL"),
    ("S03 symlink", lambda e: odd(e, mode=stat.S_IFLNK | 0o777), KIND),
    ("S03 symlink-of-dos", lambda e: odd(e, mode=stat.S_IFLNK | 0o777, system=0), KIND),
    ("S03 character-device", lambda e: odd(e, mode=stat.S_IFCHR | 0o666), KIND),
    ("S03 block-device", lambda e: odd(e, mode=stat.S_IFBLK | 0o666), KIND),
    ("S03 pipe", lambda e: odd(e, mode=stat.S_IFIFO | 0o666), KIND),
    ("S03 socket", lambda e: odd(e, mode=stat.S_IFSOCK | 0o666), KIND),
    ("S03 unknown-kind", lambda e: odd(e, mode=0o170000), KIND),
    ("S03 folder-with-content", lambda e: odd(e, mode=stat.S_IFDIR | 0o755), KIND),
    ("S02 overlapping", overlapping, DAMAGED),
    ("S02 one-header-for-two", lambda e: odd(e, offset=0), DAMAGED),
    ("S02 offset-beyond", lambda e: odd(e, offset=2**31), DAMAGED),
    ("S02 zip64-offset", lambda e: odd(e, offset=2**32 - 1, extra=struct.pack("<2HQ", 1, 8, 2**64 - 5)), DAMAGED),
    ("S02 zip64-size", lambda e: odd(e, size=2**32 - 1, packed=2**32 - 1, extra=struct.pack("<2H2Q", 1, 16, 2**63, 2**63)),
     DAMAGED),
    ("S02 zip64-cut", lambda e: odd(e, size=2**32 - 1, extra=struct.pack("<2H", 1, 8)), "no zip archive"),
    ("S02 zip64-locator", zip64_locator, "a zip64 archive"),
    ("S02 size-below", lambda e: odd(e, size=3, packed=3), DAMAGED),
    ("S02 size-above", lambda e: odd(e, size=2**31, packed=2**31), DAMAGED),
    ("S02 many-entries", many_entries, "120006 entries"),
    ("S02 count-above", lambda e: raw(members(e), count=60_000), "60000 entries"),
    ("encrypted", lambda e: odd(e, flags=1), "an unusual compression or encryption"),
    ("strongly-encrypted", lambda e: odd(e, flags=0x40), DAMAGED),
    ("patch-data", lambda e: odd(e, flags=0x20), DAMAGED),
    ("encrypted-local-only", lambda e: raw(members(e, Member(b"hello_world/odd", e, local={"flags": 0x800}))), ""),
    ("lzma", lambda e: odd(e, method=14), "an unusual compression or encryption"),
    ("aes", lambda e: odd(e, method=99), "an unusual compression or encryption"),
    ("deflate-that-is-none", lambda e: odd(e, method=8), DAMAGED),
    ("late-version", lambda e: odd(e, version=64), "no zip archive"),
    ("checksum", lambda e: odd(e, crc=7), DAMAGED),
    ("two-names", lambda e: raw(members(e, Member(b"hello_world/odd", e, local={"name": b"hello_world/ood"}))), DAMAGED),
    ("invalid-utf-8", lambda e: odd(e, flags=0x800, name=b"hello_world/\xff"), "no zip archive"),
    ("duplicate", lambda e: raw(members(e, Member(b"hello_world/__init__.py", e))), LIKE),
    ("normalisation-collision", lambda e: wheel(e, {"hello_world/\u00e9.py": e, "hello_world/e\u0301.py": e}), LIKE),
    ("folding-collision", lambda e: wheel(e, {"hello_world/stra\u00dfe": e, "hello_world/strasse": e}), LIKE),
    ("folder-outside", lambda e: raw(members(e, Member(b"../outside/new/", b""), recorded=False)), ELSEWHERE),
    ("comment", lambda e: raw(members(e), comment=e), "bytes that end in no zip directory"),
    ("trailing-bytes", lambda e: wheel(e) + b"\0", "bytes that end in no zip directory"),
    ("empty", lambda e: b"", "no zip archive"),
    ("end-only", lambda e: raw([]), "0 .dist-info folders"),
    ("S04 source-distribution", lambda e: b"\x1f\x8b\x08" + e * 100, "bytes that end in no zip directory"),
    ("deep-names-bomb", lambda e: wheel(e, {f"d{n}/" + "a/" * 490 + "b": b"" for n in range(3000)}), "nested too deeply"),
]  # fmt: skip


def zeros(evil: bytes, count: int, size_bytes: int) -> bytes:
    return wheel(evil, {f"hello_world/zeros{number}": bytes(size_bytes) for number in range(count)}, deflate=True)


def noise(evil: bytes) -> bytes:
    block = random.Random(1).randbytes(2**20)  # grows less than the limit of growth, and exceeds the total
    half = block + bytes(40 * 2**20)
    return wheel(evil, {f"hello_world/noise{number}": half for number in range(7)}, deflate=True)


BOMBS: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("S02 one-file", lambda e: zeros(e, 1, 65 * 2**20), "more than 67108864 bytes"),
    ("S02 growth", lambda e: zeros(e, 1, 20 * 2**20), "grows more than 200 times"),
    ("S02 growth-in-parts", lambda e: zeros(e, 200, 2**18), "grows more than 200 times"),
    ("S02 total", noise, "more than 268435456 bytes in all"),
    ("S02 size-claimed-small", lambda e: zeros(e, 1, 65 * 2**20).replace((65 * 2**20).to_bytes(4, "little"), b"\1\0\0\0"),
     DAMAGED),
    ("record-bomb", lambda e: info(e, "RECORD", b",,\n" * 4_000_000), "more than 10000 lines"),
    ("record-empty-lines", lambda e: info(e, "RECORD", b"\n" * 15_000_000), "more than 10000 lines"),
    ("record-field-bomb", lambda e: info(e, "RECORD", b'"' * 15_000_000), "no CSV"),
    ("metadata-bomb", lambda e: info(e, "METADATA", b"a:\n" * 349_000), "METADATA: Name: found None"),
    ("metadata-large", lambda e: info(e, "METADATA", b"\n" * (2**20 + 1)), "more than 1048576 bytes"),
    ("entry-points-regex", lambda e: info(e, "entry_points.txt", GROUP.encode() + b"a" + b" " * 10**6 + b"b"), "<id> ="),
    ("entry-points-sections", lambda e: info(e, "entry_points.txt", b"[%d]\n" * 200_000), "no entry"),
    ("entry-points-entries", lambda e: info(e, "entry_points.txt", GROUP.encode() + b"a=b\n" * 200_000), "<id> ="),
    ("manifest-large", lambda e: manifest(e, "#" * 300_000), "extension.toml: found more than 262144 bytes"),
]  # fmt: skip

RECORDS: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("S07 missing", lambda e: wheel(e, without=f"{INFO}/RECORD"), "an incomplete .dist-info folder"),
    ("S07 empty", lambda e: info(e, "RECORD", b""), "a file beside RECORD"),
    ("S07 hash", lambda e: info(e, "RECORD", record(contents(b"other\n"))), "content that differs from its hash"),
    ("S07 unrecorded", lambda e: raw(members(e, Member(b"hello_world/evil.py", e), recorded=False)), "a file beside"),
    ("S07 no-hash", lambda e: altered_record(e, lambda r: r.replace(b",sha256=", b",", 1)), "each file once"),
    ("S07 empty-hash", lambda e: altered_record(e, lambda r: b'"hello_world/__init__.py",,\n' + r.partition(b"\n")[2]),
     "each file once"),
    ("S07 md5", lambda e: altered_record(e, lambda r: r.replace(b"sha256=", b"md5=", 1)), "each file once"),
    ("S07 padded", lambda e: altered_record(e, lambda r: r.replace(b",", b"=,", 2)), "each file once"),
    ("S07 twice", lambda e: altered_record(e, lambda r: r + r), "each file once"),
    ("S07 absolute", lambda e: altered_record(e, lambda r: r + b"/etc/passwd,sha256=" + b"A" * 43 + b",1\n"), "no such file"),
    ("S07 dotdot", lambda e: altered_record(e, lambda r: r + b"../x,sha256=" + b"A" * 43 + b",1\n"), "no such file"),
    ("S07 four-columns", lambda e: altered_record(e, lambda r: r + b"a,b,c,d\n"), "each file once"),
    ("S07 signature", lambda e: wheel(e, {f"{INFO}/RECORD.jws": b"{}", f"{INFO}/RECORD": record(contents(e))}), "beside"),
]  # fmt: skip

IDENTITIES: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("other-name", lambda e: info(e, "METADATA", METADATA_OTHER), "METADATA: Name: found 'other'"),
    ("other-version", lambda e: info(e, "METADATA", b"Name: hello-world\nVersion: 9\n"), "METADATA: Version: found '9'"),
    ("name-after-body", lambda e: info(e, "METADATA", b"\nName: hello-world\nVersion: 1.0\n"), "Name: found None"),
    ("folded-name", lambda e: info(e, "METADATA", b"Name: hello-world\n evil\nVersion: 1.0\n"), "METADATA: Name: found"),
    ("other-id", lambda e: info(e, "entry_points.txt", f"{GROUP}other = hello_world\n".encode()), "found 'other'"),
    ("other-package", lambda e: wheel(e, {f"{INFO}/entry_points.txt": f"{GROUP}hello-world = evil\n".encode(),
                                          "evil/extension.toml": MANIFEST.encode()}), "a module in the package evil"),
    ("no-manifest", lambda e: wheel(e, without="hello_world/extension.toml"), "extension.toml: found no such file"),
    ("traversing-package", lambda e: info(e, "entry_points.txt", f"{GROUP}hello-world = ..outside\n".encode()), "<id> ="),
    ("two-extensions", lambda e: info(e, "entry_points.txt", f"{GROUP}a = hello_world\nb = evil\n".encode()), "one entry"),
    ("class-as-entry", lambda e: info(e, "entry_points.txt", f"{GROUP}hello-world = hello_world:X\n".encode()), "<id> ="),
    ("scripts-only", lambda e: info(e, "entry_points.txt", b"[console_scripts]\npython = hello_world:x\n"), "no entry"),
    ("namespace-package", lambda e: wheel(e, without="hello_world/__init__.py"), "a module in the package hello_world"),
    ("runtime-as-entry", lambda e: wheel(e, {"hello_world/extension.toml":
        MANIFEST.replace("hello_world:Hello", "os:system").encode()}), "entry_point"),
]  # fmt: skip

HEX = "0x" + "f" * 200_000
MANIFESTS: list[tuple[str, str, str]] = [
    *((f"S13 {name}", f"[runtime_env.env_vars]\n{name} = '/evil'\n", "variables that do not change the interpreter")
      for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONSTARTUP", "RAY_ADDRESS", "PATH", "BASH_ENV",
                   "GLIBC_TUNABLES", "OPENSSL_CONF", "MALLOC_ARENA_MAX")),
    ("S13 newline", '[runtime_env.env_vars]\n"A\\nLD_PRELOAD" = "x"\n', "letters, digits and underscores"),
    *((f"S09 requirement-{number}", f"[runtime_env]\npip = [{json.dumps(requirement)}]\n", "a requirement by PEP 508")
      for number, requirement in enumerate((
          "evil @ file:///tmp/evil.whl", "evil @ git+https://example.org/evil", "git+https://example.org/evil", "./evil",
          "/tmp/evil.whl", "-r requirements.txt", "--index-url=https://example.org", "evil\n--index-url=x", "$HOME",
          "evil --hash=sha256:00", "evil; python_version" + "(" * 400))),
    ("C01 schema-recursion", '[configuration]\n"$ref" = "#"\n', "configuration"),
    ("C01 schema-file-reference", '[configuration.properties.a]\n"$ref" = "file:///etc/passwd"\n', "same document"),
    ("C01 schema-nesting", "[configuration]\nproperties = " + "{x = {properties = " * 60 + "{}" + "}}" * 60, "configuration"),
    ("C02 pattern", "[configuration.properties.a]\npattern = '(a+)+(?=b)$'\n", "RE2"),
    ("C08 duplicate-key", 'id = "other"\n', "a syntax error"),
    ("C08 dotted-key", "a." * 100_000 + "a = 1\n", "a longer dotted key"),
    ("C08 nesting", "a = " + "[" * 200_000, "nested too deeply"),
    ("C08 digits", "a = " + "9" * 200_000, "TOML 1.0"),
    ("C08 hexadecimal-key", f"a = {HEX}\n", "an unknown key"),
    ("C08 hexadecimal-cpus", f"[resources]\ncpus = {HEX}\n", "resources.cpus"),
    ("C08 hexadecimal-memory", f"[resources]\nmemory = {HEX}\n", "resources.memory"),
    ("C08 hexadecimal-timeout", f"[health]\ntimeout = {HEX}\n", "health.timeout"),
    ("C08 hexadecimal-schema", f"[configuration.properties.a]\nmaximum = {HEX}\n", "64 bits"),
    ("C08 not-a-number", "[configuration.properties.a]\nconst = nan\n", "finite"),
    ("schema-file-dotdot", '[configuration]\nschema_file = "../../outside/secret"\n', "configuration.schema_file"),
    ("schema-file-absolute", '[configuration]\nschema_file = "/etc/passwd"\n', "configuration.schema_file"),
    ("schema-file-nul", '[configuration]\nschema_file = "a\\u0000b"\n', "configuration.schema_file"),
    ("schema-file-missing", '[configuration]\nschema_file = "no.json"\n', "no.json: found no such file"),
    ("header-injection", 'description = "x\\nRequires-Dist: evil"\n', "one line of printable text"),
    ("terminal-injection", 'author = "\\u001b[2J"\n', "one line of printable text"),
]  # fmt: skip


def _named(evil: bytes, name: str) -> bytes:
    return wheel(evil, {name: b"import os; " + evil})


def _split(title: str) -> tuple[str, str]:
    head, space, rest = title.partition(" ")
    return (head, rest) if space else ("", head)
