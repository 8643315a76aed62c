"""What an operation tells those who watch it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

__all__ = ["News", "Progress"]

_KEPT = 1000


class News(NamedTuple):
    """One line for people; numbers count upwards from 1."""

    number: int
    text: str


class Progress:
    """The news of one operation, the last 1000 of them. Belongs to an event loop."""

    def __init__(self) -> None:
        self.is_over = False
        self._news: deque[News] = deque(maxlen=_KEPT)
        self._changed = asyncio.Event()

    def tell(self, text: str) -> None:
        """Add a line."""
        self._news.append(News(self._last + 1, text))
        self._notify()

    def end(self) -> None:
        """Nothing follows."""
        self.is_over = True
        self._notify()

    async def after(self, number: int, wait_s: float) -> list[News]:
        """The news above ``number``: as soon as there are any, or when it is over, or after ``wait_s`` seconds."""
        try:
            async with asyncio.timeout(wait_s):
                while not self.is_over and self._last <= number:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return [each for each in self._news if each.number > number]

    @property
    def _last(self) -> int:
        return self._news[-1].number if self._news else 0

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
