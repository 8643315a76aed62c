"""Every error as the control API answers it."""

from __future__ import annotations

import json

import pytest

from ray_ext.control.problems import STATUS, problem_response
from ray_ext.errors import Overloaded, RayExtError, Unauthorised, error_classes, error_from_parts


def test_every_error_has_a_status_and_nothing_else_has() -> None:
    # Classes of other tests' own are not ours to answer.
    ours = {code for code, cls in error_classes().items() if cls.__module__ == "ray_ext.errors"}
    assert set(STATUS) == ours


@pytest.mark.parametrize("code", sorted(STATUS))
def test_a_client_can_make_the_error_anew_from_its_problem(code: str) -> None:
    error = error_from_parts(code, "it broke", "here", "mend it", {"step": "load", "problems": ["one"]})
    response = problem_response(error)
    problem = json.loads(bytes(response.body))
    assert response.status_code == problem["status"] == STATUS[code]
    assert response.media_type == "application/problem+json"
    assert problem["type"] == f"/v1/errors/{code}"
    again = error_from_parts(problem["code"], problem["detail"], problem["where"], problem["fix"], problem["details"])
    assert (type(again), str(again), again.details) == (type(error), str(error), error.details)
    assert problem["actor"] == again.actor


def test_who_is_refused_for_now_is_told_when_to_come_back() -> None:
    error = Overloaded("too much", details={"retry_after_s": 1.2, "pending": 3, "limit": 2})
    assert problem_response(error).headers["retry-after"] == "2"


def test_who_is_not_known_is_told_how_to_say_who_he_is() -> None:
    assert problem_response(Unauthorised("who are you?")).headers["www-authenticate"] == "Bearer"


def test_an_error_of_a_later_version_is_a_failure_that_keeps_its_code() -> None:
    error = error_from_parts("not-invented-yet", "something new")
    assert type(error) is RayExtError
    problem = json.loads(bytes(problem_response(error).body))
    assert (problem["status"], problem["details"]) == (500, {"code": "not-invented-yet"})
