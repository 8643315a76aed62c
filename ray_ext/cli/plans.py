"""``plan``: what a verb would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ray_ext.cli.joining import join_runtime
from ray_ext.cli.options import (
    install_options,
    install_target,
    load_options,
    remove_options,
    unload_options,
    upgrade_options,
)
from ray_ext.cli.output import json_option, note, print_json

if TYPE_CHECKING:
    from ray_ext.control.commands import Verb
    from ray_ext.control.requests import Target

__all__ = ["plan_command"]

#: How much of a hash is shown: enough to name one plan.
_HASH_DIGITS = 12


@click.group("plan")
def plan_command() -> None:
    """Show what a verb would do: the steps in order, why each, and what stays untouched. Changes nothing.

    Arguments and options are those of the verb. Give the plan's hash to the verb, and it does this or nothing:

    \b
    ray-ext plan upgrade github-triage
    ray-ext upgrade github-triage --plan HASH
    """


@plan_command.command("install")
@install_options
@json_option
def _plan_install(source: str, version: str | None, as_json: bool, **options: Any) -> None:
    """What installing would do."""
    _show("install", install_target(source, version), as_json, to=version, **options)


@plan_command.command("load")
@load_options
@json_option
def _plan_load(extension: str, as_json: bool, **options: Any) -> None:
    """What loading would do."""
    _show("load", extension, as_json, **options)


@plan_command.command("unload")
@unload_options
@json_option
def _plan_unload(extension: str, as_json: bool, **options: Any) -> None:
    """What unloading would do."""
    _show("unload", extension, as_json, **options)


@plan_command.command("remove")
@remove_options
@json_option
def _plan_remove(extension: str, as_json: bool, **options: Any) -> None:
    """What removing would do."""
    _show("remove", extension, as_json, **options)


@plan_command.command("upgrade")
@upgrade_options
@json_option
def _plan_upgrade(extension: str, as_json: bool, **options: Any) -> None:
    """What upgrading would do."""
    _show("upgrade", extension, as_json, **options)


def _show(verb: Verb, target: Target, as_json: bool, **options: Any) -> None:
    with join_runtime() as runtime:
        view = runtime.plan(verb, target, **options)
    if as_json:
        plan = view.plan
        print_json(
            "plan",
            {
                "hash": view.hash,
                "verb": verb,
                "request": plan.request,
                "revision": plan.revision,
                "steps": plan.steps,
                "untouched": plan.untouched,
            },
        )
        return
    click.echo(view.text)
    if view.plan.steps:
        note(f"To do this and nothing else: ray-ext {verb} … --plan {view.hash[:_HASH_DIGITS]}")
