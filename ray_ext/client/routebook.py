"""The routes that this process knows: filled on demand, kept current by one long poll to the registry.

Shared by all event loops and threads of the process. While the registry is away the book keeps serving what it knows:
a host decides by itself whether it takes a call.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import ray

from ray_ext.client.registry_client import RegistryClient, registry_client
from ray_ext.routing.routes import LEASE_S, Route

__all__ = ["Target", "forget_routes", "route_book"]

_POLL_S = LEASE_S * 2 / 3
_RETRY_S = 0.5


class Target:
    """A route with the handle of its host actor."""

    __slots__ = ("actor", "route")

    def __init__(self, route: Route, actor: Any) -> None:
        self.route = route
        self.actor = actor


class RouteBook:
    """The book of one namespace."""

    def __init__(self, registry: RegistryClient) -> None:
        self._registry = registry
        self._targets: dict[str, Target] = {}
        self._epoch = 0
        self._lock = threading.Lock()
        self._is_polling = False
        self._is_closed = False

    def get(self, extension: str) -> Target | None:
        """What is known, at once."""
        return self._targets.get(extension)

    def learn(self, route: Route) -> Target:
        """Take a route in, unless a later one is known; blocks on Ray's control store for a new host."""
        known = self._targets.get(route.extension)
        if known is not None and known.route.epoch >= route.epoch:
            return known
        target = Target(route, ray.get_actor(route.host, namespace=self._registry.namespace))
        with self._lock:
            known = self._targets.get(route.extension)
            if known is not None and known.route.epoch >= route.epoch:
                return known
            self._targets[route.extension] = target
        self._poll()
        return target

    def forget(self, extension: str, generation: int) -> None:
        """This generation does not answer any more."""
        with self._lock:
            known = self._targets.get(extension)
            if known is not None and known.route.generation <= generation:
                del self._targets[extension]

    def close(self) -> None:
        """Stop polling."""
        self._is_closed = True

    def _poll(self) -> None:
        with self._lock:
            if self._is_polling or self._is_closed:
                return
            self._is_polling = True
        self._poll_again()

    def _poll_again(self) -> None:
        if self._is_closed or not ray.is_initialized():
            self._is_polling = False
            return
        try:
            answer: Future[Any] = self._registry.submit("routes_after", self._epoch, _POLL_S).future()
        except Exception:  # noqa: BLE001 - whatever keeps the registry away, trying again later is all there is to do
            self._retry()
            return
        answer.add_done_callback(self._on_table)

    def _retry(self) -> None:
        timer = threading.Timer(_RETRY_S, self._poll_again)
        timer.daemon = True
        timer.start()

    def _on_table(self, answer: Future[Any]) -> None:
        try:
            epoch, routes = answer.result()
        except BaseException:  # noqa: BLE001 - the registry was lost during the poll: its successor is asked
            if not self._is_closed:
                self._retry()
            return
        self._epoch = epoch
        current = {route.extension: route for route in routes}
        with self._lock:
            for extension, target in list(self._targets.items()):
                route = current.get(extension)
                is_stale = route is None or route.generation != target.route.generation
                if is_stale and target.route.epoch < epoch:
                    del self._targets[extension]
        # Never on this thread: it is Ray's own, and asking Ray from it could wait for itself.
        self._retry_now()

    def _retry_now(self) -> None:
        timer = threading.Timer(0.0, self._poll_again)
        timer.daemon = True
        timer.start()


_books: dict[str, RouteBook] = {}


def route_book(namespace: str) -> RouteBook:
    """This process's book of a namespace."""
    return _books.setdefault(namespace, RouteBook(registry_client(namespace)))


def forget_routes(namespace: str) -> None:
    """Close and drop the book, because the Ray connection ends."""
    book = _books.pop(namespace, None)
    if book is not None:
        book.close()
