"""``gc`` and ``audit``."""

from __future__ import annotations

import click

from ray_ext.cli.joining import join_runtime
from ray_ext.cli.output import json_option, note, print_json, print_table, size_text, time_text

__all__ = ["audit_command", "gc_command"]


@click.command("gc")
@json_option
def gc_command(as_json: bool) -> None:
    """Remove packages, environments and downloads that nothing needs.

    Packages and environments also go by themselves, after an install, upgrade or remove.
    """
    with join_runtime() as runtime:
        freed_bytes = runtime.collect()
    note(f"Freed {size_text(freed_bytes)}.")
    if as_json:
        print_json("freed", {"bytes": freed_bytes})


@click.command("audit")
@click.argument("extension", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many, at most.")
@json_option
def audit_command(extension: str | None, limit: int, as_json: bool) -> None:
    """Who did what, when, and how it ended; the newest first. Of one extension, or of all."""
    with join_runtime() as runtime:
        entries = runtime.audit(extension, limit=limit)
    if as_json:
        print_json("audit", entries)
        return
    print_table(
        ("when", "who", "verb", "extension", "version", "outcome"),
        [
            (time_text(each.at), each.actor, each.verb, each.extension or "", each.version or "", each.outcome)
            for each in entries
        ],
    )
