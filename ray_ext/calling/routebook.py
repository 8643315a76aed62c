"""The routes that this process knows: filled on demand, kept current by asking the registry for its table.

Shared by all event loops and threads of the process. While the registry is away the book keeps serving what it knows:
a host decides by itself whether it takes a call.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from functools import partial
from typing import Any

import ray

from ray_ext.calling.registry_client import RegistryClient, registry_client
from ray_ext.routing.book import Question, RouteBook, Target
from ray_ext.routing.routes import Route

__all__ = ["Target", "forget_routes", "route_book"]

_RETRY_S = 0.5


class LiveRouteBook:
    """The book of one namespace with what keeps it current."""

    def __init__(self, registry: RegistryClient) -> None:
        self._registry = registry
        self._book = RouteBook()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._is_closed = False
        #: What is known, at once.
        self.get = self._book.get

    def learn(self, route: Route) -> Target:
        """Take a route in, unless a later one is known; blocks on Ray's control store for a new host."""
        known = self._book.successor(route)
        if known is not None:
            return known
        target = Target(route, ray.get_actor(route.host, namespace=self._registry.namespace))
        with self._lock:
            target = self._book.add(target)
        self._ask()
        return target

    def forget(self, extension: str, generation: int) -> None:
        """This generation does not answer any more."""
        with self._lock:
            self._book.forget(extension, generation)

    def close(self) -> None:
        """Ask no more."""
        with self._lock:
            self._is_closed = True
            if self._timer is not None:
                self._timer.cancel()

    def _ask(self) -> None:
        if self._is_closed or not ray.is_initialized():
            return
        with self._lock:
            question = self._book.question()
            expires_in_s = self._book.expires_in_s
            if expires_in_s > 0:
                self._ask_in(expires_in_s)
        if question is None:
            return
        try:
            answer: Future[Any] = self._registry.submit("routes_after", question.epoch, question.wait_s).future()
        except Exception:  # noqa: BLE001 - whatever keeps the registry away, trying again later is all there is to do
            self._on_loss(question)
            return
        answer.add_done_callback(partial(self._on_answer, question))

    def _on_answer(self, question: Question, answer: Future[Any]) -> None:
        try:
            epoch, routes = answer.result()
        except BaseException:  # noqa: BLE001 - the registry was lost during the poll: its successor is asked
            self._on_loss(question)
            return
        with self._lock:
            self._book.take(question, epoch, routes)
            self._ask_in(0.0)

    def _on_loss(self, question: Question) -> None:
        with self._lock:
            self._book.lose(question)
            self._ask_in(_RETRY_S)

    def _ask_in(self, delay_s: float) -> None:
        # On a thread of its own: answers come on Ray's, from which asking Ray could wait for itself.
        if self._is_closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(delay_s, self._ask)
        self._timer.daemon = True
        self._timer.start()


_books: dict[str, LiveRouteBook] = {}


def route_book(namespace: str) -> LiveRouteBook:
    """This process's book of a namespace."""
    book = _books.get(namespace)
    return _books.setdefault(namespace, LiveRouteBook(registry_client(namespace))) if book is None else book


def forget_routes(namespace: str) -> None:
    """Close and drop the book, because the Ray connection ends."""
    book = _books.pop(namespace, None)
    if book is not None:
        book.close()
