"""An extension's log: JSON lines in a file that rotates, written by its host.

One line per record: ``time`` (UTC, ISO 8601), ``level``, ``extension``, ``generation``, ``logger`` (``stdout`` and
``stderr`` for what was printed, ``ray_ext`` for what the host notes), ``message``, and perhaps ``traceback``.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime

__all__ = ["Logbook"]

_FILE_BYTES = 8 * 1024 * 1024
_OLD_FILES = 3


class Logbook:
    """Appends records; a write that fails (disk full) is counted and never disturbs the instance."""

    def __init__(self, path: str, extension: str, generation: int) -> None:
        self._path = path
        self._head = {"extension": extension, "generation": generation}
        self._descriptor: int | None = None
        self._size = 0
        self.lost = 0

    def note(self, level: int, message: str) -> None:
        """A record of the host's own."""
        self.write(datetime.now(UTC).timestamp(), level, "ray_ext", message, "")

    def write(self, time: float, level: int, logger: str, message: str, traceback: str) -> None:
        """One record."""
        record: dict[str, object] = {
            "time": _time_text(time),
            "level": logging.getLevelName(level),
            **self._head,
            "logger": logger,
            "message": message,
        }
        if traceback:
            record["traceback"] = traceback
        line = json.dumps(record, ensure_ascii=True).encode() + b"\n"
        try:
            self._append(line)
        except OSError:
            self.lost += 1
            self._close()

    def _append(self, line: bytes) -> None:
        if self._descriptor is not None and self._size + len(line) > _FILE_BYTES:
            self._rotate()
        if self._descriptor is None:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._descriptor).st_size
        # One write per record with O_APPEND: two generations may write to the same file for a while.
        self._size += os.write(self._descriptor, line)

    def _rotate(self) -> None:
        self._close()
        for number in range(_OLD_FILES, 0, -1):
            older = self._path if number == 1 else f"{self._path}.{number - 1}"
            if os.path.exists(older):
                os.replace(older, f"{self._path}.{number}")

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _time_text(time: float) -> str:
    try:
        moment = datetime.fromtimestamp(time, UTC)
    except (OverflowError, ValueError, OSError):  # a guest may send any number
        moment = datetime.now(UTC)
    return moment.isoformat(timespec="milliseconds")
