"""The guest layer: one directory with exactly the code that guests import, named by its content.

A guest has neither the host's site-packages nor its ``ray_ext``: it gets copies of the parts that are meant for it, and
msgspec. A changed source, another msgspec or another Python gives another layer, so running guests keep theirs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import py_compile
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

__all__ = ["guest_layer"]

_GUEST_SANDBOX: Final = ("__init__", "bootstrap", "handshake", "kernel", "late_ssl", "lockdown", "stub", "zygote")
_INDEX: Final = "layer.json"


def guest_layer(root: Path) -> Path:
    """The layer's directory below ``root``; built when it is not there, or not whole.

    Safe for any number of processes at once: each builds aside and renames, and the first wins. Costs some
    milliseconds when the layer is there. Raises OSError when ``root`` cannot be written.
    """
    root = root.absolute()
    files = {name: path.read_bytes() for name, path in _sources()}
    layer = root / _digest(files)
    if not _is_whole(layer):
        _build(layer, files)
    return layer


def _sources() -> Iterator[tuple[str, Path]]:
    """Relative name and path of every file of the layer, in a stable order."""
    ours = Path(__file__).parent.parent
    yield "ray_ext/__init__.py", ours / "__init__.py"
    yield "ray_ext/errors.py", ours / "errors.py"
    for name in _GUEST_SANDBOX:
        yield f"ray_ext/sandbox/{name}.py", ours / "sandbox" / f"{name}.py"
    for package in ("sdk", "wire"):
        yield from _package(f"ray_ext/{package}", ours / package)
    spec = importlib.util.find_spec("msgspec")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("msgspec is not installed", name="msgspec")
    yield from _package("msgspec", Path(spec.origin).parent)


def _package(name: str, directory: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(directory.rglob("*")):
        if path.suffix in (".py", ".so") and "tests" not in path.parts:
            yield f"{name}/{path.relative_to(directory)}", path


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256(f"{sys.version}\0{sys.implementation.cache_tag}\0".encode())
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:32]


def _is_whole(layer: Path) -> bool:
    """Whether the layer holds the files it was built with, by name and size: against a half-deleted directory."""
    try:
        index = json.loads((layer / _INDEX).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(index == _sizes(layer))


def _sizes(layer: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    pending = [os.fspath(layer)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    sizes[os.path.relpath(entry.path, layer)] = entry.stat(follow_symlinks=False).st_size
    sizes.pop(_INDEX, None)
    return sizes


def _build(layer: Path, files: Mapping[str, bytes]) -> None:
    layer.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".building-", dir=layer.parent))
    try:
        for name, content in files.items():
            _write(aside, layer, name, content)
        (aside / _INDEX).write_text(json.dumps(_sizes(aside)))
        aside.chmod(0o755)
        _put_in_place(aside, layer)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(aside: Path, layer: Path, name: str, content: bytes) -> None:
    target = aside / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    if target.suffix == ".py":
        # Guests run with -B. Unchecked: the layer's name already says which source this is.
        py_compile.compile(
            os.fspath(target),
            dfile=os.fspath(layer / name),
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    target.chmod(0o444)


def _put_in_place(aside: Path, layer: Path) -> None:
    while not _is_whole(layer):
        try:
            aside.rename(layer)
        except OSError:
            if not layer.exists():
                raise
            if not _is_whole(layer):
                _move_away(layer)


def _move_away(layer: Path) -> None:
    grave = Path(tempfile.mkdtemp(prefix=".broken-", dir=layer.parent))
    try:
        layer.rename(grave / "layer")
    except FileNotFoundError:
        pass  # another process was faster
    finally:
        shutil.rmtree(grave, ignore_errors=True)
