"""Records of logs as text for people, and as JSON lines for programs."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

import click

from ray_ext.cli.output import JSON_SHAPE, printable
from ray_ext.control.log_reading import LogRecord

__all__ = ["is_coloured_output", "json_line", "record_text"]

_COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bright_red"}
_INDENT = "    "


def record_text(record: LogRecord, *, is_coloured: bool) -> str:
    """One line for the record, and an indented one for each further line of its message and its traceback.

    Nothing in it drives the terminal, or looks like another record: control characters and characters that change the
    direction of writing are escapes, and only records begin at the margin.
    """
    moment = datetime.fromtimestamp(record.time, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
    source = printable(record.source) + ("" if record.generation is None else f"#{record.generation}")
    level = f"{printable(record.level):7}"
    if is_coloured:
        level = click.style(level, fg=_COLOURS.get(record.level), dim=record.level == "DEBUG" or None)
        source = click.style(source, fg="cyan")
    first, *more = record.message.split("\n")
    lines = [*more, *record.traceback.split("\n")] if record.traceback else more
    head = f"{moment} {level} {source} {printable(record.logger)}: {printable(first)}"
    return "\n".join([head, *(_INDENT + printable(line) for line in lines)])


def json_line(record: LogRecord) -> str:
    """The record as a JSON object in one line, with the version of its shape before its fields."""
    return f'{{"shape": {JSON_SHAPE}, {record.line.decode().lstrip()[1:]}'


def is_coloured_output() -> bool:
    """Whether standard output is a terminal whose user has not asked for no colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
