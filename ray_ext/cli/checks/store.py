"""What is kept in the state home: the store, and the environments of extensions."""

from __future__ import annotations

import shlex
import sqlite3
import time
from contextlib import closing

from ray_ext.cli.checking import Finding, Patient, check, command_line, fail, ok, skip, warn

__all__ = ["environments", "store"]

#: What the check of environments gets: each file is read, and there may be gigabytes.
_ENVIRONMENTS_S = 20.0
_BUSY_S = 2.0
_SHOWN = 3


@check("store", "Store", limit_s=15.0)
def store(patient: Patient) -> Finding:
    """SQLite's own check, read-only, and whether this version can use what is written there."""
    path = patient.home.root / "store.db"
    if not path.exists():
        return skip(f"{path} is not there yet; ray-ext up makes it")
    mend = _recovery(str(path))
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as connection:
            problems = [" ".join(str(row[0]).split()) for row in connection.execute("PRAGMA quick_check(5)")]
            version = connection.execute("SELECT schema_version FROM runtime").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return fail(f"{path} is a database, but not a store of ours: {error}", _set_aside(str(path)))
        return fail(f"{path} cannot be read: {error}", command_line("ls", "-la", path.parent))
    except sqlite3.DatabaseError as error:
        return fail(f"{path} is damaged: {error}", mend)
    if problems != ["ok"]:
        return fail(f"{path} is damaged: {'; '.join(problems)}", mend)
    return _version_finding(str(path), None if version is None else int(version[0]))


def _version_finding(path: str, version: int | None) -> Finding:
    # Brings SQLAlchemy, a tenth of a second: only where there is a store.
    from ray_ext.store.schema import SCHEMA_VERSION

    if version is None:
        return fail(f"{path} has lost its row of versions", _recovery(path))
    if version > SCHEMA_VERSION:
        return fail(
            f"{path} has schema {version}, which a newer ray_ext wrote; this one knows up to {SCHEMA_VERSION}",
            "uv pip install --upgrade ray-ext",
        )
    if version < SCHEMA_VERSION:
        return ok(f"{path} is sound; its schema {version} becomes {SCHEMA_VERSION} at the next start, with a copy kept")
    return ok(f"{path} is sound, schema {version}")


def _recovery(path: str) -> str:
    """SQLite's own: <https://sqlite.org/recovery.html>. Nothing is replaced unless a store of ours came out of it, and
    what it could not save is in the damaged file still."""
    old, new, text, kept = (shlex.quote(f"{path}{end}") for end in ("", ".recovered", ".sql", ".damaged"))
    side_files = command_line(f"{path}-wal", f"{path}-shm")
    return (
        f"ray-ext down; umask 077; sqlite3 {old} .recover > {text} && sqlite3 -bail {new} < {text} && "
        f"sqlite3 {new} 'SELECT schema_version FROM runtime' && mv {old} {kept} && rm -f {side_files} && mv {new} {old}"
        "  # or bring back a copy that you have"
    )


def _set_aside(path: str) -> str:
    return f"ray-ext down; {command_line('mv', path, f'{path}.aside')}"


@check("environments", "Environments", limit_s=_ENVIRONMENTS_S + 10.0)
def environments(patient: Patient) -> Finding:
    """Each file of each environment against its index, and the index against the digest in the folder's name."""
    root = patient.home.environments
    folders = sorted(path for path in root.glob("??/*") if path.is_dir() and len(path.name) == 64)
    if not folders:
        return skip("no extension has Python packages of its own")
    from ray_ext.packages.environment_check import is_intact, lock_of

    give_up = time.monotonic() + _ENVIRONMENTS_S
    damaged, checked = [], 0
    for folder in folders:
        if time.monotonic() > give_up:
            break
        lock = lock_of(folder)
        checked += 1
        if lock is None or lock.digest != folder.name or not is_intact(folder, lock):
            damaged.append(folder)
    seen = f"{checked} of {len(folders)} verified file by file"
    if damaged:
        names = ", ".join(folder.name[:12] for folder in damaged[:_SHOWN]) + (", …" if len(damaged) > _SHOWN else "")
        paths = command_line(*damaged)
        return fail(
            f"{seen}; damaged or altered: {names}. They are built anew when they are removed and loaded again",
            f"chmod -R u+w {paths} && rm -r {paths}",
        )
    if checked < len(folders):
        return warn(
            f"{seen}; the rest would take longer than {_ENVIRONMENTS_S:.0f} s",
            "ray-ext doctor  # again, at a quiet time",
        )
    return ok(seen)
