"""Server-sent events (WHATWG HTML, 9.2): how they are written."""

from __future__ import annotations

import msgspec

__all__ = ["KEEP_ALIVE", "event"]

#: A comment, which clients pass over; it shows both ends that the other is there.
KEEP_ALIVE = b": keep-alive\n\n"


def event(name: str, data: object, identity: str = "") -> bytes:
    """One event with its data as JSON, which has no line feeds. ``identity`` is what ``Last-Event-ID`` names.

    >>> event("progress", {"text": "two\\nlines"}, "7-1")
    b'id: 7-1\\nevent: progress\\ndata: {"text":"two\\\\nlines"}\\n\\n'
    """
    first = f"id: {identity}\n" if identity else ""
    return f"{first}event: {name}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"
