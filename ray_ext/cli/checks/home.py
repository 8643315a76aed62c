"""The state home: whose it is, who can read it, what kind of file system it is on, how long its paths are."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from ray_ext.cli.checking import Finding, Patient, check, command_line, fail, ok, skip, warn
from ray_ext.home import Home

__all__ = ["home_file_system", "home_rights", "path_lengths"]

_SHOWN = 8
#: SQLite's WAL and our locks need the memory and the kernel of one machine: <https://sqlite.org/wal.html>, 1.
_REMOTE = {"9p", "afs", "ceph", "cifs", "fuse.sshfs", "fuse.glusterfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs"}
_REMOTE |= {"nfs4", "smb3", "smbfs", "virtiofs"}
_IN_MEMORY = {"ramfs", "tmpfs"}
#: sockaddr_un's sun_path, without the 0 at its end.
_SOCKET_BYTES = 107
#: Ray's longest name of a socket, below its temporary folder; a process id has up to 7 digits.
_RAY_SOCKET = "/session_2026-11-24_15-48-28_123456_1234567/sockets/plasma_store"
#: What is below the state home: an environment's modules, a package's lock, an extension's data.
_DEEPEST = 512


@check("home-rights", "Rights of the state home")
def home_rights(patient: Patient) -> Finding:
    """Nobody else may read the state home, and all of it belongs to its owner."""
    root = patient.home.root
    if not os.path.lexists(root):
        return skip(f"{root} is not there yet; ray-ext up makes it")
    owner = _owner(root)
    if not root.is_dir():
        return fail(f"{root} is no folder", "export RAY_EXT_HOME=FOLDER")
    if os.stat(root).st_uid != owner:
        # Nothing in it can be looked at.
        whose = f"{root} belongs to {os.stat(root).st_uid}, and you are {owner}"
        return fail(whose, f"{command_line('sudo', 'chown', '-R', owner, root)}  # or: export RAY_EXT_HOME=FOLDER")
    wrong: list[str] = []
    fixes: dict[str, list[str]] = {}
    count = 0
    for path, mode in _private(patient.home):
        try:
            facts = os.lstat(path)
        except FileNotFoundError:
            # Gone since it was listed, as temporary files of a runtime at work are.
            continue
        count += 1
        if facts.st_uid != owner:
            wrong.append(f"{path} belongs to {facts.st_uid}, not to {owner}")
            fixes.setdefault(f"chown -h {owner}", []).append(str(path))
        if stat.S_ISLNK(facts.st_mode):
            continue
        found = stat.S_IMODE(facts.st_mode)
        if found & 0o077 or found & mode != mode:
            wrong.append(f"{path} has {found:04o}, not {mode:04o}")
            fixes.setdefault(f"chmod {mode:04o}", []).append(str(path))
    if not wrong:
        return ok(f"{root} and the {count - 1} private folders and files in it are their owner's alone")
    more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
    # What is named lies in the fix as a whole: it can be pasted.
    fix = " && ".join(command_line(*command.split(), *paths) for command, paths in sorted(fixes.items()))
    return fail("; ".join([*wrong[:_SHOWN], *more]), fix)


def _owner(root: Path) -> int:
    """Whose the state home should be: root may look at another's."""
    user = os.geteuid()
    return os.stat(root).st_uid if user == 0 else user


def _private(home: Home) -> Iterator[tuple[Path, int]]:
    """What must be its owner's alone, with its mode, as far as it is there."""
    folders = [
        home.root,
        home.run,
        home.packages,
        home.environments,
        home.layers,
        home.logs,
        home.data,
        home.extensions,
    ]
    files = [*home.root.glob("store.db*"), *_entries(home.run)]
    for folder in folders:
        # The operator's own folder, with packages that are no secrets.
        if folder != home.extensions and os.path.lexists(folder):
            yield folder, 0o700
    yield from ((path, 0o700 if path.is_dir() and not path.is_symlink() else 0o600) for path in sorted(files))
    for parent, names, logs in os.walk(home.logs):
        yield from ((Path(parent, name), 0o700) for name in sorted(names))
        yield from ((Path(parent, name), 0o600) for name in sorted(logs))
    yield from ((path, 0o700) for path in sorted(_entries(home.data)))
    if os.path.lexists(home.ray_temp):
        # Ray's logs and sockets.
        yield home.ray_temp, 0o700


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


@check("home-file-system", "File system of the state home")
def home_file_system(patient: Patient) -> Finding:
    """On this machine, and there after a boot."""
    root = patient.home.root
    mounted_at, kind = _mount_of(root)
    seen = f"{root} is on {kind}, mounted at {mounted_at}"
    fix = "export RAY_EXT_HOME=FOLDER  # one on a disk of this machine; move what is there while no runtime is up"
    if kind in _REMOTE:
        return fail(f"{seen}: SQLite and our locks need a file system of one machine", fix)
    if kind in _IN_MEMORY:
        return warn(f"{seen}: everything in it is lost when the machine stops", fix)
    return ok(seen)


def _mount_of(path: Path) -> tuple[str, str]:
    """Where the file system that holds the path is mounted, and its kind."""
    real = os.fsencode(os.path.realpath(path))
    found, kind = b"/", b"unknown"
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        # Spaces and the like are written in octal: proc(5).
        place = re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), before.split()[4])
        # The last of several at one place hides the others.
        if len(place) >= len(found) and (real == place or real.startswith(place.rstrip(b"/") + b"/")):
            found, kind = place, after.split()[0]
    return os.fsdecode(found), kind.decode()


@check("path-lengths", "Length of paths")
def path_lengths(patient: Patient) -> Finding:
    """Sockets have addresses of at most 107 bytes, and file systems names of a limited length."""
    temp, root = patient.home.ray_temp, patient.home.root
    length = len(os.fsencode(temp)) + len(_RAY_SOCKET)
    if length > _SOCKET_BYTES:
        return fail(
            f"Ray's sockets below {temp} would have addresses of {length} bytes; {_SOCKET_BYTES} are possible",
            "export TMPDIR=/tmp",
        )
    limit = os.pathconf("/", "PC_PATH_MAX")
    if len(os.fsencode(root)) + _DEEPEST > limit:
        return fail(f"{root} leaves too little of the {limit} bytes that a path may have", "export RAY_EXT_HOME=FOLDER")
    return ok(f"Ray's sockets have addresses of {length} bytes, of {_SOCKET_BYTES} that are possible")
