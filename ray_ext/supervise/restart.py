"""When the successor of an instance that was lost is started."""

from __future__ import annotations

from collections import deque

__all__ = ["RestartPolicy"]


class RestartPolicy:
    """Exponential backoff that forgets: the first loss in a while restarts at once, a crash loop slows down.

    The delay doubles with every loss within ``window_s`` seconds, from 0 over ``first_s`` up to ``most_s``.
    """

    def __init__(self, *, first_s: float = 0.25, most_s: float = 30.0, window_s: float = 300.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._window_s = window_s
        self._losses: deque[float] = deque()

    def delay_after_loss(self, now: float) -> float:
        """Seconds to wait before the successor is started, given a loss at ``now`` (any monotonic clock)."""
        while self._losses and now - self._losses[0] > self._window_s:
            self._losses.popleft()
        self._losses.append(now)
        recent = len(self._losses)
        if recent == 1:
            return 0.0
        return min(self._most_s, self._first_s * 2.0 ** min(recent - 2, 64))

    @property
    def recent_losses(self) -> int:
        """How many losses the last window saw."""
        return len(self._losses)
