"""Plans on the command line: what ``plan`` prints, and ``--dry-run`` of the verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ray_ext.cli.output import answer, note

if TYPE_CHECKING:
    from ray_ext.control.commands import Verb
    from ray_ext.control.requests import Target

__all__ = ["show_plan"]

#: How much of a hash is shown: enough to name one plan.
_HASH_DIGITS = 12


def show_plan(verb: Verb, target: Target, **options: Any) -> None:
    """Ask for the plan and print it; ``options`` are those of :meth:`RemoteRuntime.plan`."""
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime:
        view = runtime.plan(verb, target, **options)

    def text() -> None:
        click.echo(view.text)
        if view.plan.steps:
            note(f"To do this and nothing else: ray-ext {verb} … --plan {view.hash[:_HASH_DIGITS]}")

    plan = view.plan
    data = {
        "hash": view.hash,
        "verb": verb,
        "request": plan.request,
        "revision": plan.revision,
        "steps": plan.steps,
        "untouched": plan.untouched,
    }
    answer("plan", data, text)
