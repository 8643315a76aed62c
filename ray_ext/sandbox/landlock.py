"""Which files a guest may reach, as Landlock rules; computed in the host, applied in the guest.

Every right that the kernel's ABI knows is handled, so what no rule allows is denied. Rules only ever add up: a rule for
a tree cannot be narrowed below it. So :func:`path_rules` refuses a data directory that lies inside, or around,
something readable.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterable, Iterator
from enum import IntFlag
from pathlib import Path
from typing import Final

__all__ = ["MINIMUM_ABI", "Right", "path_rules", "ruleset", "system_paths"]

MINIMUM_ABI: Final = 3
"""Before ABI 3 (Linux 6.2) Landlock let ``truncate`` pass on every file of the guest's user."""

_NEWEST_ABI: Final = 7  # Linux 6.15; a newer kernel accepts an older ABI's rulesets


class Right(IntFlag):
    """``LANDLOCK_ACCESS_FS_*``."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


_FIRST_ABI: Final = {Right.REFER: 2, Right.TRUNCATE: 3, Right.IOCTL_DEV: 5}
_NET_BIND_AND_CONNECT: Final = 3  # LANDLOCK_ACCESS_NET_{BIND,CONNECT}_TCP, ABI 4
_SCOPE_SOCKETS_AND_SIGNALS: Final = 3  # LANDLOCK_SCOPE_{ABSTRACT_UNIX_SOCKET,SIGNAL}, ABI 6

_READ: Final = Right.READ_FILE | Right.READ_DIR
_WRITE: Final = (
    _READ
    | Right.WRITE_FILE
    | Right.TRUNCATE
    | Right.REMOVE_DIR
    | Right.REMOVE_FILE
    | Right.MAKE_DIR
    | Right.MAKE_REG
    | Right.MAKE_SYM
    | Right.REFER
)

# Directories of shared libraries, and public data that libraries look for. Private keys (/etc/ssl/private,
# /etc/pki/tls/private) lie next to the certificates: so no whole /etc/ssl.
_SYSTEM_READABLE: Final = (
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/usr/share/ca-certificates",
    "/usr/share/zoneinfo",
    "/etc/localtime",
    "/etc/mime.types",
    "/dev/urandom",
    "/dev/zero",
)
_NULL_DEVICE: Final = "/dev/null"


def _handled(abi: int) -> Right:
    return Right(sum(right for right in Right if _FIRST_ABI.get(right, 1) <= abi))


def ruleset(abi: int) -> bytes:
    """``struct landlock_ruleset_attr`` that handles all an ABI knows: files, TCP (none allowed), and scopes."""
    abi = min(abi, _NEWEST_ABI)
    words = [int(_handled(abi))]
    if abi >= 4:
        words.append(_NET_BIND_AND_CONNECT)
    if abi >= 6:
        words.append(_SCOPE_SOCKETS_AND_SIGNALS)
    return struct.pack(f"={len(words)}Q", *words)


def system_paths() -> Iterator[Path]:
    """What any guest may read of this machine: its interpreter's standard library, and the system's libraries."""
    # sysconfig would know, too, for 0.3 MiB of each host.
    yield Path(os.__file__).parent
    yield Path(sys.base_exec_prefix, sys.platlibdir, f"python{sys.version_info.major}.{sys.version_info.minor}")
    yield from _shared_libpython()
    yield from map(Path, _SYSTEM_READABLE)


def _shared_libpython() -> Iterator[Path]:
    """The library that the interpreter is in, where it is not in the executable."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            # address perms offset dev inode path
            path = line.rstrip("\n").split(maxsplit=5)[5:]
            if path and os.path.basename(path[0]).startswith("libpython"):
                yield Path(path[0])
                return


def path_rules(abi: int, *, readable: Iterable[Path], data_dir: Path) -> list[tuple[str, int]]:
    """The rules for a guest that may read ``readable`` and the system's paths, and write ``data_dir``.

    ``readable`` and ``data_dir`` must exist. Raises ValueError where a data directory and a readable path overlap, for
    then the guest could write what it may only read, or others could read its data.
    """
    handled = _handled(min(abi, _NEWEST_ABI))
    home = data_dir.resolve(strict=True)
    trees = {path.resolve(strict=True) for path in readable}
    trees |= {path.resolve() for path in system_paths() if path.exists()}
    for tree in trees:
        if tree.is_relative_to(home) or home.is_relative_to(tree):
            raise ValueError(f"the data directory {home} and the readable path {tree} overlap")
    rules = [(os.fspath(tree), int(_fitting(_READ, tree) & handled)) for tree in sorted(trees)]
    return [
        *rules,
        (os.fspath(home), int(_WRITE & handled)),
        (_NULL_DEVICE, int(Right.READ_FILE | Right.WRITE_FILE)),
    ]


def _fitting(rights: Right, path: Path) -> Right:
    """The rights that make sense for this path: the kernel refuses a directory's rights on a file."""
    return rights if path.is_dir() else rights & (Right.READ_FILE | Right.WRITE_FILE | Right.TRUNCATE)
