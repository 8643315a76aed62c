"""Logs as a stream of lines, for the control API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from itertools import islice

from ray_ext.control.log_reading import POLL_S, LogReader, LogRecord

__all__ = ["stream_logs"]

#: So many records are read before the event loop has its turn again.
_AT_ONCE = 500


async def stream_logs(reader: LogReader, *, is_following: bool) -> AsyncGenerator[bytes, None]:
    """JSON lines: the records that there are and, where one follows, those that come, without end.

    Files are read in threads. Closes the reader at its end, as when it is closed.
    """
    try:
        past = await asyncio.to_thread(reader.past)
        while records := await asyncio.to_thread(lambda: list(islice(past, _AT_ONCE))):
            yield _lines(records)
        while is_following:
            records = await asyncio.to_thread(reader.new)
            if records:
                yield _lines(records)
            else:
                await asyncio.sleep(POLL_S)
    finally:
        await asyncio.to_thread(reader.close)


def _lines(records: Iterable[LogRecord]) -> bytes:
    return b"".join(record.line + b"\n" for record in records)
