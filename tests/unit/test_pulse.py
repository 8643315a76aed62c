from __future__ import annotations

import mmap

from ray_ext.wire.pulse import PULSE_SIZE, Pulse


def test_the_writer_and_the_reader_share_three_independent_counters() -> None:
    page = mmap.mmap(-1, PULSE_SIZE)
    writer, reader = Pulse(page), Pulse(page)
    assert (reader.started, reader.beat_ns, reader.loop_beat_ns) == (0, 0, 0)
    writer.started, writer.beat_ns, writer.loop_beat_ns = 2**64 - 1, 2, 3
    assert (reader.started, reader.beat_ns, reader.loop_beat_ns) == (2**64 - 1, 2, 3)


def test_the_layout_is_the_documented_one() -> None:
    page = mmap.mmap(-1, PULSE_SIZE)
    pulse = Pulse(page)
    pulse.started, pulse.beat_ns, pulse.loop_beat_ns = 1, 2, 3
    assert page[:24] == b"".join(number.to_bytes(8, "little") for number in (1, 2, 3))
    assert page[24:] == bytes(PULSE_SIZE - 24)
