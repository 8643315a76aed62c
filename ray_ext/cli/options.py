"""The arguments and options that a verb has in common with its plan.

They are named as the parameters of the methods of :class:`ray_ext.control.remote.RemoteRuntime`, to be handed on as
they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ray_ext.cli.completing import EXTENSION
from ray_ext.cli.json_argument import read_json

__all__ = [
    "dry_run_option",
    "install_options",
    "install_target",
    "load_options",
    "remove_options",
    "unload_options",
    "upgrade_options",
]

F = TypeVar("F", bound=Callable[..., Any])

#: What `ray-ext plan` prints of a hash: shorter ones would not name one plan.
_PLAN_HASH = re.compile(r"[0-9a-f]{12,64}")


def install_target(source: str, version: str | None) -> str | Path:
    """What SOURCE is: with ``--version`` an id, without it a folder or a wheel."""
    if version is None:
        return Path(source)
    if Path(source).name != source or source.endswith(".whl"):
        raise click.UsageError(f"--version goes with an id; {source} is a folder or a wheel, which has its own version")
    return source


def _read_configuration(_context: click.Context, _option: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    config = read_json(text, "--config")
    if not isinstance(config, dict):
        raise click.UsageError('--config is no JSON object: give something like \'{"key": "value"}\'')
    return config


def _check_hash(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    if text is not None and not _PLAN_HASH.fullmatch(text):
        raise click.BadParameter(f"{text!r} is no hash of a plan: give the 12 or more digits that ray-ext plan prints")
    return text


def _together(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_extension = click.argument("extension", type=EXTENSION)
_plan = click.option(
    "--plan", metavar="HASH", callback=_check_hash, help="Only if this is still the plan that `ray-ext plan` printed."
)
_grace = click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="What running calls get to finish.",
)
_what_it_gets = _together(
    click.option(
        "--config",
        metavar="JSON",
        callback=_read_configuration,
        help="The configuration: JSON, @FILE, or - for stdin. Default: keep what is there.",
    ),
    click.option(
        "--grant",
        type=click.Choice(["none", "requested"]),
        help="Grant nothing, or what the manifest asks for. Default: keep what is there.",
    ),
    click.option(
        "--find-links",
        type=click.Path(exists=True, file_okay=False),
        multiple=True,
        metavar="DIR",
        help="A folder of wheels to take Python packages from; may be given more than once.",
    ),
    click.option(
        "--index-url",
        metavar="URL",
        help="The index of Python packages. Credentials as https://${NAME}:${PASSWORD}@…, which are variables of the "
        "environment in which `ray-ext up` was run.",
    ),
)

dry_run_option = click.option("--dry-run", is_flag=True, help="Print the plan, as `ray-ext plan` does; change nothing.")
"""``--dry-run`` of the verbs that have a plan."""

install_options = _together(
    click.argument("source", metavar="SOURCE_OR_ID"),
    click.option("--version", metavar="VERSION", help="Install this known release of the extension with that id."),
    _what_it_gets,
    click.option("--load/--no-load", default=True, show_default=True, help="Load it as well."),
    _plan,
)
"""SOURCE_OR_ID and the options of ``install``."""

upgrade_options = _together(_extension, click.argument("to", required=False), _what_it_gets, _grace, _plan)
"""EXTENSION, TO and the options of ``upgrade``."""

load_options = _together(_extension, _plan)
"""EXTENSION and the options of ``load``."""

unload_options = _together(
    _extension,
    click.option("--cascade", is_flag=True, help="Unload those that need it, too, before it."),
    _grace,
    _plan,
)
"""EXTENSION and the options of ``unload``."""

remove_options = _together(
    _extension,
    click.option("--cascade", is_flag=True, help="Remove those that need it, too, before it."),
    click.option("--purge", is_flag=True, help="Delete the data directory, too."),
    _grace,
    _plan,
)
"""EXTENSION and the options of ``remove``."""
