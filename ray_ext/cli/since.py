"""The value of ``--since``: how long ago, or when."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any

import click

__all__ = ["SINCE", "Since"]

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Since(click.ParamType[float]):
    """``90s``, ``5m``, ``1h30m``, ``2d``: so long ago; or a time in ISO 8601, the local one if it does not say where.

    >>> SINCE.convert("2026-01-31T12:00:00Z", None, None)
    1769860800.0
    """

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The Unix time."""
        text = str(value).strip()
        if text and not _PART.sub("", text):
            return time.time() - sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
        try:
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            self.fail(f"{text!r} is neither a duration (90s, 5m, 1h30m) nor a time (2026-01-31T12:00:00)", param, ctx)


SINCE = Since()
