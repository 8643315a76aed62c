"""``discover``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ray_ext.cli.output import answer, note, print_table
from ray_ext.cli.verb import verb

if TYPE_CHECKING:
    from ray_ext.packages.discovery import Discovered

__all__ = ["command"]


@verb(section="Look", examples=("ray-ext discover", "RAY_EXT_PATH=~/extensions ray-ext discover --json"))
def command() -> None:
    """List the extensions that lie around on this machine, valid or not and why.

    Looks at the paths in RAY_EXT_PATH; without that, at the folder `extensions` of the state home and at the installed
    distributions. Executes nothing, and works without a running runtime.
    """
    from ray_ext.home import Home
    from ray_ext.packages.discovery import discover_configured

    default = Home.default().extensions
    found = discover_configured(os.environ, default)

    def text() -> None:
        if not found:
            note(f"Nothing was found in {os.environ.get('RAY_EXT_PATH') or default}")
        print_table(
            ("id", "version", "kind", "valid", "source", "problems"),
            [
                (each.id, each.version, each.kind, "yes" if each.is_valid else "no", each.source, _problems(each))
                for each in found
            ],
        )

    answer("discovered", found, text)


def _problems(found: Discovered) -> str:
    return f"shadowed by {found.shadowed_by}" if found.shadowed_by else "; ".join(found.problems)
