"""Conflicts: what is said when no set of releases fits, and what would solve it."""

from __future__ import annotations

import pytest

from ray_ext.resolve.resolution import resolve
from tests.unit.universes import chosen, refusal, release, universe


def test_a_conflict_names_who_asks_for_what_what_is_known_and_what_would_solve_it() -> None:
    known = universe(
        release("github-triage 1.2.0", {"linear-sync": ">=2,<3"}),
        release("linear-sync 1.4.0"),
        release("linear-sync 2.0.0", runtime=">=1"),
        release("linear-sync 2.1.0"),
        release("linear-sync 3.0.0"),
        installed="linear-sync 1.4.0",
    )
    error = refusal(known, "github-triage")
    assert error.details["conflicts"] == [
        "github-triage is asked for",
        "github-triage 1.2.0 needs linear-sync >=2,<3",
        "linear-sync 3.0.0, 2.1.0, 2.0.0: held back, because 1.4.0 is installed",
        "linear-sync 1.4.0: outside >=2,<3",
    ]
    assert str(error) == (
        "no known releases allow github-triage:\n"
        "  - github-triage is asked for\n"
        "  - github-triage 1.2.0 needs linear-sync >=2,<3\n"
        "  - linear-sync 3.0.0, 2.1.0, 2.0.0: held back, because 1.4.0 is installed\n"
        "  - linear-sync 1.4.0: outside >=2,<3\n"
        "  fix: upgrading linear-sync to 2.1.0 would solve it [dependency-conflict]"
    )


def test_each_reason_against_a_known_release_is_named() -> None:
    known = universe(
        release("triage 1.0", {"sync": ">=1,<5"}),
        release("sync 1.0", runtime=">=1"),
        release("sync 2.0", is_yanked=True),
        release("sync 3.0"),
        release("sync 5.0"),
        release("notes 1.0", likes={"sync": "<3"}),
        installed="notes 1.0",
    )
    error = refusal(known, "triage", "==1.0")
    assert error.details["conflicts"] == [
        "triage ==1.0 is asked for",
        "triage 1.0 needs sync >=1,<5",
        "notes 1.0 (installed) needs sync <3 wherever that is installed",
        "sync 5.0, 3.0: outside <3",
        "sync 2.0: yanked, and not asked for by ==",
        "sync 1.0: requires ray_ext >=1, and this is 0.1.0",
    ]
    assert error.fix == "removing notes would solve it"


def test_a_dependency_that_no_known_release_fits_is_to_be_installed() -> None:
    known = universe(release("triage 1.0", {"sync": ">=2,<3"}), release("sync 1.0"))
    error = refusal(known, "triage")
    assert error.fix == "no known release of sync fits: install one in >=2,<3"
    error = refusal(universe(release("triage 1.0", {"sync": ""})), "triage")
    assert error.details["conflicts"] == [
        "triage is asked for",
        "triage 1.0 needs sync",
        "no release of sync is known",
    ]
    assert error.fix == "no known release of sync fits: install one"


def test_a_range_of_the_target_that_is_too_narrow_is_answered_with_a_version_that_would_do() -> None:
    known = universe(
        release("triage 1.0"),
        release("triage 2.0", {"sync": ""}),
        release("triage 3.0", {"sync": ""}),
    )
    error = refusal(known, "triage", ">=2")
    assert error.details["conflicts"] == [
        "triage >=2 is asked for",
        "triage 1.0: outside >=2",
        "triage 3.0, 2.0 need sync",
        "no release of sync is known",
    ]
    assert error.fix == ("asking for triage 1.0 would solve it; or no known release of sync fits: install one")


def test_two_that_need_different_versions_of_a_third_are_both_named_with_the_way_to_them() -> None:
    known = universe(
        release("triage 1.0", {"left": "", "right": ""}),
        release("left 1.0", {"base": "<2"}),
        release("right 1.0", {"base": ">=2"}),
        release("base 1.0"),
        release("base 2.0"),
    )
    error = refusal(known, "triage")
    assert error.details["conflicts"] == [
        "triage is asked for",
        "triage 1.0 needs left",
        "triage 1.0 needs right",
        "left 1.0 needs base <2",
        "right 1.0 needs base >=2",
        "base 2.0: outside <2",
        "base 1.0: outside >=2",
    ]
    assert error.fix == "install a release of one of them that asks for less"


def test_an_upgrade_that_breaks_a_dependent_names_it_and_the_dependent_s_own_upgrade() -> None:
    known = universe(
        release("sync 1.0"),
        release("sync 2.0"),
        release("triage 1.0", {"sync": "<2"}),
        release("triage 1.1", {"sync": "<3"}),
        release("triage 2.0", {"sync": ">=2"}),
        installed="sync 1.0, triage 1.0",
    )
    error = refusal(known, "sync", ">=2", is_change=True)
    assert error.details["conflicts"] == [
        "sync >=2 is asked for",
        "triage 1.0 (installed) needs sync <2",
        "sync 2.0: outside <2",
        "sync 1.0: outside >=2",
    ]
    # triage 2.0 would do as well, yet cannot come first: it needs sync 2 already.
    assert error.fix == "upgrading triage to 1.1 would solve it"


