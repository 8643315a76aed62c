"""Wheels as nobody should build them: honest ones with odd files, and archives whose headers lie.

``evil`` is a line of Python that leaves a mark when it runs; every wheel holds it where something might run it.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ray_ext.packages.wheel_writer import record_hash

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
            "version": 20, "flags": 0, "method": 0, "crc": zlib.crc32(member.data), "packed": len(member.data),
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
        member.central = {"flags": 8, "packed": len(member.data), "crc": zlib.crc32(member.data)}
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


def other_dist_info(evil: bytes) -> bytes:
    """An honest wheel but for the name of its ``.dist-info`` folder."""
    files = {member.name.replace(INFO.encode(), b"other-9.dist-info"): member.data for member in members(evil)}
    name = b"other-9.dist-info/RECORD"
    del files[name]
    text = record({path.decode(): data for path, data in files.items()}).replace(f"{INFO}/RECORD".encode(), name)
    return raw([Member(path, data) for path, data in [*files.items(), (name, text)]])
