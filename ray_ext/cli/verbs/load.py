"""``load``."""

from __future__ import annotations

from ray_ext.cli.options import dry_run_option, load_options
from ray_ext.cli.output import answer, note
from ray_ext.cli.verb import verb

__all__ = ["command"]


@verb(section="Change", examples=("ray-ext load github-triage", "ray-ext load github-triage --dry-run"))
@load_options
@dry_run_option
def command(extension: str, plan: str | None, dry_run: bool) -> None:
    """Start an installed extension, after what it depends on."""
    if dry_run:
        from ray_ext.cli.planning import show_plan

        show_plan("load", extension, plan=plan)
        return
    from ray_ext.cli.progress import Watch
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime, Watch(runtime, "Loading") as watch:
        view = runtime.load(extension, plan=plan, on_progress=watch.tell, on_begin=watch.begin)

    def text() -> None:
        from ray_ext.cli.views import service_text

        note(f"Loaded {view.id} {view.version}: {service_text(view)}.")

    answer("extension", view, text)
