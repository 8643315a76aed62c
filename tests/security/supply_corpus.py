"""Hostile wheels, each under the id that it has on the threat list; those without one are our own."""

# ruff: noqa: E501 - one attack a line: it reads as a table

from __future__ import annotations

import json
import random
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass

from .supply_archives import (
    GROUP,
    INFO,
    MANIFEST,
    Member,
    altered_record,
    contents,
    descriptor_lies,
    info,
    manifest,
    many_entries,
    members,
    nested_bomb,
    odd,
    other_dist_info,
    overlapping,
    raw,
    record,
    wheel,
    zip64_locator,
)

__all__ = ["HARMLESS_WHEELS", "WHEELS", "Attack"]


@dataclass(frozen=True)
class Attack:
    """A wheel; ``said`` is part of the refusal, or the name of a file that shows that nothing came of it."""

    title: str
    make: Callable[[bytes], bytes]
    said: str

    def __str__(self) -> str:
        return self.title


ELSEWHERE = "a path that may lead elsewhere"
UNPRINTABLE = "unprintable characters in the name"
HIDES = "a module that hides"
LIKE = "the same name as"


# ---- wheels that are refused

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
OVERLAPS = "data that overlaps"

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
    ("S02 overlapping", overlapping, OVERLAPS),
    ("S02 one-header-for-two", lambda e: odd(e, offset=0), OVERLAPS),
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


# ---- wheels that are accepted, because nothing comes of them

INIT = "hello_world/__init__.py"
NESTED = "((((((((((" * 20_000

HARMLESS: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("S03 setuid", lambda e: odd(e, mode=stat.S_IFREG | 0o6777), "hello_world/odd"),
    ("S03 folder-by-attribute", lambda e: odd(e, mode=0x10, system=0), "hello_world/odd"),
    ("S02 nested-archives", lambda e: wheel(e, {"hello_world/42.zip": nested_bomb()}), "hello_world/42.zip"),
    ("S02 descriptor-lies", descriptor_lies, INIT),
    ("S02 local-sizes-lie", lambda e: raw(members(e, Member(b"hello_world/odd", e, local={"size": 2**31, "packed": 1}))),
     "hello_world/odd"),
    ("S02 count-below", lambda e: raw(members(e), count=1), INIT),
    ("S04 build-scripts", lambda e: wheel(e, dict.fromkeys(("setup.py", "conftest.py", "noxfile.py"), e)), "setup.py"),
    ("S05 deeper-sitecustomize", lambda e: wheel(e, {"hello_world/sitecustomize.py": e}), "hello_world/sitecustomize.py"),
    ("S05 codec", lambda e: wheel(b"# coding: hello_world\n" + e), INIT),
    ("S07 sizes-lie", lambda e: altered_record(e, lambda r: r.replace(b"\n", b"9\n")), INIT),
    ("S07 own-hash", lambda e: altered_record(e, lambda r: r.replace(b"RECORD,,", b"RECORD,sha256=x,1")), INIT),
    ("S10 deeper-json", lambda e: wheel(e, {"hello_world/json.py": e}), "hello_world/json.py"),
    ("S10 programs", lambda e: wheel(e, {"bin/python": b"#!/bin/sh\n" + e}), "bin/python"),
    ("S10 scripts", lambda e: info(e, "entry_points.txt", f"[console_scripts]\npython = hello_world:x\n{GROUP}"
     "hello-world = hello_world\n[pytest11]\nx = hello_world\n[distutils.commands]\nx = hello_world:x\n".encode()), INIT),
    ("S09 foreign-requirement", lambda e: info(e, "METADATA", b"Name: hello-world\nVersion: 1.0\n"
     b"Requires-Dist: evil @ file:///tmp/evil.whl\nName: other\nVersion: 9\n"), INIT),
    ("prefix", lambda e: raw(members(e), before=b"#!/bin/sh\n" + e), INIT),
    ("two-archives", lambda e: raw(members(e), before=wheel(e, {"hello_world/first.py": e})), INIT),
    ("folder-with-bytes", lambda e: raw(members(e, Member(b"hello_world/", e), recorded=False)), INIT),
    ("full-width-dots", lambda e: wheel(e, {"\uff0e\uff0e/evil.py": e}), "\uff0e\uff0e/evil.py"),
    ("names-of-devices", lambda e: wheel(e, {"hello_world/nul.": e, "hello_world/aux.py": e}), "hello_world/aux.py"),
    ("other-dist-info", other_dist_info, "other-9.dist-info/METADATA"),
    ("later-wheel-version", lambda e: info(e, "WHEEL", b"Wheel-Version: 99.0\nRoot-Is-Purelib: false\n"), INIT),
    ("parser-bomb", lambda e: wheel(e, {"hello_world/bomb.py": NESTED.encode()}), "hello_world/bomb.py"),
    ("compiler-bomb", lambda e: wheel(e, {"hello_world/bomb.py": b"x = " + b"-" * 10**6 + b"1"}), "hello_world/bomb.py"),
]  # fmt: skip


def _named(name: str) -> Callable[[bytes], bytes]:
    return lambda evil: wheel(evil, {name: b"import os; " + evil})


def _with_manifest(text: str) -> Callable[[bytes], bytes]:
    return lambda evil: manifest(evil, text)


WHEELS = [
    Attack(title, make, said)
    for title, make, said in (
        *((title, _named(name), said) for title, name, said in NAMES),
        *RAW, *BOMBS, *RECORDS, *IDENTITIES,
        *((title, _with_manifest(text), said) for title, text, said in MANIFESTS),
    )
]  # fmt: skip
HARMLESS_WHEELS = [Attack(title, make, said) for title, make, said in HARMLESS]
