"""Frames on a stream socket: ``u32 envelope size, u32 body size`` (little endian), envelope, body.

Both sizes are checked against their limits before a byte is allocated. :class:`FrameLink` is the one codec for both
ends: it reads without copies below its buffer's size, and gathers what is sent within one turn of the event loop
into one write.
"""

from __future__ import annotations

import asyncio
import mmap
import socket
import struct
from collections.abc import Callable

__all__ = ["ENVELOPE_LIMIT", "FrameError", "FrameLink", "pack_frame"]

#: The largest envelope, in bytes. Error texts and log records are cut by the SDK to stay far below.
ENVELOPE_LIMIT = 256 * 1024
_HEADER = struct.Struct("<II")
_HEADER_SIZE = _HEADER.size
_BUFFER_SIZE = 256 * 1024
_CHUNK_SIZE = 256 * 1024


class FrameError(Exception):
    """The peer sent something that is no frame of ours."""


def pack_frame(envelope: bytes, body: bytes = b"") -> bytes:
    """One frame as bytes."""
    return b"".join((_HEADER.pack(len(envelope), len(body)), envelope, body))


class FrameLink(asyncio.BufferedProtocol):
    """One end of a link. ``on_frame(envelope, body)`` is called per frame, ``on_close(error)`` once.

    ``on_close`` receives ``None`` after an orderly end of the stream, a :class:`FrameError` when the peer broke the
    protocol (also when ``on_frame`` raised one), and the ``OSError`` otherwise; a stream that ends within a frame is a
    ``ConnectionError``, because a peer that was killed while it wrote did nothing wrong.
    """

    def __init__(
        self,
        on_frame: Callable[[bytes, bytes], None],
        on_close: Callable[[Exception | None], None],
        body_limit: int,
        on_batch: Callable[[], None] | None = None,
    ) -> None:
        self._on_frame = on_frame
        self._on_close = on_close
        self._on_batch = on_batch
        self.body_limit = body_limit
        # Pages that no message reached yet take no memory, which most of a guest's are.
        self._buffer = mmap.mmap(-1, _BUFFER_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._large: bytearray | None = None
        self._large_filled = 0
        self._large_envelope = 0
        self._outbox: list[bytes | memoryview] = []
        self._is_paused = False
        self._is_closing = False
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._error: Exception | None = None

    @classmethod
    async def open(
        cls,
        channel: socket.socket,
        on_frame: Callable[[bytes, bytes], None],
        on_close: Callable[[Exception | None], None],
        body_limit: int,
        on_batch: Callable[[], None] | None = None,
    ) -> FrameLink:
        """A link over a connected stream socket, which it owns from now on."""
        channel.setblocking(False)
        link = cls(on_frame, on_close, body_limit, on_batch)
        transport, _ = await link._loop.create_unix_connection(lambda: link, sock=channel)
        link._transport = transport
        return link

    # ---- sending

    def send(self, envelope: bytes, body: bytes = b"") -> None:
        """Queue a frame; what is queued in one turn of the loop goes out in one write. Dropped after the close."""
        outbox = self._outbox
        if not outbox:
            self._loop.call_soon(self.flush)
        outbox.append(_HEADER.pack(len(envelope), len(body)))
        outbox.append(envelope)
        if body:
            outbox.append(body)

    def flush(self) -> None:
        """Write what is queued now, as far as the peer keeps up; the rest follows by itself."""
        transport = self._transport
        if transport is None or transport.is_closing():
            self._outbox.clear()
            return
        outbox = self._outbox
        if outbox and not self._is_paused:
            if sum(map(len, outbox)) <= _CHUNK_SIZE:
                transport.write(b"".join(outbox))
                outbox.clear()
            else:
                self._write_in_chunks(transport, outbox)
        if self._is_closing and not outbox:
            transport.close()

    def _write_in_chunks(self, transport: asyncio.Transport, outbox: list[bytes | memoryview]) -> None:
        """Large bodies are not copied as a whole: a quarter of a guest's memory may be one of them."""
        outbox.reverse()
        while outbox and not self._is_paused:
            part = memoryview(outbox.pop())
            if len(part) > _CHUNK_SIZE:
                outbox.append(part[_CHUNK_SIZE:])
                part = part[:_CHUNK_SIZE]
            transport.write(part)
        outbox.reverse()

    def pause_writing(self) -> None:
        """The transport holds enough (asyncio)."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """The transport takes more (asyncio)."""
        self._is_paused = False
        self.flush()

    def close(self) -> None:
        """Send what is queued and close; ``on_close`` follows."""
        self._is_closing = True
        self.flush()

    def abort(self, error: Exception | None = None) -> None:
        """Close at once; ``on_close`` follows with ``error``."""
        self._error = self._error or error
        if self._transport is not None:
            self._transport.abort()

    # ---- receiving (asyncio.BufferedProtocol)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        if self._large is not None:
            return memoryview(self._large)[self._large_filled :]
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have arrived: hand on every whole frame."""
        try:
            if self._large is not None:
                self._take_large(nbytes)
            else:
                self._filled += nbytes
                self._take_small()
        except FrameError as error:
            self.abort(error)
            return
        if self._on_batch is not None:
            self._on_batch()

    def _take_large(self, nbytes: int) -> None:
        large = self._large
        assert large is not None
        self._large_filled += nbytes
        if self._large_filled == len(large):
            self._large = None
            with memoryview(large) as view:
                cut = self._large_envelope
                envelope, body = bytes(view[:cut]), bytes(view[cut:])
            del large  # a large body must not be in memory twice while it is worked on
            self._on_frame(envelope, body)

    def _take_small(self) -> None:
        view, filled, position = self._view, self._filled, 0
        on_frame = self._on_frame
        while filled - position >= _HEADER_SIZE:
            envelope_size, body_size = _HEADER.unpack_from(view, position)
            if envelope_size > ENVELOPE_LIMIT or not envelope_size:
                raise FrameError(f"an envelope of {envelope_size} bytes (allowed: 1 to {ENVELOPE_LIMIT})")
            if body_size > self.body_limit:
                raise FrameError(f"a body of {body_size} bytes (allowed: {self.body_limit})")
            start = position + _HEADER_SIZE
            middle = start + envelope_size
            end = middle + body_size
            if end <= filled:
                on_frame(bytes(view[start:middle]), bytes(view[middle:end]))
                position = end
                continue
            if end - position > _BUFFER_SIZE:
                have = filled - start
                self._large = bytearray(envelope_size + body_size)
                self._large[:have] = view[start:filled]
                self._large_filled, self._large_envelope = have, envelope_size
                self._filled = 0
                return
            break
        if position:
            rest = filled - position
            self._buffer[:rest] = self._buffer[position:filled]
            filled = rest
        self._filled = filled

    def eof_received(self) -> bool:
        """The peer has ended its side: close ours."""
        if self._error is None and (self._filled or self._large is not None):
            self._error = ConnectionError("the stream ended in the middle of a frame")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The link is gone."""
        self._transport = None
        self._outbox.clear()
        self._on_close(self._error or exc)
