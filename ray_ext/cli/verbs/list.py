"""``list``."""

from __future__ import annotations

from ray_ext.cli.output import answer, note, print_table
from ray_ext.cli.verb import verb

__all__ = ["command"]


@verb(section="Look", aliases=("ls",), examples=("ray-ext list", "ray-ext list --json"))
def command() -> None:
    """List the installed extensions."""
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime:
        views = runtime.list()

    def text() -> None:
        if not views:
            note("No extension is installed. Install one: ray-ext install FOLDER")
        print_table(
            ("id", "version", "state", "generation", "category", "isolation"),
            [
                (v.id, v.version, v.state, "" if v.generation is None else str(v.generation), v.category, v.isolation)
                for v in views
            ],
        )

    answer("extensions", views, text)
