"""``upgrade``."""

from __future__ import annotations

from typing import Any

from ray_ext.cli.options import dry_run_option, upgrade_options
from ray_ext.cli.output import answer, note
from ray_ext.cli.verb import verb

__all__ = ["command"]


@verb(
    section="Change",
    examples=(
        "ray-ext upgrade github-triage",
        "ray-ext upgrade github-triage 1.1.0",
        "ray-ext upgrade github-triage ./github-triage --dry-run",
    ),
)
@upgrade_options
@dry_run_option
def command(extension: str, to: str | None, dry_run: bool, **options: Any) -> None:
    """Change the version of an installed extension, up or down.

    TO is a known version, or a folder (written with a /) or wheel that holds one; by default the best known version
    that fits. What depends on it stays loaded, and its calls wait. If a step fails, the earlier ones are undone; so
    they are at Ctrl-C.
    """
    if dry_run:
        from ray_ext.cli.planning import show_plan

        show_plan("upgrade", extension, to=to, **options)
        return
    from ray_ext.cli.progress import Watch
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime:
        before = runtime.show(extension).version
        with Watch(runtime, "Upgrading") as watch:
            view = runtime.upgrade(extension, to, on_progress=watch.tell, on_begin=watch.begin, **options)

    def text() -> None:
        if view.version != before:
            note(f"Upgraded {view.id} from {before} to {view.version}.")
        elif to is None:
            note(f"No update: {before} is the best version that fits.")
        else:
            note(f"No update: {view.id} {before} is installed already.")

    answer("extension", view, text)
