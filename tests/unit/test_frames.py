from __future__ import annotations

import asyncio
import os
import socket
import struct
import tracemalloc

import pytest

from ray_ext.wire.frames import ENVELOPE_LIMIT, FrameError, FrameLink, pack_frame

LIMIT = 1 << 20
FRAMES = [(b"e", b""), (b"envelope", b"body"), (b"x" * 300, b"y" * 700), (b"last", b"\x00")]
DEADLINE_S = 20.0


class End:
    """One end of a link, which remembers what it was handed; the other end is a plain socket."""

    def __init__(self) -> None:
        self.frames: list[tuple[bytes, bytes]] = []
        self.batches = 0
        self.closed: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.link = FrameLink(self.on_frame, self.closed.set_result, LIMIT)

    def on_frame(self, envelope: bytes, body: bytes) -> None:
        if envelope == b"refuse":
            raise FrameError("refused")
        self.frames.append((envelope, body))

    def on_batch(self) -> None:
        self.batches += 1

    async def open(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.link = await FrameLink.open(ours, self.on_frame, self.closed.set_result, LIMIT, self.on_batch)
        theirs.setblocking(False)
        return theirs

    async def end(self) -> Exception | None:
        async with asyncio.timeout(DEADLINE_S):
            return await self.closed


def feed(link: FrameLink, data: bytes) -> None:
    """Hand bytes to the protocol as a transport does: as many as fit into each buffer."""
    while data:
        buffer = link.get_buffer(-1)
        size = min(len(buffer), len(data))
        assert size > 0
        buffer[:size] = data[:size]
        link.buffer_updated(size)
        data = data[size:]


async def test_frames_are_whole_wherever_the_stream_is_split() -> None:
    data = b"".join(pack_frame(*frame) for frame in FRAMES)
    for cut in range(1, len(data)):
        end = End()
        feed(end.link, data[:cut])
        feed(end.link, data[cut:])
        assert end.frames == FRAMES
    end = End()
    for position in range(len(data)):
        feed(end.link, data[position : position + 1])
    assert end.frames == FRAMES


@pytest.mark.parametrize("step", [1 << 12, 99_991, 1 << 18, 1 << 22])
async def test_large_bodies_and_small_ones_keep_their_order(step: int) -> None:
    frames = [(b"a", os.urandom(size)) for size in (0, LIMIT, 1, 262_135, 262_136, 262_137, LIMIT - 1, 5)]
    data = b"".join(pack_frame(*frame) for frame in frames)
    end = End()
    for position in range(0, len(data), step):
        feed(end.link, data[position : position + step])
    assert end.frames == frames


async def test_the_limits_are_inclusive() -> None:
    end = End()
    feed(end.link, pack_frame(b"e" * ENVELOPE_LIMIT, b"b" * LIMIT))
    assert [(len(envelope), len(body)) for envelope, body in end.frames] == [(ENVELOPE_LIMIT, LIMIT)]


@pytest.mark.parametrize(
    "sizes", [(ENVELOPE_LIMIT + 1, 0), (0, 0), (0, 5), (1, LIMIT + 1), (1, 2**32 - 1), (2**32 - 1, 0)]
)
async def test_a_size_beyond_its_limit_is_refused_by_its_header_before_anything_is_allocated(
    sizes: tuple[int, int],
) -> None:
    end = End()
    other = await end.open()
    tracemalloc.start()
    try:
        other.send(struct.pack("<II", *sizes))
        assert isinstance(await end.end(), FrameError)
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()
        other.close()
    assert end.frames == []


async def test_junk_ends_the_link_as_a_frame_error() -> None:
    end = End()
    other = await end.open()
    other.send(b"\xff" * 100)
    assert isinstance(await end.end(), FrameError)
    other.close()


async def test_a_frame_that_its_reader_refuses_ends_the_link_and_nothing_follows() -> None:
    end = End()
    other = await end.open()
    other.send(pack_frame(b"one") + pack_frame(b"refuse") + pack_frame(b"two"))
    assert str(await end.end()) == "refused"
    assert end.frames == [(b"one", b"")]
    other.close()


async def test_an_orderly_end_is_no_error_and_all_frames_before_it_arrive() -> None:
    end = End()
    other = await end.open()
    other.send(pack_frame(b"one") + pack_frame(b"two", b"b"))
    other.close()
    assert await end.end() is None
    assert end.frames == [(b"one", b""), (b"two", b"b")]


@pytest.mark.parametrize("part", [b"\x01", pack_frame(b"envelope", b"body")[:-1], struct.pack("<II", 5, LIMIT) + b"x"])
async def test_an_end_within_a_frame_is_a_lost_connection_and_no_broken_protocol(part: bytes) -> None:
    end = End()
    other = await end.open()
    other.send(part)
    other.close()
    error = await end.end()
    assert isinstance(error, ConnectionError)
    assert not isinstance(error, FrameError)


async def test_what_is_sent_arrives_in_order_and_close_flushes_it() -> None:
    sender, receiver = End(), End()
    ours, theirs = socket.socketpair()
    sender.link = await FrameLink.open(ours, sender.on_frame, sender.closed.set_result, LIMIT)
    receiver.link = await FrameLink.open(theirs, receiver.on_frame, receiver.closed.set_result, LIMIT)
    frames = [(b"%d" % number, b"b" * number * 997) for number in range(100)]
    for frame in frames:
        sender.link.send(*frame)
    sender.link.close()
    assert await receiver.end() is None
    assert receiver.frames == frames
    assert await sender.end() is None
    sender.link.send(b"dropped")
    sender.link.flush()


async def test_one_read_is_one_batch() -> None:
    end = End()
    other = await end.open()
    other.send(pack_frame(b"one") + pack_frame(b"two"))
    other.close()
    await end.end()
    assert (len(end.frames), end.batches) == (2, 1)
