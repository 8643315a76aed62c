"""What every verb has in common: its section and examples in the help, ``--json`` and ``--no-input``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import click

__all__ = [
    "SECTIONS",
    "Section",
    "Settings",
    "Verb",
    "VerbGroup",
    "settings",
    "subverb",
    "unknown_verb",
    "verb",
    "verb_group",
]

Section = Literal["Runtime", "Change", "Look", "Releases", "Help"]
#: In the order in which the help shows them.
SECTIONS: tuple[Section, ...] = ("Runtime", "Change", "Look", "Releases", "Help")

_META = "ray_ext.cli"


class Settings:
    """What the common options say. ``is_interactive``: somebody is there to be asked."""

    def __init__(self, *, as_json: bool = False, is_interactive: bool = False) -> None:
        self.as_json = as_json
        self.is_interactive = is_interactive


def settings() -> Settings:
    """Those of the command line at work; the defaults where none is."""
    context = click.get_current_context(silent=True)
    return Settings() if context is None else _of(context)


def _of(context: click.Context) -> Settings:
    found: Settings | None = context.meta.get(_META)
    if found is None:
        found = context.meta[_META] = Settings(is_interactive=_has_person())
    return found


def _has_person() -> bool:
    is_asked_not_to = os.environ.get("RAY_EXT_NO_INPUT", "").lower() not in ("", "0", "false", "no")
    return not is_asked_not_to and sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


class _Helpful(click.Command):
    """A command whose help ends with examples."""

    section: Section = "Help"
    aliases: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    # As it would be typed: a line that is broken could not be copied.
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            # What a verb finds wrong itself is shown with its usage, too.
            error.ctx = error.ctx or ctx
            raise


class Verb(_Helpful):
    """A verb."""


class VerbGroup(_Helpful, click.Group):
    """A verb with verbs of its own."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click has it, with near names for one that is not known."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise unknown_verb(ctx, args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


def unknown_verb(context: click.Context, name: str, known: Sequence[str]) -> click.UsageError:
    """The refusal of a verb that is not known, with those that are spelled like it."""
    import difflib

    near = difflib.get_close_matches(name, known)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return click.UsageError(f"{context.command_path} has no verb {name!r}{hint}", context)


def verb(
    *, section: Section, examples: Sequence[str], aliases: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Verb]:
    """Make the function the verb of its module, with the common options."""

    def decorate(function: Callable[..., Any]) -> Verb:
        made = click.command(_name_of(function), cls=Verb)(function)
        made.params += _COMMON
        made.section, made.examples, made.aliases = section, tuple(examples), tuple(aliases)
        return made

    return decorate


def verb_group(
    *, section: Section, examples: Sequence[str], aliases: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], VerbGroup]:
    """Make the function a verb that has verbs of its own: see :func:`subverb`."""

    def decorate(function: Callable[..., Any]) -> VerbGroup:
        made = click.group(_name_of(function), cls=VerbGroup)(function)
        made.section, made.examples, made.aliases = section, tuple(examples), tuple(aliases)
        return made

    return decorate


def subverb(group: VerbGroup, name: str, *, examples: Sequence[str]) -> Callable[[Callable[..., Any]], Verb]:
    """Make the function a verb of a group, with the common options."""

    def decorate(function: Callable[..., Any]) -> Verb:
        made = click.command(name, cls=Verb)(function)
        made.params += _COMMON
        made.section, made.examples = group.section, tuple(examples)
        group.add_command(made)
        return made

    return decorate


def _name_of(function: Callable[..., Any]) -> str:
    return function.__module__.rpartition(".")[2].replace("_", "-")


def _set_json(context: click.Context, _option: click.Parameter, is_given: bool) -> None:
    if is_given:
        _of(context).as_json = True


def _set_no_input(context: click.Context, _option: click.Parameter, is_given: bool) -> None:
    if is_given:
        _of(context).is_interactive = False


#: At the end of every verb's options.
_COMMON = (
    click.Option(["--json"], is_flag=True, expose_value=False, is_eager=True, callback=_set_json, help="Print JSON."),
    click.Option(
        ["--no-input"],
        is_flag=True,
        expose_value=False,
        callback=_set_no_input,
        help="Never ask; fail instead. RAY_EXT_NO_INPUT=1 says the same.",
    ),
)
