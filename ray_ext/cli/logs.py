"""``logs``."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import click

from ray_ext.errors import ExtensionNotFound
from ray_ext.home import Home

__all__ = ["logs_command"]

_LEVELS = ("debug", "info", "warning", "error")


@click.command("logs")
@click.argument("extension")
@click.option("-n", "--lines", type=click.IntRange(min=1), default=100, show_default=True, help="How many, at most.")
@click.option("--level", type=click.Choice(_LEVELS), default="debug", help="This level and above.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as they are: a JSON object a line.")
def logs_command(extension: str, lines: int, level: str, as_json: bool) -> None:
    """Print what an extension logged and printed. Works without a running runtime."""
    home = Home.default()
    path = home.log_file(extension)
    if not path.is_file():
        known = sorted(each.parent.name for each in home.logs.glob("*/log.jsonl"))
        raise ExtensionNotFound(
            f"there is no log of {extension!r}",
            where=str(home.logs),
            fix=f"there are logs of: {', '.join(known)}" if known else "no extension was loaded in this state home yet",
            details={"installed": known},
        )
    least = logging.getLevelName(level.upper())
    for record, line in deque(_records(path, int(least)), lines):
        click.echo(line if as_json else _text(record))


def _records(path: Path, least: int) -> Iterator[tuple[dict[str, object], str]]:
    older = sorted(path.parent.glob("log.jsonl.*"), reverse=True)
    for file in (*older, path):
        with file.open(encoding="utf-8", errors="replace") as content:
            for line in content:
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                if logging.getLevelNamesMapping().get(str(record.get("level")), logging.CRITICAL) >= least:
                    yield record, line.rstrip("\n")


def _text(record: dict[str, object]) -> str:
    head = f"{record['time']} {record['level']:7} #{record['generation']} {record['logger']}: "
    parts = [head + _escaped(str(record["message"]))]
    if "traceback" in record:
        parts += ["    " + _escaped(line) for line in str(record["traceback"]).splitlines()]
    return "\n".join(parts)


def _escaped(text: str) -> str:
    """Control characters as escapes: a log must not drive the terminal that shows it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
