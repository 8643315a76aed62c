"""How the verbs print: data on standard output (tables, or JSON), everything else on standard error.

On a terminal tables are drawn by rich; elsewhere they are plain lines. Nothing that is printed drives the terminal:
control characters are escaped. With ``--json`` standard error has errors alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from ray_ext.cli.verb import settings

if TYPE_CHECKING:
    from ray_ext.cli.exits import Interrupted
    from ray_ext.errors import RayExtError

__all__ = [
    "JSON_SHAPE",
    "answer",
    "is_terminal",
    "note",
    "print_error",
    "print_interrupted",
    "print_json",
    "print_table",
    "print_usage_error",
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
    click.echo(_document(kind, _plain(data)))


def _document(kind: str, data: object) -> str:
    import json

    return json.dumps({"shape": JSON_SHAPE, "kind": kind, "data": data}, indent=2, ensure_ascii=False)


def _plain(data: object) -> object:
    if _is_json(data):
        return data
    import base64
    import json
    from datetime import datetime

    import msgspec

    def other(value: object) -> object:
        return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else str(value)

    return json.loads(json.dumps(msgspec.to_builtins(data, builtin_types=(bytes, datetime)), default=other))


def _is_json(data: object) -> bool:
    if type(data) is dict:
        return all(type(key) is str and _is_json(value) for key, value in data.items())
    if type(data) is list:
        return all(map(_is_json, data))
    return data is None or type(data) in (str, int, float, bool)


def print_error(error: RayExtError, *, as_json: bool) -> None:
    """An error, on standard error."""
    if as_json:
        _print_problem(error.code, error.what, error.where, error.fix, error.details)
    else:
        _print_headed("Error:", str(error), "red")


def print_usage_error(error: click.ClickException, *, as_json: bool) -> None:
    """What is wrong with the command line, on standard error."""
    if not as_json:
        error.show()
        return
    context = error.ctx if isinstance(error, click.UsageError) else None
    place = context.command_path if context is not None else "ray-ext"
    # The message of a group without a verb is its whole help.
    what = f"{place} needs a verb" if isinstance(error, click.exceptions.NoArgsIsHelpError) else error.format_message()
    _print_problem("usage", what, place, f"see {place} --help", {})


def print_interrupted(error: Interrupted, *, as_json: bool) -> None:
    """What Ctrl-C did, on standard error."""
    if as_json:
        _print_problem(error.code, error.what, "", "", error.details)
    else:
        _print_headed("", error.what, "")


def _print_problem(code: str, what: str, where: str, fix: str, details: Mapping[str, object]) -> None:
    data = {"code": code, "what": what, "where": where, "fix": fix, "details": _plain(dict(details))}
    click.echo(_document("error", data), err=True)


def _print_headed(head: str, text: str, colour: str) -> None:
    if head and is_terminal(sys.stderr) and not os.environ.get("NO_COLOR"):
        head = click.style(head, fg=colour, bold=True)
    click.echo(f"{head} {printable(text, is_one_line=False)}".lstrip(), err=True)


def is_terminal(stream: object) -> bool:
    """Whether somebody watches the stream on a terminal that can draw."""
    isatty = getattr(stream, "isatty", None)
    return isatty is not None and isatty() and os.environ.get("TERM") != "dumb"


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns; nothing where there are no rows."""
    if not rows:
        return
    cells = [[printable(cell) for cell in row] for row in rows]
    if is_terminal(sys.stdout):
        _draw_table(head, cells)
        return
    widths = [max(len(row[i]) for row in (head, *cells)) for i in range(len(head))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *cells)]
    click.echo("\n".join(lines))


#: What is said with these words is worth a colour.
_COLOURS = {"loaded": "green", "ok": "green", "done": "green", "failed": "red", "fail": "red", "restarting": "yellow"}
_COLOURS |= {"loading": "yellow", "warn": "yellow", "interrupted": "yellow", "running": "yellow", "unloaded": "dim"}


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
    """Something that is not data; left out with ``--json``."""
    if not settings().as_json:
        click.echo(printable(text, is_one_line=False), err=True)


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
    from datetime import UTC, datetime

    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
