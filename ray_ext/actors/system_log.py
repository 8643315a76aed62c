"""What the system's actors log: JSON lines in ``logs/system/<actor>.jsonl``, as extensions have theirs."""

from __future__ import annotations

import logging

from ray_ext.actors.logbook import Logbook
from ray_ext.home import Home

__all__ = ["record_system_log"]

_OURS = "ray_ext"
#: Of these the warnings are kept.
_OTHERS = ("asyncio", "uvicorn")


def record_system_log(home: Home, actor: str) -> None:
    """Record what this process logs as a system actor: of ray_ext from INFO on, and the warnings of others.

    For the constructor of an actor, or the main function of a process. Doing it again changes nothing.
    """
    ours = logging.getLogger(_OURS)
    if any(isinstance(handler, _SystemHandler) for handler in ours.handlers):
        return
    handler = _SystemHandler(Logbook(str(home.system_log_file(actor)), {"actor": actor}))
    ours.setLevel(min(logging.INFO, ours.getEffectiveLevel()))
    for name in (_OURS, *_OTHERS):
        logging.getLogger(name).addHandler(handler)


class _SystemHandler(logging.Handler):
    """Writes records to a logbook, with the traceback of every exception that is logged."""

    def __init__(self, logbook: Logbook) -> None:
        super().__init__()
        self._logbook = logbook
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        if record.levelno < logging.WARNING and record.name.partition(".")[0] != _OURS:
            return
        try:
            self._logbook.write(record.created, record.levelno, record.name, record.getMessage(), self._trace(record))
        except Exception:  # noqa: BLE001 - as the logging package asks of handlers: reported by it, and not raised
            self.handleError(record)

    def _trace(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        if error is None and isinstance(record.args, tuple):
            error = next((each for each in record.args if isinstance(each, BaseException)), None)
        return "" if error is None else self._formatter.formatException((type(error), error, error.__traceback__))
