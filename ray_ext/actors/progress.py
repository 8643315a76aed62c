"""What an operation tells those who watch it."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from ray_ext.control.views import News

__all__ = ["Progress"]

_KEPT = 1000


class Progress:
    """The news of one operation, the last 1000 of them. Belongs to an event loop.

    ``epoch`` is the writer epoch of the registry that carries the operation out: its successor begins it anew, and
    counts anew.
    """

    def __init__(self, epoch: int) -> None:
        self.is_over = False
        self.updated_at = time.time()
        self._epoch = epoch
        self._last = 0
        self._news: deque[tuple[int, News]] = deque(maxlen=_KEPT)
        self._changed = asyncio.Event()

    def tell(self, text: str) -> None:
        """Add a line."""
        self._last += 1
        self._news.append((self._last, News(f"{self._epoch}-{self._last}", text)))
        self._notify()

    def end(self) -> None:
        """Nothing follows."""
        self.is_over = True
        self._notify()

    async def after(self, news: str, wait_s: float) -> list[News]:
        """What follows the news with this id, as soon as there is any, or it is over, or after ``wait_s`` seconds.

        An id of another epoch, or none, means: from the beginning.
        """
        number = self._number(news)
        try:
            async with asyncio.timeout(wait_s):
                while not self.is_over and self._last <= number:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return [each for at, each in self._news if at > number]

    def _number(self, news: str) -> int:
        epoch, _, number = news.partition("-")
        is_ours = epoch == str(self._epoch) and number.isascii() and number.isdecimal() and len(number) < 20
        return int(number) if is_ours else 0

    def _notify(self) -> None:
        self.updated_at = time.time()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
