"""``remove``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ray_ext.cli.options import dry_run_option, remove_options
from ray_ext.cli.output import answer, note, printable
from ray_ext.cli.verb import settings, verb

if TYPE_CHECKING:
    from ray_ext.control.commands import PlanView
    from ray_ext.control.remote import RemoteRuntime

__all__ = ["command"]


@verb(
    section="Change",
    aliases=("rm",),
    examples=("ray-ext remove github-triage", "ray-ext remove linear-sync --cascade --purge --yes"),
)
@remove_options
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@dry_run_option
def command(
    extension: str, cascade: bool, purge: bool, grace_s: float, plan: str | None, yes: bool, dry_run: bool
) -> None:
    """Unload and forget an extension, with its package and its log; its data directory stays unless --purge.

    Refused while others that are installed need it. On a terminal the plan is shown, and you are asked.
    """
    if dry_run:
        from ray_ext.cli.planning import show_plan

        show_plan("remove", extension, cascade=cascade, purge=purge, grace_s=grace_s, plan=plan)
        return
    is_asking = not yes and settings().is_interactive
    if purge and not yes and not is_asking:
        raise click.UsageError("--purge deletes data, and there is nobody to ask: give --yes if you mean it")
    from ray_ext.cli.progress import Watch
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime:
        view = runtime.plan("remove", extension, cascade=cascade, purge=purge, plan=plan)
        if is_asking and view.plan.steps:
            _ask(view, runtime)
            plan = view.hash
        with Watch(runtime, "Removing") as watch:
            runtime.remove(
                extension,
                cascade=cascade,
                purge=purge,
                grace_s=grace_s,
                plan=plan,
                on_progress=watch.tell,
                on_begin=watch.begin,
            )
    removed = _touched(view, "remove")
    said = f"Removed {', '.join(removed)}." if removed else f"{extension} is not installed: nothing is removed."
    answer("removed", removed, lambda: note(said))


def _ask(view: PlanView, runtime: RemoteRuntime) -> None:
    # Also with --json: who is asked has to see for what.
    click.echo(printable(view.text, is_one_line=False), err=True)
    purged = _touched(view, "purge")
    if purged:
        from pathlib import Path

        from ray_ext.home import Home

        home = Home(Path(runtime.control().home))
        for each in purged:
            click.echo(f"Deletes the data in {printable(str(home.data_dir(each)))}", err=True)
    if not click.confirm("Delete all this?" if purged else "Remove it?", err=True):
        click.echo("Nothing is removed.", err=True)
        raise click.exceptions.Exit(1)


def _touched(view: PlanView, kind: str) -> list[str]:
    """The extensions that have a step of this kind."""
    return [step.extension for step in view.plan.steps if step.kind == kind]