def test_what_the_fix_proposes_solves_it() -> None:
    releases = (
        release("triage 2.0", {"sync": "<2"}),
        release("sync 1.0"),
        release("sync 2.0", {"base": ">=2"}),
        release("base 1.0"),
        release("base 2.0"),
    )
    assert refusal(universe(*releases, installed="sync 2.0, base 2.0"), "triage").fix == (
        "downgrading sync to 1.0 would solve it"
    )
    changed = universe(*releases, installed="sync 1.0, base 2.0")
    assert chosen(resolve(changed, "triage")) == ["sync 1.0", "triage 2.0"]


def test_a_release_that_suits_one_version_of_an_asker_is_not_called_outside() -> None:
    known = universe(
        release("triage 2.0", {"sync": ">=2"}),
        release("triage 1.0", {"sync": "<2"}),
        release("sync 2.0", {"base": ""}),
        release("sync 1.0", {"base": ""}),
    )
    assert refusal(known, "triage").details["conflicts"] == [
        "triage is asked for",
        "triage 2.0 needs sync >=2",
        "triage 1.0 needs sync <2",
        "sync 2.0, 1.0 need base",
        "no release of base is known",
    ]


def test_of_the_installed_those_are_named_that_stand_in_the_way() -> None:
    known = universe(
        release("triage 1.0", {"base": ">=2"}),
        release("sync 1.0", {"base": "<2"}),
        release("notes 1.0", likes={"base": "<5"}),
        release("base 1.0"),
        release("base 2.0"),
        installed="sync 1.0, notes 1.0",
    )
    assert refusal(known, "triage").details["conflicts"] == [
        "triage is asked for",
        "triage 1.0 needs base >=2",
        "sync 1.0 (installed) needs base <2",
        "base 2.0: outside <2",
        "base 1.0: outside >=2",
    ]


def test_an_installed_dependency_that_misses_its_own_is_named_once() -> None:
    known = universe(
        release("triage 1.0", {"sync": ""}),
        release("sync 1.0", {"base": "<2"}),
        release("base 2.0"),
        installed="sync 1.0",
    )
    assert refusal(known, "triage").details["conflicts"] == [
        "triage is asked for",
        "triage 1.0 needs sync",
        "sync 1.0 (installed) needs base <2",
        "base 2.0: outside <2",
    ]


def test_an_extension_that_others_need_is_not_to_be_removed() -> None:
    releases = (
        release("sync 1.0"),
        release("sync 2.0"),
        release("notes 1.0", likes={"sync": "<2"}),
        release("board 1.0", {"notes": ""}),
    )
    error = refusal(universe(*releases, installed="sync 1.0, notes 1.0"), "sync", "==2.0", is_change=True)
    assert error.fix == "removing notes would solve it"
    error = refusal(universe(*releases, installed="sync 1.0, notes 1.0, board 1.0"), "sync", "==2.0", is_change=True)
    assert error.fix == "install a release of one of them that asks for less"


def test_versions_are_compared_as_versions() -> None:
    known = universe(
        release("triage 1.0", {"sync": ">=10"}), release("sync 9.0"), release("sync 10.0"), installed="sync 9.0"
    )
    assert refusal(known, "triage").fix == "upgrading sync to 10.0 would solve it"


def test_a_long_conflict_is_listed_at_both_ends() -> None:
    chain = [release(f"e{number} 1.0", {f"e{number + 1}": ">=1"}) for number in range(60)]
    lines = refusal(universe(*chain), "e0").details["conflicts"]
    assert isinstance(lines, list)
    assert lines[0] == "e0 is asked for"
    assert lines[20] == "and 22 more"
    assert lines[-2:] == ["e59 1.0 needs e60 >=1", "no release of e60 is known"]


def test_many_versions_are_summed_up() -> None:
    known = universe(
        release("sync 0.1"), *(release(f"triage 1.{number}", {"sync": f">={number + 1}"}) for number in range(8))
    )
    error = refusal(known, "triage")
    assert error.details["conflicts"] == [
        "triage is asked for",
        "triage 1.7 needs sync >=8",
        "triage 1.6 needs sync >=7",
        "triage 1.5 needs sync >=6",
        "and 5 more of triage, with other ranges of sync",
        "sync 0.1: outside >=8",
    ]
    assert error.fix == "no known release of sync fits: install one in >=8"
    known = universe(*(release(f"triage 1.{number}", {"sync": ">=1"}) for number in range(8)))
    lines = refusal(known, "triage").details["conflicts"]
    assert isinstance(lines, list)
    assert lines[1] == "triage 1.7, 1.6, 1.5, 1.4, 1.3 and 3 more need sync >=1"


def test_a_search_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    # Six pigeons and five holes: each pigeon needs a hole of which it takes the one version that suits it.
    pigeons = [
        release(f"pigeon-{pigeon} {hole}", {f"hole-{hole}": f"=={pigeon}"}) for pigeon in range(6) for hole in range(5)
    ]
    holes = [release(f"hole-{hole} {pigeon}") for hole in range(5) for pigeon in range(6)]
    flock = release("flock 1.0", {f"pigeon-{pigeon}": "" for pigeon in range(6)})
    known = universe(flock, *pigeons, *holes)
    assert "pigeon-0" in str(refusal(known, "flock"))
    monkeypatch.setattr("ray_ext.resolve.search._MOST_CLASHES", 10)
    error = refusal(known, "flock")
    assert "given up" in error.what
    assert error.details["conflicts"] == []
