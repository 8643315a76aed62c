"""``register``, ``releases``, ``yank`` and ``forget``."""

from __future__ import annotations

from pathlib import Path

import click

from ray_ext.cli.joining import join_runtime
from ray_ext.cli.output import json_option, note, print_json, print_table

__all__ = ["forget_command", "register_command", "releases_command", "yank_command"]


@click.command("register")
@click.argument("source", type=click.Path(path_type=Path))
@json_option
def register_command(source: Path, as_json: bool) -> None:
    """Make the release in a folder or wheel known, for others to depend on and for upgrades; it is not installed."""
    with join_runtime() as runtime:
        release = runtime.register(source)
    note(f"Registered {release.id} {release.version} (sha256 {release.sha256[:12]}).")
    if as_json:
        print_json("release", release)


@click.command("releases")
@click.argument("extension", required=False)
@json_option
def releases_command(extension: str | None, as_json: bool) -> None:
    """List the releases that are known, of one extension or of all."""
    with join_runtime() as runtime:
        releases = runtime.releases(extension)
    if as_json:
        print_json("releases", releases)
        return
    if not releases:
        note("No release is known. Make one known: ray-ext register FOLDER")
    print_table(
        ("id", "version", "sha256", "source", "yanked"),
        [(each.id, each.version, each.sha256[:12], each.source, each.yanked) for each in releases],
    )


@click.command("yank")
@click.argument("extension")
@click.argument("version")
@click.option("--reason", metavar="TEXT", help="Why nobody should choose it.")
@click.option("--undo", is_flag=True, help="Take it back: it may be chosen again.")
def yank_command(extension: str, version: str, reason: str | None, undo: bool) -> None:
    """Keep plans from choosing a release. Where it is installed it stays."""
    if bool(reason) == undo:
        raise click.UsageError("give --reason TEXT, or --undo")
    with join_runtime() as runtime:
        runtime.yank(extension, version, reason)
    note(f"{extension} {version} may be chosen again." if undo else f"Yanked {extension} {version}.")


@click.command("forget")
@click.argument("extension")
@click.argument("version")
def forget_command(extension: str, version: str) -> None:
    """Know a release no longer, and delete its package. Refused where it is installed."""
    with join_runtime() as runtime:
        runtime.forget(extension, version)
    note(f"Forgot {extension} {version}.")
