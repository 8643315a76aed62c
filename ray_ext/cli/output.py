"""How the verbs print: data on standard output (tables, or JSON), everything else on standard error."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
import msgspec

__all__ = ["JSON_SHAPE", "json_option", "note", "print_json", "print_table", "size_text", "time_text"]

F = TypeVar("F", bound=Callable[..., Any])

#: The version of the shapes that ``--json`` prints.
JSON_SHAPE = 1


def json_option(command: F) -> F:
    """``--json``: print JSON instead of a table."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def print_json(kind: str, data: object) -> None:
    """One JSON document: ``{"shape": 1, "kind": …, "data": …}``."""
    plain = msgspec.to_builtins(data, builtin_types=(bytes, datetime))
    document = {"shape": JSON_SHAPE, "kind": kind, "data": plain}
    click.echo(json.dumps(document, indent=2, default=_plain, ensure_ascii=False))


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    return str(value)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their content; the head goes to a terminal only if there are rows."""
    if not rows:
        return
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def note(text: str) -> None:
    """Something that is not data."""
    click.echo(text, file=sys.stderr)


def size_text(size_bytes: int) -> str:
    """A size for people."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.4g} {unit}"
    return f"{size_bytes} B"


def time_text(unix_s: float) -> str:
    """A time for people, in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
