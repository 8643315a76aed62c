"""``forget``."""

from __future__ import annotations

import click

from ray_ext.cli.completing import EXTENSION, VERSION
from ray_ext.cli.output import answer, note
from ray_ext.cli.verb import verb

__all__ = ["command"]


@verb(section="Releases", examples=("ray-ext forget github-triage 1.0.0",))
@click.argument("extension", type=EXTENSION)
@click.argument("version", type=VERSION)
def command(extension: str, version: str) -> None:
    """Know a release no longer, and delete its package. Refused where it is installed."""
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime:
        runtime.forget(extension, version)
    answer("forgotten", {"id": extension, "version": version}, lambda: note(f"Forgot {extension} {version}."))
