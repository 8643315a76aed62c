"""Turns: one change of releases or installations at a time, so that a plan holds until it is carried out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ray_ext.errors import OperationConflict, RuntimeClosed

__all__ = ["Turns"]

#: How long what changes no installation (a registration, say) waits for its turn, in seconds.
_WAIT_S = 60.0


class Turns:
    """Belongs to the registry's event loop. ``holder`` says in words whose turn it is, for those who wait in vain."""

    def __init__(self) -> None:
        self.holder = ""
        self.is_closing = False
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def take(self, what: str, wait_s: float = _WAIT_S) -> AsyncIterator[None]:
        """Exclude everything else; raises OperationConflict when the turn does not come within ``wait_s`` seconds."""
        try:
            async with asyncio.timeout(wait_s):
                await self._turn.acquire()
        except TimeoutError:
            raise OperationConflict(
                f"{what} waits for another operation: {self.holder}",
                fix="wait until it has ended, and try again",
                details={"running": self.holder},
            ) from None
        try:
            self.refuse_when_closing()
            self.holder = what
            yield
        finally:
            self.holder = ""
            self._turn.release()

    def refuse_when_closing(self) -> None:
        """Raise RuntimeClosed once :meth:`close` was called."""
        if self.is_closing:
            raise RuntimeClosed("the runtime is being closed", fix="connect again: ray_ext.connect()")

    async def close(self) -> None:
        """Let nobody begin any more; returns when the last turn has ended."""
        self.is_closing = True
        async with self._turn:
            pass
