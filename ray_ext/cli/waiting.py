"""Telling what is being waited for: one live line on a terminal, a plain line for each thing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ray_ext.cli.output import is_terminal, note, printable
from ray_ext.cli.verb import settings

if TYPE_CHECKING:
    from rich.status import Status

__all__ = ["Waiting", "waiting"]


class Waiting:
    """What is being waited for."""

    def __init__(self, status: Status | None) -> None:
        self._status = status
        self._last = ""

    @property
    def has_told(self) -> bool:
        """Whether anything has been waited for."""
        return bool(self._last)

    def tell(self, what: str) -> None:
        """From now on it is this."""
        if what == self._last:
            return
        self._last = what
        if self._status is None:
            note(f"Waiting for {what} …")
        else:
            from rich.markup import escape

            self._status.update(f"Waiting for {escape(printable(what))} …")


@contextmanager
def waiting() -> Iterator[Waiting]:
    """While it lasts, something is being waited for. On standard error, and nothing with ``--json``."""
    if settings().as_json or not is_terminal(sys.stderr):
        yield Waiting(None)
        return
    from rich.console import Console

    with Console(stderr=True, highlight=False).status("") as status:
        yield Waiting(status)
