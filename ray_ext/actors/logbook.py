"""A log: JSON lines in a file that rotates. Extensions' are written by their hosts, those of the system by its actors.

One line per record: ``time`` (UTC, ISO 8601), ``level``, ``extension`` and ``generation`` (for the system: ``actor``),
``logger`` (``stdout`` and ``stderr`` for what was printed, ``ray_ext`` for what the host notes), ``message``, and
perhaps ``traceback``. The secrets of the extension's configuration are not in it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ray_ext.actors.redaction import Redactor
from ray_ext.actors.rotating_file import RotatingFile

__all__ = ["Logbook"]

_NAME_LIMIT = 200
#: In characters; a hostile guest sends more than the SDK does.
_TEXT_LIMIT = 32_000


class Logbook:
    """Appends records; a write that fails (disk full) is counted and never disturbs the instance.

    ``head`` says whose records these are. When there is room again, a record says how many were lost.
    """

    def __init__(self, path: str, head: Mapping[str, str | int], *, secrets: Sequence[str] = ()) -> None:
        self._file = RotatingFile(Path(path))
        self._head = dict(head)
        self._redacted = Redactor(secrets)
        self.lost = 0
        self._told = 0

    @classmethod
    def of_instance(cls, path: str, extension: str, generation: int, secrets: Sequence[str] = ()) -> Logbook:
        """The log of an extension's instance."""
        return cls(path, {"extension": extension, "generation": generation}, secrets=secrets)

    def redacted(self, text: str) -> str:
        """The text without the secrets."""
        return self._redacted(text)

    def note(self, level: int, message: str) -> None:
        """A record of the host's own."""
        self.write(_now().timestamp(), level, "ray_ext", message, "")

    def write(self, time: float, level: int, logger: str, message: str, traceback: str) -> None:
        """One record."""
        line = self._line(_time_text(time), level, logger, message, traceback)
        try:
            if self.lost > self._told:
                lost = f"{self.lost - self._told} records could not be written"
                self._file.append(self._line(_time_text(_now().timestamp()), logging.WARNING, "ray_ext", lost, ""))
                self._told = self.lost
            self._file.append(line)
        except OSError:
            self.lost += 1

    def close(self) -> None:
        """Close the file; the next record opens it again."""
        self._file.close()

    def _line(self, time: str, level: int, logger: str, message: str, traceback: str) -> bytes:
        record: dict[str, object] = {
            "time": time,
            "level": logging.getLevelName(level),
            **self._head,
            "logger": self._redacted(_cut(logger, _NAME_LIMIT)),
            "message": self._redacted(_cut(message, _TEXT_LIMIT)),
        }
        if traceback:
            record["traceback"] = self._redacted(_cut(traceback, _TEXT_LIMIT))
        return json.dumps(record, ensure_ascii=True).encode() + b"\n"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + "…"


def _now() -> datetime:
    return datetime.now(UTC)


def _time_text(time: float) -> str:
    try:
        moment = datetime.fromtimestamp(time, UTC)
    except (OverflowError, ValueError, OSError):  # a guest may send any number
        moment = _now()
    return moment.isoformat(timespec="milliseconds")
