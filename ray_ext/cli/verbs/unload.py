"""``unload``."""

from __future__ import annotations

from typing import Any

from ray_ext.cli.options import dry_run_option, unload_options
from ray_ext.cli.output import answer, note
from ray_ext.cli.verb import verb

__all__ = ["command"]


@verb(section="Change", examples=("ray-ext unload github-triage", "ray-ext unload linear-sync --cascade --grace 30"))
@unload_options
@dry_run_option
def command(extension: str, dry_run: bool, **options: Any) -> None:
    """End an extension's instance; it stays installed. Refused while others that are loaded need it."""
    if dry_run:
        from ray_ext.cli.planning import show_plan

        show_plan("unload", extension, **options)
        return
    from ray_ext.cli.progress import Watch
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime, Watch(runtime, "Unloading") as watch:
        view = runtime.unload(extension, on_progress=watch.tell, on_begin=watch.begin, **options)
    answer("extension", view, lambda: note(f"Unloaded {view.id} {view.version}."))
