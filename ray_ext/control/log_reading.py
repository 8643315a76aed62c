"""Reading logs: of extensions, of the system, or all of them in the order of time; once, or for as long as they grow.

Works on the files alone, with or without a runtime.
"""

from __future__ import annotations

import heapq
import json
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ray_ext.control.log_files import LogFiles
from ray_ext.errors import ExtensionNotFound
from ray_ext.home import Home

__all__ = [
    "LEVELS",
    "LogQuery",
    "LogReader",
    "LogRecord",
    "follow",
    "known_logs",
    "matches",
    "parse_record",
]

#: How often files are looked at, in seconds.
POLL_S = 0.2
#: The levels by which one may ask, with their numbers.
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

_SYSTEM = "system"
_LEVEL_NUMBERS = {name.upper(): number for name, number in LEVELS.items()}
_CUSTOM_LEVEL = re.compile(r"Level (-?\d{1,9})")


@dataclass(frozen=True, kw_only=True)
class LogQuery:
    """Which records. ``extensions`` and ``has_system`` say of whom; with neither, of everybody. ``since`` is a Unix
    time; ``level`` one of :data:`LEVELS`; ``lines`` how many at most of those that are there, the last ones."""

    extensions: tuple[str, ...] = ()
    has_system: bool = False
    since: float | None = None
    level: str = "debug"
    lines: int | None = None


@dataclass(frozen=True, kw_only=True)
class LogRecord:
    """One record. ``source`` is the extension's id, or the name of the system's actor, which has no ``generation``;
    ``time`` is a Unix time, ``line`` the record as JSON in ASCII, without a newline."""

    time: float
    level: str
    source: str
    generation: int | None
    logger: str
    message: str
    traceback: str
    line: bytes

    @property
    def is_of_system(self) -> bool:
        """Whether an actor of the system logged it."""
        return self.generation is None


def parse_record(line: bytes) -> LogRecord | None:
    """The record of a line; None where it is damaged."""
    try:
        fields = json.loads(line)
        generation = fields.get("generation")
        if generation is not None and type(generation) is not int:
            return None
        source = fields["actor"] if generation is None else fields["extension"]
        texts = (fields["level"], source, fields["logger"], fields["message"], fields.get("traceback", ""))
        if not all(type(text) is str for text in texts):
            return None
        moment = datetime.fromisoformat(fields["time"]).timestamp()
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    level, source, logger, message, traceback = texts
    return LogRecord(
        time=moment,
        level=level,
        source=source,
        generation=generation,
        logger=logger,
        message=message,
        traceback=traceback,
        line=line if line.isascii() else json.dumps(fields).encode(),
    )


def matches(query: LogQuery, record: LogRecord) -> bool:
    """Whether the record is asked for; what is of a level of the extension's own counts by its number."""
    if query.since is not None and record.time < query.since:
        return False
    if query.extensions or query.has_system:
        is_asked = query.has_system if record.is_of_system else record.source in query.extensions
        if not is_asked:
            return False
    custom = _CUSTOM_LEVEL.fullmatch(record.level)
    number = int(custom[1]) if custom else _LEVEL_NUMBERS.get(record.level, LEVELS["critical"])
    return number >= LEVELS[query.level]


def known_logs(home: Home) -> list[str]:
    """The extensions of which there is a log, sorted."""
    return sorted(path.parent.name for path in home.logs.glob("*/log.jsonl"))


class LogReader:
    """Reads the logs that a query asks for: :meth:`past` once, then :meth:`new` as often as one likes.

    Raises ExtensionNotFound for an extension of which there is no log, unless it is in ``expected``. ``damaged`` counts
    the lines that were left out because they hold no record.
    """

    def __init__(self, home: Home, query: LogQuery, *, expected: Iterable[str] = ()) -> None:
        unknown = sorted({*query.extensions} - {*expected, *known_logs(home)})
        if unknown:
            raise _no_log(home, unknown)
        self._home = home
        self._query = query
        self._logs: dict[Path, LogFiles] = {}
        self._lock = threading.Lock()
        self._is_closed = False
        self.damaged = 0

    def past(self) -> Iterator[LogRecord]:
        """The records that there are, in the order of time."""
        for path in self._paths():
            self._logs[path] = files = LogFiles(path)
            files.open()
            files.written_since(self._query.since)
        each = [self._records_of(files) for files in self._logs.values()]
        records = each[0] if len(each) == 1 else heapq.merge(*each, key=_time)
        lines = self._query.lines
        return records if lines is None or len(each) == 1 else iter(list(records)[-lines:] if lines else [])

    def _records_of(self, files: LogFiles) -> Iterator[LogRecord]:
        wanted = self._query.lines
        if wanted is None:
            return self._records(files.lines())
        last: list[LogRecord] = []
        backward = self._records(files.lines_backward())
        while len(last) < wanted and (record := next(backward, None)) is not None:
            last.append(record)
        return reversed(last)

    def new(self) -> list[LogRecord]:
        """What was logged since :meth:`past` or the last time, also in logs that are new."""
        with self._lock:
            if self._is_closed:
                return []
            for path in self._paths():
                if path not in self._logs:
                    self._logs[path] = LogFiles(path)
            records = [record for files in self._logs.values() for record in self._records(files.new_lines())]
        records.sort(key=_time)
        return records

    def _records(self, lines: Iterable[bytes | None]) -> Iterator[LogRecord]:
        for line in lines:
            record = None if line is None else parse_record(line)
            if record is None:
                self.damaged += line != b""
            elif matches(self._query, record):
                yield record

    def _paths(self) -> Iterator[Path]:
        query = self._query
        if not query.extensions and not query.has_system:
            yield from sorted(self._home.logs.glob("*/log.jsonl"))
        yield from (self._home.log_file(extension) for extension in dict.fromkeys(query.extensions))
        if query.has_system or not query.extensions:
            system = self._home.logs / _SYSTEM
            yield from (path for path in sorted(system.glob("*.jsonl")) if path.name != "log.jsonl")

    def close(self) -> None:
        """Close the files; waits for :meth:`new` at work in another thread."""
        with self._lock:
            self._is_closed = True
            for files in self._logs.values():
                files.close()


def follow(reader: LogReader, wait: Callable[[float], object] = time.sleep) -> Generator[list[LogRecord], None, None]:
    """What is there, then what comes, without end; an empty list each time that there is nothing new."""
    try:
        yield list(reader.past())
        while True:
            records = reader.new()
            yield records
            if not records:
                wait(POLL_S)
    finally:
        reader.close()


def _no_log(home: Home, unknown: list[str]) -> ExtensionNotFound:
    known = known_logs(home)
    return ExtensionNotFound(
        f"there is no log of {', '.join(each[:200] for each in unknown)}",
        where=str(home.logs),
        fix=f"there are logs of: {', '.join(known)}" if known else "no extension was loaded in this state home yet",
        details={"installed": known},
    )


def _time(record: LogRecord) -> float:
    return record.time
