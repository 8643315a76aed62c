"""``yank``."""

from __future__ import annotations

import click

from ray_ext.cli.completing import EXTENSION, VERSION
from ray_ext.cli.output import answer, note
from ray_ext.cli.verb import verb

__all__ = ["command"]


@verb(
    section="Releases",
    examples=(
        'ray-ext yank github-triage 1.2.0 --reason "loses events"',
        "ray-ext yank github-triage 1.2.0 --undo",
    ),
)
@click.argument("extension", type=EXTENSION)
@click.argument("version", type=VERSION)
@click.option("--reason", metavar="TEXT", help="Why nobody should choose it.")
@click.option("--undo", is_flag=True, help="Take it back: it may be chosen again.")
def command(extension: str, version: str, reason: str | None, undo: bool) -> None:
    """Keep plans from choosing a release. Where it is installed it stays."""
    if bool(reason) == undo:
        raise click.UsageError("give --reason TEXT, or --undo")
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime:
        runtime.yank(extension, version, None if undo else reason)
    said = f"{extension} {version} may be chosen again." if undo else f"Yanked {extension} {version}."
    answer("yanked", {"id": extension, "version": version, "reason": reason or ""}, lambda: note(said))
