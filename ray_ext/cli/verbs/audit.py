"""``audit``."""

from __future__ import annotations

import click

from ray_ext.cli.completing import EXTENSION
from ray_ext.cli.output import answer, note, print_table, time_text
from ray_ext.cli.verb import verb

__all__ = ["command"]


@verb(section="Look", examples=("ray-ext audit", "ray-ext audit github-triage --limit 10"))
@click.argument("extension", type=EXTENSION, required=False)
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many, at most.")
def command(extension: str | None, limit: int) -> None:
    """Who did what, when, and how it ended; the newest first. Of one extension, or of all."""
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime:
        entries = runtime.audit(extension, limit=limit)

    def text() -> None:
        if not entries:
            note("Nothing was done yet.")
        print_table(
            ("when", "who", "verb", "extension", "version", "outcome"),
            [
                (time_text(each.at), each.actor, each.verb, each.extension or "", each.version or "", each.outcome)
                for each in entries
            ],
        )

    answer("audit", entries, text)
