"""From what an orchestrator writes to the command that the registry gets, in one process or over the control API."""

from __future__ import annotations

import getpass
import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from msgspec import Struct

from ray_ext.control.commands import Command, PythonSources, Verb
from ray_ext.control.grammar import Seconds, Sha256
from ray_ext.errors import PackageInvalid

__all__ = [
    "GRACE_S",
    "CommandOptions",
    "CommandRequest",
    "Grant",
    "Target",
    "make_command",
    "make_request",
    "new_operation",
    "operator",
    "package_of",
]

Grant = Literal["none", "requested"]
#: An extension's id, or the folder or wheel that it is in.
Target = str | os.PathLike[str]

#: How long running calls get when an extension is unloaded, in seconds.
GRACE_S = 10.0


class CommandRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A :class:`Command` as it crosses the control API: ``package`` is the sha256 of a wheel that was uploaded."""

    verb: Verb
    extension: str = ""
    version: str | None = None
    package: Sha256 | None = None
    source: str = ""
    configuration: dict[str, Any] | None = None
    grant: Grant | None = None
    load: bool = True
    is_cascading: bool = False
    is_purging: bool = False
    grace_s: Seconds = GRACE_S
    sources: PythonSources = PythonSources()
    plan: str | None = None
    wait_s: Seconds = 60.0
    actor: str = ""

    def command(self, wheel: bytes | None) -> Command:
        """The command; ``wheel`` is the package's bytes, None where the request names no package."""
        fields = {field: getattr(self, field) for field in self.__struct_fields__ if field != "package"}
        return Command(wheel=wheel, **fields)


class CommandOptions(TypedDict, total=False):
    """The keywords of :func:`make_request`."""

    to: Target | None
    config: Mapping[str, Any] | None
    grant: Grant | None
    load: bool
    cascade: bool
    purge: bool
    grace_s: float
    find_links: Sequence[str | os.PathLike[str]]
    index_url: str | None
    plan: str | None


def make_command(verb: Verb, target: Target, **options: Unpack[CommandOptions]) -> Command:
    """The command that :func:`make_request` asks for, with its package."""
    request, wheel = make_request(verb, target, **options)
    return request.command(wheel)


def make_request(
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
) -> tuple[CommandRequest, bytes | None]:
    """The request, and the wheel that it names; packs a folder, so it may block.

    ``to`` is a version, or a folder or wheel; a folder or wheel that is to be installed has its own. Raises
    ManifestInvalid and PackageInvalid.
    """
    if verb == "install" and to is not None and _is_place(target):
        raise PackageInvalid(
            f"{os.fspath(target)} has a version of its own: {os.fspath(to)} cannot be asked for",
            fix="leave the version out, or give the id of a known release in place of the folder or wheel",
            details={"problems": []},
        )
    place = to if to is not None and _is_place(to) else target if verb == "install" and _is_place(target) else None
    wheel, source = (None, "") if place is None else package_of(place)
    request = CommandRequest(
        verb=verb,
        extension="" if place is target else os.fspath(target),
        version=None if to is None or place is not None else os.fspath(to),
        package=None if wheel is None else hashlib.sha256(wheel).hexdigest(),
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
    return request, wheel


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
