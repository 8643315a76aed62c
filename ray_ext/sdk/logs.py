"""The guest's side of logging: records become messages to the host."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ray_ext.sdk.failures import traceback_text
from ray_ext.wire.messages import Log

__all__ = ["WireHandler"]

_MESSAGE_LIMIT = 32_000


class WireHandler(logging.Handler):
    """Hands every record of the process to ``send`` (thread-safe), with its size bounded."""

    def __init__(self, send: Callable[[Log], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; a record that cannot be formatted is sent with the reason in its place."""
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - arguments may not fit the format, or have a hostile __str__
            text = record.msg[:200] if type(record.msg) is str else ""
            message = f"(a log message could not be formatted: {type(error).__name__}) {text}"
        trace = traceback_text(record.exc_info[1]) if record.exc_info and record.exc_info[1] is not None else ""
        name = _sendable(record.name[:200])
        self._send(Log(record.created, record.levelno, name, _sendable(message[:_MESSAGE_LIMIT]), trace))


def _sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
