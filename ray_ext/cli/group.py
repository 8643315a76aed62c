"""The group of all verbs: it finds each in its file, :mod:`ray_ext.cli.verbs`, when it is used."""

from __future__ import annotations

import importlib
from typing import Any

import click

import ray_ext
from ray_ext.cli.exits import Interrupted
from ray_ext.cli.verb import SECTIONS, Verb, VerbGroup, unknown_verb

__all__ = ["ReaderGone", "ray_ext_cli", "verb_names"]

_PACKAGE = "ray_ext.cli.verbs"


class _Verbs(click.Group):
    """Imports a verb when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        loaded = [_load(name) for name in verb_names()]
        return [str(each.name) for each in sorted(loaded, key=lambda each: (SECTIONS.index(each.section), each.name))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = _find(cmd_name)
        if found is not None:
            return found
        return next((each for each in map(_load, verb_names()) if cmd_name in each.aliases), None)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None and not args[0].startswith("-") and not ctx.resilient_parsing:
            loaded = [_load(name) for name in verb_names()]
            raise unknown_verb(ctx, args[0], [name for each in loaded for name in (str(each.name), *each.aliases)])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        loaded = [_load(name) for name in self.list_commands(ctx)]
        for section in SECTIONS:
            rows = [
                (", ".join([str(each.name), *each.aliases]), each.get_short_help_str(limit=200))
                for each in loaded
                if each.section == section
            ]
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        # click would make an empty line and status 1 of these.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("Interrupted.") from None
        except BrokenPipeError as error:
            raise ReaderGone from error


class ReaderGone(Exception):
    """Nobody reads our output any more."""


def verb_names() -> list[str]:
    """The verbs that there are, without their aliases."""
    import pkgutil

    package = importlib.import_module(_PACKAGE)
    return [each.name.replace("_", "-") for each in pkgutil.iter_modules(package.__path__)]


def _find(name: str) -> Verb | VerbGroup | None:
    """The verb with this name; looks at its own file alone."""
    module = name.replace("-", "_")
    if "_" in name or not module.isidentifier():
        return None
    try:
        return _load(name)
    except ModuleNotFoundError as error:
        if error.name == f"{_PACKAGE}.{module}":
            return None
        raise


def _load(name: str) -> Verb | VerbGroup:
    command: Verb | VerbGroup = importlib.import_module(f"{_PACKAGE}.{name.replace('-', '_')}").command
    return command


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(ray_ext.__version__, "--version", prog_name="ray-ext")
def ray_ext_cli() -> None:
    """Run extensions on Ray: install, load, call and watch them.

    \b
    ray-ext up
    ray-ext install ./github-triage
    ray-ext call github-triage triage '{"title": "Crash", "body": "..."}'
    ray-ext down

    The state home is RAY_EXT_HOME, or the user's data folder. Data goes to standard output, everything else to standard
    error. With --json there is one JSON document for the data, or one on standard error for what went wrong, and
    nothing else. Exit status: 0 ok, 1 failed, 2 wrong usage, 3 not valid, 4 denied, 5 unreachable, 6 not in time, 130
    interrupted.
    """
