"""Every code has a page, and what somebody has of a code leads to it."""

from __future__ import annotations

import re

import pytest

from ray_ext import errors
from ray_ext.cli.exits import STATUS_OF_CODES, STATUSES
from ray_ext.control.problems import STATUS
from ray_ext.errors import RayExtError, error_classes
from ray_ext.explanations import ACTORS, code_in, codes_like, explain, explanations

NAMED = [getattr(errors, name) for name in errors.__all__]
PUBLIC = [each for each in NAMED if isinstance(each, type) and issubclass(each, RayExtError)]


@pytest.mark.parametrize("cls", PUBLIC, ids=lambda cls: cls.__name__)
def test_every_class_says_what_it_means_and_what_to_do_in_at_most_three_sentences(cls: type[RayExtError]) -> None:
    page = explain(cls.code)
    assert page is not None
    assert (page.code, page.class_name, page.actor) == (cls.code, cls.__name__, cls.actor)
    assert page.meaning.endswith(".")
    assert page.to_do.endswith((".", '"`.'))
    assert 1 <= len(re.findall(r"\.(?: |$)", page.to_do)) <= 3
    assert "``" not in page.meaning + page.to_do
    assert "To do" not in page.meaning


@pytest.mark.parametrize("cls", PUBLIC, ids=lambda cls: cls.__name__)
def test_the_text_of_every_error_ends_with_its_code_and_that_leads_to_its_page(cls: type[RayExtError]) -> None:
    for error in (cls("it broke"), cls("it [x] broke\nmore", where="w [y]", fix="f [z]", details={"a": "[b]"})):
        assert str(error).endswith(f"[{cls.code}]")
        assert explain(code_in(f"Error: {error}\n")) == explain(cls.code)


def test_explanations_are_all_the_codes_there_are_by_who_must_act_and_the_root_last() -> None:
    known = explanations()
    assert set(known) >= {cls.code for cls in PUBLIC}
    assert list(known)[-1] == RayExtError.code
    actors = [page.actor for page in known.values()][:-1]
    assert actors == sorted(actors, key=list(ACTORS).index)


def test_the_keys_of_details_are_those_that_the_class_promises() -> None:
    assert explanations()["payload-too-large"].details == ("size_bytes", "limit_bytes", "which")
    assert explanations()["not-exported"].details == ("exported",)
    assert explanations()["outcome-unknown"].details == ("cause", "exit", "call_id")
    assert explanations()["runtime-closed"].details == ()


def test_a_page_names_the_kind_that_an_error_is_of() -> None:
    parents = {code: page.parent for code, page in explanations().items() if page.parent}
    classes = error_classes()
    assert parents["extension-hung"] == "extension-crashed"
    for code, parent in parents.items():
        assert issubclass(classes[code], classes[parent])


def test_every_code_has_an_exit_status_and_an_http_status() -> None:
    codes = {cls.code for cls in PUBLIC}
    assert codes <= set(STATUS_OF_CODES)
    assert codes <= set(STATUS)
    assert set(STATUS_OF_CODES.values()) <= set(STATUSES)


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("plan-stale", "plan-stale"),
        (" [plan-stale] ", "plan-stale"),
        ("plan_stale", "plan-stale"),
        ("PLAN-STALE", "plan-stale"),
        ("Error: it broke\n  fix: none [plan-stale]", "plan-stale"),
    ],
)
def test_what_somebody_pastes_is_the_code_in_it(typed: str, code: str) -> None:
    assert code_in(typed) == code


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("plan-stal", "plan-stale"),
        ("planstale", "plan-stale"),
        ("manifest-invald", "manifest-invalid"),
        ("grant", "grant-required"),
    ],
)
def test_a_code_that_is_misspelt_has_neighbours(typed: str, near: str) -> None:
    assert explain(typed) is None
    assert near in codes_like(typed)


def test_nonsense_has_no_neighbours() -> None:
    assert codes_like("zzzz") == []
    assert codes_like("") == []
