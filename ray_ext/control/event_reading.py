"""Server-sent events, as the HTML standard (section 9.2) has browsers read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = ["ServerEvent", "read_events"]


class ServerEvent(NamedTuple):
    """One event. ``id`` is that of the last event which had one."""

    kind: str
    data: str
    id: str


def read_events(lines: Iterable[bytes]) -> Iterator[ServerEvent]:
    """The events of a stream's lines, each as soon as it is whole; one that is not whole at the end is none."""
    kind, data, last_id = "", list[str](), ""
    for raw in lines:
        # A lone carriage return ends a line, too.
        for line in raw.removesuffix(b"\r").decode("utf-8", "replace").removeprefix("\ufeff").split("\r"):
            if not line:
                if data:
                    yield ServerEvent(kind or "message", "\n".join(data), last_id)
                kind, data = "", []
                continue
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                kind = value
            elif field == "data":
                data.append(value)
            elif field == "id" and "\0" not in value:
                last_id = value
