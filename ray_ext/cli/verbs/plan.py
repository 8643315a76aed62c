"""``plan``: what a verb would do."""

from __future__ import annotations

from typing import Any

from ray_ext.cli.options import (
    install_options,
    install_target,
    load_options,
    remove_options,
    unload_options,
    upgrade_options,
)
from ray_ext.cli.planning import show_plan
from ray_ext.cli.verb import subverb, verb_group

__all__ = ["command"]


@verb_group(
    section="Change",
    examples=("ray-ext plan upgrade github-triage", "ray-ext upgrade github-triage --plan HASH"),
)
def command() -> None:
    """Show what a verb would do: the steps in order, why each, and what stays untouched. Changes nothing.

    Arguments and options are those of the verb. Give the plan's hash to the verb, and it does this or nothing.
    """


@subverb(command, "install", examples=("ray-ext plan install ./github-triage",))
@install_options
def _plan_install(source: str, version: str | None, **options: Any) -> None:
    """What installing would do."""
    show_plan("install", install_target(source, version), to=version, **options)


@subverb(command, "load", examples=("ray-ext plan load github-triage",))
@load_options
def _plan_load(extension: str, **options: Any) -> None:
    """What loading would do."""
    show_plan("load", extension, **options)


@subverb(command, "unload", examples=("ray-ext plan unload linear-sync --cascade",))
@unload_options
def _plan_unload(extension: str, **options: Any) -> None:
    """What unloading would do."""
    show_plan("unload", extension, **options)


@subverb(command, "remove", examples=("ray-ext plan remove linear-sync --cascade --purge",))
@remove_options
def _plan_remove(extension: str, **options: Any) -> None:
    """What removing would do."""
    show_plan("remove", extension, **options)


@subverb(command, "upgrade", examples=("ray-ext plan upgrade github-triage 1.1.0",))
@upgrade_options
def _plan_upgrade(extension: str, **options: Any) -> None:
    """What upgrading would do."""
    show_plan("upgrade", extension, **options)
