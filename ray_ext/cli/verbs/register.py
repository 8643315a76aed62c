"""``register``."""

from __future__ import annotations

import click

from ray_ext.cli.output import answer, note
from ray_ext.cli.verb import verb

__all__ = ["command"]


@verb(section="Releases", examples=("ray-ext register ./linear-sync", "ray-ext register dist/linear_sync-2.0.0-*.whl"))
@click.argument("source")
def command(source: str) -> None:
    """Make the release in a folder or wheel known, for others to depend on and for upgrades; it is not installed."""
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime:
        release = runtime.register(source)
    said = f"Registered {release.id} {release.version} (sha256 {release.sha256[:12]})."
    answer("release", release, lambda: note(said))
