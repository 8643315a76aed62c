"""What a process knows of the routing table, and when it asks for it again. Pure: others do the asking."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ray_ext.routing.routes import LEASE_S, Route

__all__ = ["Question", "RouteBook", "Target"]


class Target:
    """A route with the handle of its host actor."""

    __slots__ = ("actor", "route")

    def __init__(self, route: Route, actor: Any) -> None:
        self.route = route
        self.actor = actor


@dataclass(frozen=True, slots=True)
class Question:
    """Asks for the routing table as soon as its epoch is above ``epoch``, or after ``wait_s`` seconds."""

    epoch: int
    wait_s: float

    @property
    def is_refresh(self) -> bool:
        """Whether it waits for no change."""
        return not self.wait_s


class RouteBook:
    """The routes that are known, by extension. Not thread-safe.

    A table renews every lease, so all run out together: the shortest one, counted from the last table. A route is used
    beyond its lease, for as long as the registry is away: its host decides whether it takes a call.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._targets: dict[str, Target] = {}
        #: The highest epoch that a route of each extension had; it outlives the route.
        self._seen: dict[str, int] = {}
        self._table_epoch = 0
        self._renewed_at = clock()
        self._unanswered: list[Question] = []

    @property
    def lease_s(self) -> float:
        """The shortest lease of a known route."""
        return min((target.route.lease_s for target in self._targets.values()), default=LEASE_S)

    @property
    def expires_in_s(self) -> float:
        """How long the leases last; not above zero when they have run out."""
        return self._renewed_at + self.lease_s - self._clock()

    def get(self, extension: str) -> Target | None:
        """What is known, at once."""
        return self._targets.get(extension)

    def successor(self, route: Route) -> Target | None:
        """What is known instead of this route: the same one, or one of a later epoch."""
        known = self._targets.get(route.extension)
        return known if known is not None and known.route.epoch >= route.epoch else None

    def add(self, target: Target) -> Target:
        """Take a route in, unless one of a later epoch was seen; returns the one to use."""
        successor = self.successor(target.route)
        if successor is not None:
            return successor
        if self._see(target.route):
            self._targets[target.route.extension] = target
        return target

    def forget(self, extension: str, generation: int) -> None:
        """This generation does not answer any more."""
        known = self._targets.get(extension)
        if known is not None and known.route.generation <= generation:
            del self._targets[extension]

    # ---- keeping current

    def question(self) -> Question | None:
        """What to ask the registry now; how it ended goes to :meth:`take` or :meth:`lose`.

        One question is always under way: a long poll, which comes back before a lease runs out. One that does not is
        joined by a single refresh.
        """
        is_expired = self.expires_in_s <= 0
        if any(question.is_refresh or not is_expired for question in self._unanswered):
            return None
        question = Question(self._table_epoch, 0.0 if is_expired else self.lease_s * 2 / 3)
        self._unanswered.append(question)
        return question

    def take(self, question: Question, epoch: int, routes: Iterable[Route]) -> None:
        """The answer: renew the leases, drop what the table does not hold. One of a lower epoch is ignored."""
        self._unanswered.remove(question)
        if epoch < self._table_epoch:
            return
        self._table_epoch = epoch
        self._renewed_at = self._clock()
        current = {route.extension: route.generation for route in routes if self._see(route)}
        for extension, target in list(self._targets.items()):
            # A route of a later epoch was learned while this table was on its way.
            if target.route.epoch < epoch and current.get(extension) != target.route.generation:
                del self._targets[extension]

    def lose(self, question: Question) -> None:
        """This question will have no answer."""
        self._unanswered.remove(question)

    def _see(self, route: Route) -> bool:
        """Whether the route's epoch does not go back."""
        if route.epoch < self._seen.get(route.extension, 0):
            return False
        self._seen[route.extension] = route.epoch
        return True
