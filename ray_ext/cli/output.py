"""How the verbs print: data on standard output (tables, or JSON), everything else on standard error.

On a terminal tables are drawn by rich; elsewhere they are plain lines. Nothing that is printed drives the terminal:
control characters are escaped.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import click

from ray_ext.cli.verb import settings
from ray_ext.errors import RayExtError

__all__ = [
    "JSON_SHAPE",
    "answer",
    "note",
    "print_error",
    "print_json",
    "print_table",
    "printable",
    "size_text",
    "time_text",
]

#: The version of the shapes that ``--json`` prints.
JSON_SHAPE = 1


def answer(kind: str, data: object, text: Callable[[], None] | None = None) -> None:
    """Print a verb's data: as JSON of this kind where ``--json`` asks for it, else as ``text`` prints it."""
    if settings().as_json:
        print_json(kind, data)
    elif text is not None:
        text()


def print_json(kind: str, data: object) -> None:
    """One JSON document: ``{"shape": 1, "kind": …, "data": …}``. Records and bytes may be in it."""
    click.echo(json.dumps({"shape": JSON_SHAPE, "kind": kind, "data": _plain(data)}, indent=2, ensure_ascii=False))


def _plain(data: object) -> object:
    if type(data) in (dict, list, str, int, float, bool, type(None)) and _is_json(data):
        return data
    import msgspec

    def other(value: object) -> object:
        return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else str(value)

    return json.loads(json.dumps(msgspec.to_builtins(data, builtin_types=(bytes, datetime)), default=other))


def _is_json(data: object) -> bool:
    if isinstance(data, dict):
        return all(type(key) is str and _is_json(value) for key, value in data.items())
    if isinstance(data, list):
        return all(map(_is_json, data))
    return type(data) in (str, int, float, bool, type(None))


def print_error(error: RayExtError, *, as_json: bool) -> None:
    """An error, on standard error."""
    if as_json:
        data = {
            "code": error.code,
            "what": error.what,
            "where": error.where,
            "fix": error.fix,
            "details": error.details,
        }
        document = {"shape": JSON_SHAPE, "kind": "error", "data": data}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False), err=True)
    else:
        click.echo(f"Error: {printable(str(error), is_one_line=False)}", err=True)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns; nothing where there are no rows."""
    if not rows:
        return
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw_table(head, cells)
        return
    widths = [max(len(row[i]) for row in (head, *cells)) for i in range(len(head))]
    for row in (head, *cells):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


#: What is said with these words is worth a colour.
_COLOURS = {"loaded": "green", "ok": "green", "done": "green", "failed": "red", "fail": "red", "restarting": "yellow"}
_COLOURS |= {"loading": "yellow", "warn": "yellow", "interrupted": "yellow", "unloaded": "dim"}


def _draw_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for title in head:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    Console(highlight=False).print(table)


def note(text: str) -> None:
    """Something that is not data."""
    click.echo(printable(text, is_one_line=False), file=sys.stderr)


def printable(text: str, *, is_one_line: bool = True) -> str:
    """The text with its control characters as escapes: what an extension says must not drive the terminal."""
    if text.isprintable():
        return text
    kept = "" if is_one_line else "\n"
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)


def size_text(size_bytes: int) -> str:
    """A size for people."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.4g} {unit}"
    return f"{size_bytes} B"


def time_text(unix_s: float) -> str:
    """A time for people, in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
