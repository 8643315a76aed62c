"""What the benchmarks call: the body of each method costs next to nothing, so that the call itself is measured."""

from __future__ import annotations

import asyncio

from ray_ext import Extension, exported

__all__ = ["Benchmark"]


class Benchmark(Extension):
    """Echoes bytes, and waits."""

    @exported
    async def echo(self, value: bytes) -> bytes:
        """The value."""
        return value

    @exported
    async def slow(self, seconds: float) -> float:
        """Takes ``seconds``, without using the processor."""
        await asyncio.sleep(seconds)
        return seconds
