"""``releases``."""

from __future__ import annotations

import click

from ray_ext.cli.completing import EXTENSION
from ray_ext.cli.output import answer, note, print_table
from ray_ext.cli.verb import verb

__all__ = ["command"]


@verb(section="Releases", examples=("ray-ext releases", "ray-ext releases github-triage --json"))
@click.argument("extension", type=EXTENSION, required=False)
def command(extension: str | None) -> None:
    """List the releases that are known, of one extension or of all."""
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime:
        releases = runtime.releases(extension)

    def text() -> None:
        if not releases:
            note(
                f"No release{f' of {extension}' if extension else ''} is known. Make one known: ray-ext register FOLDER"
            )
        print_table(
            ("id", "version", "sha256", "source", "yanked"),
            [(each.id, each.version, each.sha256[:12], each.source, each.yanked) for each in releases],
        )

    answer("releases", releases, text)
