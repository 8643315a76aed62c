"""``install``."""

from __future__ import annotations

from typing import Any

from ray_ext.cli.options import dry_run_option, install_options, install_target
from ray_ext.cli.output import answer, note
from ray_ext.cli.verb import verb

__all__ = ["command"]


@verb(
    section="Change",
    examples=(
        'ray-ext install ./github-triage --config \'{"webhook_secret": "..."}\'',
        "ray-ext install ./github-triage --config @config.json --no-load",
        "ray-ext install github-triage --version 1.2.0",
        "ray-ext install ./github-triage --dry-run",
    ),
)
@install_options
@dry_run_option
def command(source: str, version: str | None, load: bool, dry_run: bool, **options: Any) -> None:
    """Install an extension with all that it depends on, and load it.

    SOURCE_OR_ID is its folder or a wheel; with --version the id of a release that is known (ray-ext releases).
    If a step fails, the earlier ones are undone; so they are at Ctrl-C.
    """
    target = install_target(source, version)
    if dry_run:
        from ray_ext.cli.planning import show_plan

        show_plan("install", target, to=version, load=load, **options)
        return
    from ray_ext.cli.progress import Watch
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime, Watch(runtime, "Installing") as watch:
        view = runtime.install(
            target, version=version, load=load, on_progress=watch.tell, on_begin=watch.begin, **options
        )

    def text() -> None:
        from ray_ext.cli.views import service_text

        note(f"Installed {view.id} {view.version} (sha256 {view.sha256[:12]}).")
        if load:
            note(f"Loaded: {service_text(view)}.")

    answer("extension", view, text)
