"""An extension that does nothing, so that only the way to it is measured."""

import asyncio

from ray_ext import Extension, exported


class Echo(Extension):
    """Echoes at once, or later."""

    @exported
    async def echo(self, value: bytes) -> bytes:
        """The value."""
        return value

    @exported
    async def slow(self, seconds: float) -> float:
        """The same, after some time."""
        await asyncio.sleep(seconds)
        return seconds
