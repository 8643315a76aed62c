"""``install``, ``load``, ``unload``, ``remove`` and ``upgrade``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ray_ext.cli.joining import join_runtime
from ray_ext.cli.options import (
    install_options,
    install_target,
    load_options,
    remove_options,
    unload_options,
    upgrade_options,
)
from ray_ext.cli.output import json_option, note, print_json
from ray_ext.home import Home

if TYPE_CHECKING:
    from ray_ext.control.commands import PlanView
    from ray_ext.control.views import ExtensionView

__all__ = ["install_command", "load_command", "remove_command", "unload_command", "upgrade_command"]


@click.command("install")
@install_options
@json_option
def install_command(source: str, version: str | None, load: bool, as_json: bool, **options: Any) -> None:
    """Install an extension with all that it depends on, and load it.

    SOURCE_OR_ID is its folder or a wheel; with --version the id of a release that is known (ray-ext releases).
    If a step fails, the earlier ones are undone.

    \b
    ray-ext install ./github-triage --config '{"webhook_secret": "..."}'
    ray-ext install ./github-triage --config @config.json --no-load
    ray-ext install github-triage --version 1.2.0
    """
    target = install_target(source, version)
    with join_runtime() as runtime:
        view = runtime.install(target, version=version, load=load, on_progress=note, **options)
    note(f"Installed {view.id} {view.version} (sha256 {view.sha256[:12]}).")
    if load:
        note(f"Loaded: {_service(view)}.")
    if as_json:
        print_json("extension", view)


@click.command("upgrade")
@upgrade_options
@json_option
def upgrade_command(extension: str, to: str | None, as_json: bool, **options: Any) -> None:
    """Change the version of an installed extension, up or down.

    TO is a known version, or a folder (written with a /) or wheel that holds one; by default the best known version
    that fits. What depends on it stays loaded, and its calls wait. If a step fails, the earlier ones are undone.
    """
    with join_runtime() as runtime:
        before = runtime.show(extension).version
        view = runtime.upgrade(extension, to, on_progress=note, **options)
    if view.version != before:
        note(f"Upgraded {view.id} from {before} to {view.version}.")
    elif to is None:
        note(f"No update: {before} is the best version that fits.")
    else:
        note(f"No update: {view.id} {before} is installed already.")
    if as_json:
        print_json("extension", view)


@click.command("load")
@load_options
@json_option
def load_command(extension: str, plan: str | None, as_json: bool) -> None:
    """Start an installed extension, after what it depends on."""
    with join_runtime() as runtime:
        view = runtime.load(extension, plan=plan, on_progress=note)
    note(f"Loaded {view.id} {view.version}: {_service(view)}.")
    if as_json:
        print_json("extension", view)


def _service(view: ExtensionView) -> str:
    return f"generation {view.generation}, exports {', '.join(sorted(view.methods))}"


@click.command("unload")
@unload_options
@json_option
def unload_command(extension: str, as_json: bool, **options: Any) -> None:
    """End an extension's instance; it stays installed. Refused while others that are loaded need it."""
    with join_runtime() as runtime:
        view = runtime.unload(extension, **options)
    note(f"Unloaded {view.id} {view.version}.")
    if as_json:
        print_json("extension", view)


@click.command("remove")
@remove_options
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
def remove_command(
    extension: str, cascade: bool, purge: bool, grace_s: float, plan: str | None, yes: bool, as_json: bool
) -> None:
    """Unload and forget an extension, with its package and its log; its data directory stays unless --purge.

    Refused while others that are installed need it. On a terminal the plan is shown, and you are asked.
    """
    is_asking = not yes and sys.stdin.isatty()
    if purge and not yes and not is_asking:
        raise click.UsageError("--purge deletes data, and there is no terminal to ask on: give --yes if you mean it")
    with join_runtime() as runtime:
        view = runtime.plan("remove", extension, cascade=cascade, purge=purge, plan=plan)
        if is_asking and view.plan.steps:
            _ask(view, Home(runtime.home))
            plan = view.hash
        runtime.remove(extension, cascade=cascade, purge=purge, grace_s=grace_s, plan=plan)
    removed = _touched(view, "remove")
    note(f"Removed {', '.join(removed)}." if removed else f"{extension} is not installed: nothing is removed.")
    if as_json:
        print_json("removed", removed)


def _ask(view: PlanView, home: Home) -> None:
    note(view.text)
    folders: list[Path] = [home.data_dir(each) for each in _touched(view, "purge")]
    for folder in folders:
        note(f"Deletes the data in {folder}")
    if not click.confirm("Delete all this?" if folders else "Remove it?", err=True):
        note("Nothing is removed.")
        raise click.exceptions.Exit(1)


def _touched(view: PlanView, kind: str) -> list[str]:
    """The extensions that have a step of this kind."""
    return [step.extension for step in view.plan.steps if step.kind == kind]
