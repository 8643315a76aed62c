"""``show``."""

from __future__ import annotations

import click

from ray_ext.cli.completing import EXTENSION
from ray_ext.cli.output import answer, print_table
from ray_ext.cli.verb import verb

__all__ = ["command"]


@verb(section="Look", examples=("ray-ext show github-triage", "ray-ext show github-triage --json"))
@click.argument("extension", type=EXTENSION)
def command(extension: str) -> None:
    """Show one extension: release, configuration, methods, figures of its instance."""
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime:
        view = runtime.show(extension)

    def text() -> None:
        from ray_ext.cli.views import extension_rows

        print_table(("what", "value"), extension_rows(view))
        if view.methods:
            click.echo()
            print_table(("method", "signature"), sorted(view.methods.items()))

    answer("extension", view, text)
