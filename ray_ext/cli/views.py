"""How an extension is described to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_ext.cli.output import size_text, time_text

if TYPE_CHECKING:
    from ray_ext.control.views import ExtensionView

__all__ = ["extension_rows", "service_text"]


def service_text(view: ExtensionView) -> str:
    """What a loaded extension offers."""
    return f"generation {view.generation}, exports {', '.join(sorted(view.methods)) or 'nothing'}"


def extension_rows(view: ExtensionView) -> list[tuple[str, str]]:
    """What ``show`` says of it, with its names."""
    import json

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
