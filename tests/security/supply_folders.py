"""Hostile project folders, each under the id that it has on the threat list; those without one are our own."""

# ruff: noqa: E501 - one attack a line: it reads as a table

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .supply_archives import INFO, MANIFEST
from .supply_corpus import ELSEWHERE, HIDES, INIT, LIKE, UNPRINTABLE

__all__ = ["FOLDERS", "HARMLESS_FOLDERS", "SECRET", "FolderAttack", "honest_folder"]

SECRET = "the operator's secret"


@dataclass(frozen=True)
class FolderAttack:
    """Changes an honest project folder; ``outside`` is a folder beside it that holds a secret."""

    title: str
    change: Callable[[Path, Path, str], object]
    said: str

    def __str__(self) -> str:
        return self.title


def honest_folder(folder: Path, evil: str) -> None:
    """A project folder that packs, but for what it says when it runs."""
    put(folder / "hello_world" / "__init__.py", f"{evil}class Hello: ...\n")
    put(folder / "extension.toml", MANIFEST)
    put(folder / "pyproject.toml", '[project]\nname = "hello-world"\nversion = "1.0"\n')


def put(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def put_each(folder: Path, names: Sequence[str], content: str) -> None:
    for name in names:
        put(folder / name, content)


def sparse(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        file.truncate(size_bytes)


def sparse_files(folder: Path) -> None:
    for number in range(5):
        sparse(folder / "hello_world" / f"odd{number}", 63 * 2**20)


def replaced(path: Path, by: Callable[[Path], object]) -> None:
    path.unlink()
    by(path)


def socket_at(path: Path) -> None:
    here = os.open(path.parent, os.O_PATH)  # the address of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


def schema_file(folder: Path, name: str) -> None:
    put(folder / "extension.toml", f"{MANIFEST}[configuration]\nschema_file = {json.dumps(name)}\n")


def piped_schema(folder: Path) -> None:
    schema_file(folder, "c")
    os.mkfifo(folder / "c")


def linked_schema(folder: Path, outside: Path) -> None:
    schema_file(folder, "c/secret")
    (folder / "c").symlink_to(outside)


def nested_folders(folder: Path) -> None:
    put(folder / ("hello_world/" + "d/" * 40) / "evil.py", "")


def many_files(folder: Path) -> None:
    (folder / "hello_world" / "many").mkdir()
    for number in range(10_001):
        os.close(os.open(folder / "hello_world" / "many" / str(number), os.O_CREAT))


def in_source(folder: Path, name: str, content: str) -> None:
    (folder / "src").mkdir()
    (folder / "hello_world").rename(folder / "src" / "hello_world")
    put(folder / "src" / name, content)


def undecodable(folder: Path) -> None:
    os.close(os.open(os.fsencode(folder / "hello_world") + b"/\xff.py", os.O_CREAT))


FOLDERS = [
    FolderAttack(title, change, said)
    for title, change, said in (
        ("S01 backslash", lambda f, o, e: put(f / "hello_world" / "up\\evil.py", e), ELSEWHERE),
        ("S01 drive", lambda f, o, e: put(f / "hello_world" / "C:evil.py", e), ELSEWHERE),
        ("S03 link-outside", lambda f, o, e: (f / "hello_world/odd").symlink_to(o / "secret"), "hello_world/odd: found "),
        ("S03 link-to-folder", lambda f, o, e: (f / "hello_world/odd").symlink_to(o), "hello_world/odd: found "),
        ("S03 link-round", lambda f, o, e: (f / "hello_world/odd").symlink_to("."), "hello_world/odd: found "),
        ("S03 link-to-device", lambda f, o, e: (f / "hello_world/odd").symlink_to("/dev/zero"), "hello_world/odd: found "),
        ("S03 link-to-process", lambda f, o, e: (f / "hello_world/odd").symlink_to("/proc/self/mem"), "found a link"),
        ("S03 pipe", lambda f, o, e: os.mkfifo(f / "hello_world/odd"), "hello_world/odd: found a pipe"),
        ("S03 socket", lambda f, o, e: socket_at(f / "hello_world/odd"), "hello_world/odd: found "),
        ("S03 manifest-link", lambda f, o, e: replaced(f / "extension.toml", lambda p: p.symlink_to(o / "secret")),
         "extension.toml: found a link"),
        ("S03 manifest-folder", lambda f, o, e: replaced(f / "extension.toml", Path.mkdir), "found a directory"),
        ("S03 manifest-pipe", lambda f, o, e: replaced(f / "extension.toml", os.mkfifo), "found a pipe"),
        ("S03 manifest-socket", lambda f, o, e: replaced(f / "extension.toml", socket_at), "extension.toml: found "),
        ("S03 project-link", lambda f, o, e: replaced(f / "pyproject.toml", lambda p: p.symlink_to(o / "secret")), "a link"),
        ("S02 sparse-file", lambda f, o, e: sparse(f / "hello_world/odd", 2**40), "odd: found more than 67108864 bytes"),
        ("S02 sparse-manifest", lambda f, o, e: sparse(f / "extension.toml", 2**40), "extension.toml: found more than"),
        ("S02 sparse-files", lambda f, o, e: sparse_files(f), "more than"),
        ("S02 many-files", lambda f, o, e: many_files(f), "more than 10000 files"),
        ("S02 deep-folders", lambda f, o, e: nested_folders(f), "folders nested too deeply"),
        ("S05 pth", lambda f, o, e: put(f / "hello_world/evil.pth", f"import os; {e}"), "a .pth file"),
        ("S05 sitecustomize", lambda f, o, e: in_source(f, "sitecustomize.py", e), HIDES),
        ("S10 asyncio", lambda f, o, e: in_source(f, "asyncio/__init__.py", e), HIDES),
        ("S10 runtime", lambda f, o, e: in_source(f, "ray_ext/sandbox/evil.py", e), HIDES),
        ("S10 data", lambda f, o, e: in_source(f, "hello_world-1.0.data/scripts/python", e), "a .data folder"),
        ("S07 record", lambda f, o, e: in_source(f, f"{INFO}/RECORD", "evil,,\n"), "a .dist-info folder"),
        ("second-dist-info", lambda f, o, e: in_source(f, "evil-1.DIST-INFO/METADATA", "Name: evil\n"), "a .dist-info folder"),
        ("schema-dotdot", lambda f, o, e: schema_file(f, "../outside/secret"), "configuration.schema_file"),
        ("schema-absolute", lambda f, o, e: schema_file(f, str(o / "secret")), "configuration.schema_file"),
        ("schema-behind-link", lambda f, o, e: linked_schema(f, o), "c/secret: found "),
        ("schema-pipe", lambda f, o, e: piped_schema(f), "c: found a pipe"),
        ("undecodable-name", lambda f, o, e: undecodable(f), UNPRINTABLE),
        ("terminal-escape", lambda f, o, e: put(f / "hello_world/\x1b[2J.py", e), UNPRINTABLE),
        ("record-injection", lambda f, o, e: put(f / 'hello_world/x",sha256=x,1\nevil.py', e), UNPRINTABLE),
        ("case-collision", lambda f, o, e: put(f / "hello_world/__INIT__.py", e), LIKE),
        ("normalisation-collision", lambda f, o, e: put_each(f / "hello_world", ("\u00e9", "e\u0301"), e), LIKE),
        ("other-name", lambda f, o, e: put(f / "pyproject.toml", '[project]\nname = "x"\nversion = "1.0"\n'), "project.name"),
        ("project-bomb", lambda f, o, e: put(f / "pyproject.toml", "a." * 100_000 + "a = 1"), "a longer dotted key"),
    )
]  # fmt: skip

HARMLESS_FOLDERS = [
    FolderAttack(title, change, said)
    for title, change, said in (
        ("S04 build-backend", lambda f, o, e: put_each(f, ("setup.py", "conftest.py", "Makefile"), e), INIT),
        ("S04 backend-path", lambda f, o, e: put(f / "pyproject.toml", '[build-system]\nrequires = []\nbuild-backend = '
         '"hello_world"\nbackend-path = ["."]\n[project]\nname = "hello-world"\nversion = "1.0"\n'), INIT),
        ("S03 setuid", lambda f, o, e: (f / INIT).chmod(0o6777), INIT),
        ("S03 link-beside-the-package", lambda f, o, e: (f / "odd").symlink_to(o), INIT),
        ("S03 hidden-link", lambda f, o, e: (f / "hello_world/.odd").symlink_to(o / "secret"), INIT),
        ("record-quotes", lambda f, o, e: put(f / 'hello_world/x",sha256=x,1', e), 'hello_world/x",sha256=x,1'),
        ("stale-bytecode", lambda f, o, e: put(f / "hello_world/__pycache__/__init__.cpython-311.pyc", e), INIT),
    )
]  # fmt: skip
