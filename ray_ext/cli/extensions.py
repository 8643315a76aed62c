"""``install``, ``list``, ``show``, ``load`` and ``unload``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ray_ext.cli.output import json_option, note, print_json, print_table, size_text, time_text

if TYPE_CHECKING:
    from ray_ext.actors.views import ExtensionView
    from ray_ext.client.runtime import Grant, Runtime

__all__ = ["install_command", "list_command", "load_command", "show_command", "unload_command"]


def _connect() -> Runtime:
    from ray_ext.client.runtime import connect as join_runtime

    return join_runtime(is_embedding=False)


def read_json(text: str, what: str) -> Any:
    """JSON from an argument: the text itself, ``@FILE``, or ``-`` for standard input."""
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text()
        return json.loads(text)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{what} is no JSON: {error} (give JSON, @FILE, or - for standard input)") from None


@click.command("install")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--config", "configuration", metavar="JSON", help="The configuration: JSON, @FILE, or - for stdin.")
@click.option(
    "--grant",
    type=click.Choice(["none", "requested"]),
    default="none",
    show_default=True,
    help="Grant what the manifest asks for.",
)
@click.option("--load/--no-load", default=True, show_default=True, help="Load it as well.")
@json_option
def install_command(source: Path, configuration: str | None, grant: Grant, load: bool, as_json: bool) -> None:
    """Install an extension from its folder or a wheel, and load it.

    \b
    ray-ext install ./github-triage --config '{"webhook_secret": "..."}'
    ray-ext install ./github-triage --config @config.json --no-load
    """
    config = None if configuration is None else read_json(configuration, "--config")
    if config is not None and not isinstance(config, dict):
        raise click.UsageError('--config is no JSON object: give something like \'{"key": "value"}\'')
    with _connect() as runtime:
        view = runtime.install(source, config=config, grant=grant, load=False)
        note(f"Installed {view.id} {view.version} (sha256 {view.sha256[:12]}).")
        if load:
            view = runtime.load(view.id)
            note(f"Loaded: generation {view.generation}, exports {', '.join(sorted(view.methods))}.")
    if as_json:
        print_json("extension", view)


@click.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the installed extensions."""
    with _connect() as runtime:
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
    with _connect() as runtime:
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


@click.command("load")
@click.argument("extension")
@json_option
def load_command(extension: str, as_json: bool) -> None:
    """Start an installed extension."""
    with _connect() as runtime:
        view = runtime.load(extension)
    note(f"Loaded {view.id} {view.version}: generation {view.generation}.")
    if as_json:
        print_json("extension", view)


@click.command("unload")
@click.argument("extension")
@click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="What running calls get to finish.",
)
@json_option
def unload_command(extension: str, grace_s: float, as_json: bool) -> None:
    """End an extension's instance; it stays installed."""
    with _connect() as runtime:
        view = runtime.unload(extension, grace_s=grace_s)
    note(f"Unloaded {view.id} {view.version}.")
    if as_json:
        print_json("extension", view)
