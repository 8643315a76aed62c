"""Watching an operation while it is at work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ray_ext.calling.registry_client import RegistryClient
from ray_ext.errors import RayExtError

__all__ = ["OnProgress", "watched"]

#: Called with one line of text for people; on a thread of its own.
OnProgress = Callable[[str], None]
_POLL_S = 10.0
_LAST_S = 2.0


@contextmanager
def watched(registry: RegistryClient, operation: str, on_progress: OnProgress | None) -> Iterator[None]:
    """Tell what the operation tells, until it is over."""
    if on_progress is None:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(
        target=_watch, args=(registry, operation, on_progress, over), name=f"progress {operation}", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        # The last lines are on their way.
        thread.join(_LAST_S)


def _watch(registry: RegistryClient, operation: str, on_progress: OnProgress, over: threading.Event) -> None:
    seen = ""
    while True:
        try:
            news, is_over = registry.call("news", operation, seen, _POLL_S)
        except RayExtError:  # the registry is gone, which the operation itself reports
            return
        for each in news:
            seen = each.id
            on_progress(each.text)
        if is_over or (over.is_set() and not news):
            return
