"""``status``."""

from __future__ import annotations

import click

from ray_ext.cli.verb import verb

__all__ = ["command"]


@verb(section="Runtime", examples=("ray-ext status", "ray-ext status --check", "ray-ext status --json"))
@click.option("--check", is_flag=True, help="Exit with status 1 where what is differs from what should be.")
def command(check: bool) -> None:
    """Show what runs, and where and why it differs from what should."""
    from ray_ext.cli.exits import FAILED
    from ray_ext.cli.output import answer
    from ray_ext.cli.runtime_parts import print_status, runtime_status

    status = runtime_status()
    answer("status", status, lambda: print_status(status))
    if check and status.differences:
        raise click.exceptions.Exit(FAILED)
