"""``gc``."""

from __future__ import annotations

from ray_ext.cli.output import answer, note, size_text
from ray_ext.cli.verb import verb

__all__ = ["command"]


@verb(section="Runtime", examples=("ray-ext gc",))
def command() -> None:
    """Remove packages, environments and downloads that nothing needs.

    Packages and environments also go by themselves, after an install, upgrade or remove.
    """
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime:
        freed_bytes = runtime.collect()
    answer("freed", {"bytes": freed_bytes}, lambda: note(f"Freed {size_text(freed_bytes)}."))
