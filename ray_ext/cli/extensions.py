"""``list`` and ``show``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ray_ext.cli.joining import join_runtime
from ray_ext.cli.output import json_option, note, print_json, print_table, size_text, time_text

if TYPE_CHECKING:
    from ray_ext.control.views import ExtensionView

__all__ = ["list_command", "show_command"]


@click.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the installed extensions."""
    with join_runtime() as runtime:
        views = runtime.list()
    if as_json:
        print_json("extensions", views)
        return
    if not views:
        note("No extension is installed. Install one: ray-ext install FOLDER")
    print_table(
        ("id", "version", "state", "generation", "category", "isolation"),
        [
            (v.id, v.version, v.state, "" if v.generation is None else str(v.generation), v.category, v.isolation)
            for v in views
        ],
    )


@click.command("show")
@click.argument("extension")
@json_option
def show_command(extension: str, as_json: bool) -> None:
    """Show one extension: release, configuration, methods, figures of its instance."""
    with join_runtime() as runtime:
        view = runtime.show(extension)
    if as_json:
        print_json("extension", view)
        return
    print_table(("what", "value"), _rows(view))
    if view.methods:
        click.echo()
        print_table(("method", "signature"), sorted(view.methods.items()))


def _rows(view: ExtensionView) -> list[tuple[str, str]]:
    rows = [
        ("id", view.id),
        ("name", view.name),
        ("version", view.version),
        ("sha256", view.sha256),
        ("source", view.source),
        ("description", view.description),
        ("category", view.category),
        ("isolation", f"{view.isolation} (grant: {view.grant})"),
        (
            "dependencies",
            ", ".join(f"{each} {accepted}".rstrip() for each, accepted in sorted(view.dependencies.items())),
        ),
        ("Python packages", ", ".join(view.python_packages)),
        ("resources", f"cpus {view.cpus:g}, memory {size_text(view.memory_bytes)}"),
        ("state", view.state + (f" (desired: {view.desired})" if view.desired != view.state else "")),
        ("why", view.reason),
        ("installed", time_text(view.created_at)),
        ("configuration", json.dumps(view.configuration, default=str)),
    ]
    if view.last_exit is not None:
        gone = view.last_exit
        rows.append(
            ("last exit", f"generation {gone.generation}: {gone.kind}, {gone.cause}, {time_text(gone.ended_at)}")
        )
    status = view.instance
    if status is not None:
        rows += [
            ("generation", str(status.generation)),
            ("confinement", status.level),
            ("processes", f"host {status.host_pid}, guest {status.guest_pid}"),
            (
                "calls",
                f"{status.accepted} accepted, {status.completed} completed, {status.failed} failed, "
                f"{status.refused} refused, {status.unknown} unknown, {status.pending} pending",
            ),
        ]
    return [row for row in rows if row[1]]
