from __future__ import annotations

from msgspec.structs import replace

from ray_ext.routing.book import Question, RouteBook, Target
from ray_ext.routing.routes import LEASE_S, Route

ROUTE = Route(
    extension="demo",
    version="1.0.0",
    generation=1,
    epoch=5,
    host="host/demo/1",
    is_trusted=False,
    payload_limit=1000,
    methods={},
)
LATER = replace(ROUTE, generation=2, epoch=8, host="host/demo/2")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _book(*routes: Route) -> tuple[RouteBook, Clock]:
    clock = Clock()
    book = RouteBook(clock)
    for route in routes:
        book.add(Target(route, None))
    return book, clock


def _ask(book: RouteBook) -> Question:
    question = book.question()
    assert question is not None
    return question


def _generation(book: RouteBook) -> int | None:
    target = book.get("demo")
    return None if target is None else target.route.generation


def test_a_route_of_a_later_epoch_replaces_the_known_one_and_one_of_a_lower_epoch_is_ignored() -> None:
    book, _ = _book(ROUTE)
    later = Target(LATER, None)
    assert book.add(later) is later
    assert book.add(Target(ROUTE, None)) is later
    assert book.add(Target(LATER, None)) is later
    assert book.get("demo") is later


def test_a_lower_epoch_is_ignored_also_when_the_later_route_is_gone_again() -> None:
    book, _ = _book(LATER)
    book.forget("demo", 2)
    book.add(Target(ROUTE, None))
    assert _generation(book) is None
    book.add(Target(LATER, None))
    assert _generation(book) == 2


def test_a_lower_epoch_than_a_table_has_shown_is_ignored() -> None:
    book, _ = _book(ROUTE)
    book.take(_ask(book), 8, [LATER])
    book.add(Target(ROUTE, None))
    assert _generation(book) is None


def test_forgetting_a_generation_spares_a_later_one() -> None:
    book, _ = _book(LATER)
    book.forget("demo", 1)
    book.forget("other", 9)
    assert _generation(book) == 2
    book.forget("demo", 3)
    assert _generation(book) is None


def test_a_generation_that_is_retired_or_replaced_is_dropped_and_others_stay() -> None:
    other = replace(ROUTE, extension="other", epoch=6)
    book, _ = _book(ROUTE, other)
    book.take(_ask(book), 9, [LATER, other])
    assert _generation(book) is None
    assert book.get("other") is not None
    book.take(_ask(book), 10, [])
    assert book.get("other") is None


def test_a_route_that_was_learned_after_the_table_was_made_stays() -> None:
    book, _ = _book()
    question = _ask(book)
    book.add(Target(LATER, None))
    book.take(question, 7, [])
    assert _generation(book) == 2


def test_a_table_of_a_lower_epoch_drops_nothing_and_renews_nothing() -> None:
    book, clock = _book(LATER)
    book.take(_ask(book), 9, [LATER])
    poll = _ask(book)
    clock.now += LEASE_S
    book.take(poll, 8, [])
    assert _generation(book) == 2
    assert book.expires_in_s == 0
    assert _ask(book) == Question(9, 0.0)


def test_one_poll_is_under_way_and_comes_back_before_the_shortest_lease_ends() -> None:
    short = replace(ROUTE, extension="short", lease_s=3.0)
    book, clock = _book(ROUTE, short)
    poll = _ask(book)
    assert poll == Question(0, 2.0)
    assert book.question() is None
    clock.now += poll.wait_s
    book.take(poll, 9, [ROUTE, short])
    assert book.expires_in_s == 3.0
    assert _ask(book) == Question(9, 2.0)
    assert book.question() is None


def test_an_expired_lease_triggers_exactly_one_refresh_however_long_the_registry_is_away() -> None:
    book, clock = _book(ROUTE)
    poll = _ask(book)
    clock.now += LEASE_S - 0.1
    assert book.question() is None
    clock.now += 0.1
    refresh = _ask(book)
    assert refresh == Question(0, 0.0)
    for _ in range(100):
        clock.now += LEASE_S
        assert book.question() is None
    book.take(refresh, 5, [ROUTE])
    assert book.question() is None
    book.take(poll, 5, [ROUTE])
    assert _ask(book) == Question(5, LEASE_S * 2 / 3)


def test_calls_go_on_with_an_expired_route_for_as_long_as_the_registry_is_away() -> None:
    book, clock = _book(ROUTE)
    for _ in range(1000):
        question = book.question()
        if question is not None:
            book.lose(question)
        clock.now += 3600
        assert _generation(book) == 1
    book.take(_ask(book), 5, [ROUTE])
    assert _generation(book) == 1
    assert book.expires_in_s == LEASE_S


def test_a_lost_question_is_asked_again_and_renews_nothing() -> None:
    book, clock = _book(ROUTE)
    poll = _ask(book)
    clock.now += 1.0
    book.lose(poll)
    assert book.expires_in_s == LEASE_S - 1.0
    assert _ask(book) == poll
    assert book.question() is None
    clock.now += LEASE_S
    book.lose(_ask(book))
    assert _ask(book) == Question(0, 0.0)
    assert book.question() is None
