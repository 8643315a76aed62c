"""JSON that is given on the command line."""

from __future__ import annotations

import sys
from typing import Any

import click

__all__ = ["read_json"]


def read_json(text: str, what: str) -> Any:
    """JSON from an argument: the text itself, ``@FILE``, or ``-`` for standard input."""
    import json

    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            with open(text[1:], encoding="utf-8") as file:
                text = file.read()
        return json.loads(text)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{what} is no JSON: {error} (give JSON, @FILE, or - for standard input)") from None
