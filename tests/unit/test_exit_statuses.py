"""Scripts rely on exit statuses: each error has one, on purpose."""

from __future__ import annotations

from ray_ext.cli import exits
from ray_ext.errors import GrantRequired, RuntimeUnreachable, error_classes, error_from_parts


def test_every_error_has_a_status_of_its_own_choice() -> None:
    assert exits.STATUS_OF_CODES.keys() == error_classes().keys()
    assert set(exits.STATUS_OF_CODES.values()) == exits.STATUSES.keys() - {exits.OK, exits.USAGE, exits.INTERRUPTED}


def test_the_statuses_are_those_that_are_documented() -> None:
    assert list(exits.STATUSES) == [0, 1, 2, 3, 4, 5, 6, 130]
    assert exits.status_of(RuntimeUnreachable("x")) == 5
    assert exits.status_of(GrantRequired("x")) == 4
    assert exits.status_of(error_from_parts("from-the-future", "x")) == 1
