"""What every verb has in common: its section and examples in the help, ``--json`` and ``--no-input``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import click

__all__ = ["SECTIONS", "Section", "Settings", "Verb", "VerbGroup", "settings", "subverb", "verb", "verb_group"]

Section = Literal["Runtime", "Change", "Look", "Releases", "Help"]
#: In the order in which the help shows them.
SECTIONS: tuple[Section, ...] = ("Runtime", "Change", "Look", "Releases", "Help")

_META = "ray_ext.cli"


@dataclass
class Settings:
    """What the common options say. ``is_interactive``: somebody is there to be asked."""

    as_json: bool = False
    is_interactive: bool = False


def settings() -> Settings:
    """Those of the command line at work; the defaults where none is."""
    context = click.get_current_context(silent=True)
    return Settings() if context is None else _of(context)


def _of(context: click.Context) -> Settings:
    found: Settings = context.meta.setdefault(_META, Settings(is_interactive=_has_person()))
    return found


def _has_person() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


class _Helpful(click.Command):
    """A command whose help ends with examples."""

    section: Section = "Help"
    aliases: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write_text(example)


class Verb(_Helpful):
    """A verb."""


class VerbGroup(_Helpful, click.Group):
    """A verb with verbs of its own."""


def verb(
    *, section: Section, examples: Sequence[str], aliases: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Verb]:
    """Make the function the verb of its module, with the common options."""

    def decorate(function: Callable[..., Any]) -> Verb:
        name = function.__module__.rpartition(".")[2].replace("_", "-")
        made = click.command(name, cls=Verb)(_common(function))
        made.section, made.examples, made.aliases = section, tuple(examples), tuple(aliases)
        return made

    return decorate


def verb_group(
    *, section: Section, examples: Sequence[str], aliases: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], VerbGroup]:
    """Make the function a verb that has verbs of its own: see :func:`subverb`."""

    def decorate(function: Callable[..., Any]) -> VerbGroup:
        name = function.__module__.rpartition(".")[2].replace("_", "-")
        made = click.group(name, cls=VerbGroup)(function)
        made.section, made.examples, made.aliases = section, tuple(examples), tuple(aliases)
        return made

    return decorate


def subverb(group: VerbGroup, name: str, *, examples: Sequence[str]) -> Callable[[Callable[..., Any]], Verb]:
    """Make the function a verb of a group, with the common options."""

    def decorate(function: Callable[..., Any]) -> Verb:
        made = group.command(name, cls=Verb)(_common(function))
        made.section, made.examples = group.section, tuple(examples)
        return made

    return decorate


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    def set_json(context: click.Context, _option: click.Parameter, is_given: bool) -> None:
        if is_given:
            _of(context).as_json = True

    def set_no_input(context: click.Context, _option: click.Parameter, is_given: bool) -> None:
        if is_given:
            _of(context).is_interactive = False

    function = click.option(
        "--no-input", is_flag=True, expose_value=False, callback=set_no_input, help="Never ask; fail instead."
    )(function)
    return click.option(
        "--json", is_flag=True, expose_value=False, is_eager=True, callback=set_json, help="Print JSON."
    )(function)
