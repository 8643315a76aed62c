"""From what an orchestrator writes to the command that the registry gets."""

from __future__ import annotations

import getpass
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ray_ext.control.commands import Command, PythonSources, Verb
from ray_ext.errors import PackageInvalid

__all__ = ["GRACE_S", "Grant", "Target", "make_command", "new_operation", "operator", "package_of"]

Grant = Literal["none", "requested"]
#: An extension's id, or the folder or wheel that it is in.
Target = str | os.PathLike[str]

#: How long running calls get when an extension is unloaded, in seconds.
GRACE_S = 10.0


def make_command(
    verb: Verb,
    target: Target,
    *,
    to: Target | None = None,
    config: Mapping[str, Any] | None = None,
    grant: Grant | None = None,
    load: bool = True,
    cascade: bool = False,
    purge: bool = False,
    grace_s: float = GRACE_S,
    find_links: Sequence[str | os.PathLike[str]] = (),
    index_url: str | None = None,
    plan: str | None = None,
) -> Command:
    """The command; packs a folder, so it may block. Raises ManifestInvalid and PackageInvalid.

    ``to`` is a version, or a folder or wheel; a folder or wheel that is to be installed has its own.
    """
    if verb == "install" and to is not None and _is_place(target):
        raise PackageInvalid(
            f"{os.fspath(target)} has a version of its own: {os.fspath(to)} cannot be asked for",
            fix="leave the version out, or give the id of a known release in place of the folder or wheel",
            details={"problems": []},
        )
    place = to if to is not None and _is_place(to) else target if verb == "install" and _is_place(target) else None
    wheel, source = (None, "") if place is None else package_of(place)
    return Command(
        verb=verb,
        extension="" if place is target else os.fspath(target),
        version=None if to is None or place is not None else os.fspath(to),
        wheel=wheel,
        source=source,
        configuration=None if config is None else dict(config),
        grant=grant,
        load=load,
        is_cascading=cascade,
        is_purging=purge,
        grace_s=grace_s,
        sources=PythonSources(
            find_links=tuple(os.path.abspath(os.path.expanduser(folder)) for folder in find_links),
            index_url=index_url,
        ),
        plan=plan,
        actor=operator(),
    )


def new_operation() -> str:
    """An id for an operation: it is carried out once, however often it is sent."""
    return secrets.token_hex(8)


def _is_place(target: Target) -> bool:
    text = os.fspath(target)
    return isinstance(target, os.PathLike) or os.sep in text or text.endswith(".whl") or text in (".", "..")


def operator() -> str:
    """Who asks, for the audit trail."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as containers have them
        return str(os.getuid())


def package_of(source: Target) -> tuple[bytes, str]:
    """The wheel's bytes and where they came from: a folder is packed, a wheel read. Executes nothing."""
    from ray_ext.packages import pack_folder

    path = Path(source).expanduser()
    if path.is_dir():
        return pack_folder(path), str(path.absolute())
    if path.suffix == ".whl" and path.is_file():
        return path.read_bytes(), str(path.absolute())
    raise PackageInvalid(
        f"{path} is neither a folder nor a wheel" if path.exists() else f"{path} does not exist",
        fix="give the folder that holds extension.toml, or a .whl file",
        details={"problems": []},
    )
