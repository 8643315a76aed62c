"""Resolution: which releases are chosen, why, in which order, and what is said when none fit."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise, permutations

import pytest

from ray_ext.errors import DependencyConflict, DependencyCycle, ExtensionNotFound
from ray_ext.resolve.resolution import Resolution, load_order, resolve
from ray_ext.resolve.universe import Installed, KnownRelease, Universe


def release(
    id_and_version: str,
    needs: Mapping[str, str] | None = None,
    *,
    likes: Mapping[str, str] | None = None,
    runtime: str = "",
    is_yanked: bool = False,
) -> KnownRelease:
    """A release; ``likes`` are its optional dependencies."""
    extension, version = id_and_version.split()
    return KnownRelease(
        id=extension,
        version=version,
        sha256=f"hash of {id_and_version}",
        requires_runtime=runtime,
        dependencies=needs or {},
        optional_dependencies=likes or {},
        is_yanked=is_yanked,
    )


def universe(*releases: KnownRelease, installed: str = "", runtime: str = "0.1.0") -> Universe:
    """What is known; ``installed`` lists ids and versions: ``"linear-sync 1.0, slack-notifier 2.0"``."""
    known: dict[str, tuple[KnownRelease, ...]] = {}
    for each in releases:
        known[each.id] = (*known.get(each.id, ()), each)
    there = dict(each.split() for each in installed.split(", ") if each)
    return Universe(
        runtime_version=runtime,
        releases=known,
        installed={extension: Installed(id=extension, version=version) for extension, version in there.items()},
    )


def chosen(resolution: Resolution) -> list[str]:
    return [f"{choice.release.id} {choice.release.version}" for choice in resolution.choices]


def refusal(known: Universe, target: str, specifier: str = "", *, is_change: bool = False) -> DependencyConflict:
    with pytest.raises(DependencyConflict) as caught:
        resolve(known, target, specifier, is_change=is_change)
    return caught.value


# ---- what is chosen


def test_the_newest_release_is_chosen_with_the_newest_of_all_it_needs_dependencies_first() -> None:
    known = universe(
        release("triage 1.2", {"sync": ">=2,<3"}),
        release("triage 1.10", {"sync": ">=2,<3"}),
        release("sync 2.0", {"base": ""}),
        release("sync 2.1", {"base": ""}),
        release("sync 3.0"),
        release("base 1.0"),
        release("unrelated 1.0"),
    )
    resolution = resolve(known, "triage")
    assert chosen(resolution) == ["base 1.0", "sync 2.1", "triage 1.10"]
    assert [(choice.why, choice.is_installed) for choice in resolution.choices] == [
        ("base is needed by sync 2.1", False),
        ("sync >=2,<3 is needed by triage 1.10", False),
        ("asked for", False),
    ]


def test_why_names_the_last_of_the_dependents_in_load_order() -> None:
    known = universe(
        release("triage 1.0", {"sync": "", "base": ">=1"}), release("sync 1.0", {"base": ">=2"}), release("base 2.0")
    )
    assert [choice.why for choice in resolve(known, "triage").choices] == [
        "base >=1 is needed by triage 1.0",
        "sync is needed by triage 1.0",
        "asked for",
    ]


def test_the_range_that_is_asked_for_limits_the_target() -> None:
    known = universe(release("triage 1.0"), release("triage 1.5"), release("triage 2.0"))
    assert chosen(resolve(known, "triage", "<2")) == ["triage 1.5"]
    assert chosen(resolve(known, "triage", "==1.0")) == ["triage 1.0"]


def test_an_older_release_is_chosen_where_the_newest_cannot_have_what_it_needs() -> None:
    known = universe(
        release("triage 2.0", {"sync": ">=2", "base": "<2"}),
        release("triage 1.0", {"sync": ""}),
        release("sync 2.0", {"base": ">=2"}),
        release("sync 1.0", {"base": ""}),
        release("base 1.0"),
        release("base 2.0"),
    )
    assert chosen(resolve(known, "triage")) == ["base 2.0", "sync 2.0", "triage 1.0"]


def test_every_installed_extension_but_the_target_keeps_its_version() -> None:
    known = universe(
        release("triage 1.0", {"sync": ">=1"}),
        release("sync 1.0"),
        release("sync 2.0"),
        installed="sync 1.0",
    )
    resolution = resolve(known, "triage", is_change=True)
    assert chosen(resolution) == ["sync 1.0", "triage 1.0"]
    assert [(choice.why, choice.is_installed) for choice in resolution.choices] == [
        ("installed already", True),
        ("asked for", False),
    ]


def test_the_installed_target_stays_where_it_fits_and_a_change_takes_the_best() -> None:
    known = universe(release("triage 1.0"), release("triage 1.1"), release("triage 2.0"), installed="triage 1.0")
    kept = resolve(known, "triage")
    assert chosen(kept) == ["triage 1.0"]
    assert (kept.choices[0].why, kept.choices[0].is_installed) == ("asked for", True)
    assert chosen(resolve(known, "triage", ">1")) == ["triage 2.0"]
    changed = resolve(known, "triage", is_change=True)
    assert chosen(changed) == ["triage 2.0"]
    assert not changed.choices[0].is_installed


def test_a_change_may_end_at_the_installed_version_when_that_is_the_best() -> None:
    known = universe(release("triage 1.0"), release("triage 2.0", {"sync": ""}), installed="triage 1.0")
    resolution = resolve(known, "triage", is_change=True)
    assert chosen(resolution) == ["triage 1.0"]
    assert resolution.choices[0].is_installed


def test_a_change_respects_the_ranges_of_the_installed_dependents() -> None:
    known = universe(
        release("sync 1.0"),
        release("sync 1.5"),
        release("sync 2.0"),
        release("sync 3.0"),
        release("triage 1.0", {"sync": "<3"}),
        release("notes 1.0", likes={"sync": "<2"}),
        installed="sync 1.0, triage 1.0, notes 1.0",
    )
    assert chosen(resolve(known, "sync", is_change=True)) == ["sync 1.5"]


def test_the_ranges_of_the_target_s_own_old_version_do_not_count() -> None:
    known = universe(
        release("triage 1.0", {"sync": "<2"}),
        release("triage 2.0", {"sync": ">=2"}),
        release("sync 2.0"),
        installed="triage 1.0",
    )
    assert chosen(resolve(known, "triage", is_change=True)) == ["sync 2.0", "triage 2.0"]


# ---- optional dependencies


def test_an_optional_dependency_pulls_nothing_in() -> None:
    known = universe(release("triage 1.0", likes={"slack": ">=1"}), release("slack 1.0"))
    assert chosen(resolve(known, "triage")) == ["triage 1.0"]
    assert chosen(resolve(universe(release("triage 1.0", likes={"unknown": ">=1"})), "triage")) == ["triage 1.0"]


def test_an_optional_dependency_that_is_installed_must_fit_though_it_takes_no_part() -> None:
    known = universe(
        release("triage 2.0", likes={"slack": ">=2"}),
        release("triage 1.0", likes={"slack": ">=1"}),
        release("slack 1.0", {"gone": ""}),
        installed="slack 1.0",
    )
    assert chosen(resolve(known, "triage")) == ["triage 1.0"]


def test_an_optional_dependency_that_is_chosen_anyway_must_fit_and_comes_first() -> None:
    known = universe(
        release("triage 1.0", {"a-first": "", "slack": ""}),
        release("a-first 1.0", likes={"slack": "<2"}),
        release("slack 1.0"),
        release("slack 2.0"),
    )
    assert chosen(resolve(known, "triage")) == ["slack 1.0", "a-first 1.0", "triage 1.0"]


def test_an_optional_range_minds_the_version_alone() -> None:
    known = universe(
        release("triage 1.0", {"sync": "==2.0rc1", "notes": ""}),
        release("notes 1.0"),
        release("notes 2.0", likes={"sync": ">=1"}),
        release("sync 2.0rc1", is_yanked=True),
    )
    assert chosen(resolve(known, "triage")) == ["sync 2.0rc1", "notes 2.0", "triage 1.0"]


# ---- runtime, yanked, pre-releases


def test_releases_for_another_runtime_are_passed_over_and_a_pre_release_of_the_runtime_counts() -> None:
    releases = (release("triage 1.0", runtime=">=0.1,<1"), release("triage 2.0", runtime=">=1"))
    assert chosen(resolve(universe(*releases), "triage")) == ["triage 1.0"]
    assert chosen(resolve(universe(*releases, runtime="1.1rc1"), "triage")) == ["triage 2.0"]


def test_a_yanked_release_is_chosen_only_where_it_is_installed_or_asked_for_exactly() -> None:
    yanked = release("sync 2.0", is_yanked=True)
    assert chosen(resolve(universe(release("sync 1.0"), yanked), "sync")) == ["sync 1.0"]
    assert chosen(resolve(universe(release("sync 1.0"), yanked), "sync", "==2.0")) == ["sync 2.0"]
    assert chosen(resolve(universe(yanked, installed="sync 2.0"), "sync", ">=2")) == ["sync 2.0"]
    assert "sync 2.0: yanked" in str(refusal(universe(yanked), "sync", "==2.*"))
    by_another = universe(release("triage 1.0", {"sync": "==2.0"}), yanked)
    assert chosen(resolve(by_another, "triage")) == ["sync 2.0", "triage 1.0"]


def test_the_range_of_an_installed_bystander_does_not_forbid_a_yanked_release_asked_for_exactly() -> None:
    known = universe(
        release("sync 1.0"),
        release("sync 2.0", is_yanked=True),
        release("triage 1.0", {"sync": ">=1"}),
        installed="sync 1.0, triage 1.0",
    )
    assert chosen(resolve(known, "sync", "==2.0", is_change=True)) == ["sync 2.0"]


def test_a_pre_release_is_chosen_where_a_range_names_one_or_it_is_installed() -> None:
    known = (release("sync 1.0"), release("sync 2.0rc1"), release("sync 2.0rc2"))
    assert chosen(resolve(universe(*known), "sync")) == ["sync 1.0"]
    assert chosen(resolve(universe(*known), "sync", ">=1.0rc1")) == ["sync 2.0rc2"]
    assert chosen(resolve(universe(*known, installed="sync 2.0rc1"), "sync")) == ["sync 2.0rc1"]
    named = universe(*known, release("triage 1.0", {"sync": ">=1.0rc1"}))
    assert chosen(resolve(named, "triage")) == ["sync 2.0rc2", "triage 1.0"]


def test_a_pre_release_is_chosen_where_nothing_else_fits_and_only_there() -> None:
    known = universe(
        release("triage 1.0", {"sync": ">=2", "base": ""}),
        release("sync 1.0"),
        release("sync 2.1rc1"),
        release("base 1.0"),
        release("base 2.0rc1"),
    )
    assert chosen(resolve(known, "triage")) == ["base 1.0", "sync 2.1rc1", "triage 1.0"]


# ---- conflicts


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


# ---- unknown targets


def test_an_unknown_target_is_refused_with_the_nearest_ids() -> None:
    known = universe(release("github-triage 1.0"), release("slack 1.0"), installed="slack 1.0")
    with pytest.raises(ExtensionNotFound) as caught:
        resolve(known, "githib-triage")
    assert caught.value.fix == "did you mean github-triage? If not, install it from its folder or wheel"
    assert caught.value.details == {"installed": ["slack"], "nearest": ["github-triage"]}
    with pytest.raises(ExtensionNotFound) as caught:
        resolve(known, "zzz")
    assert caught.value.fix == "install it from its folder or wheel"


# ---- order and circles


@pytest.mark.parametrize("ids", [*permutations("abc")], ids="".join)
def test_a_circle_is_named_in_full_from_the_smallest_id(ids: tuple[str, str, str]) -> None:
    first, second, third = ids
    known = universe(
        release("entry 1.0", {first: ""}),
        release(f"{first} 1.0", {second: ""}),
        release(f"{second} 1.0", {third: ">=1", "0-base": ""}),
        release(f"{third} 1.0", {first: ""}),
        release("0-base 1.0"),
    )
    with pytest.raises(DependencyCycle) as caught:
        resolve(known, "entry")
    cycle = caught.value.details["cycle"]
    assert cycle == (["a", "b", "c", "a"] if "".join(ids) in "abcab" else ["a", "c", "b", "a"])
    steps = [f"{dependent} 1.0 needs {dependency}" for dependent, dependency in pairwise(cycle)]
    assert caught.value.what == f"extensions depend on each other in a circle: {', '.join(steps)}"


def test_an_optional_dependency_that_closes_a_circle_gives_way() -> None:
    order = load_order(
        [
            release("triage 1.0", likes={"slack": ""}),
            release("slack 1.0", {"triage": ""}, likes={"base": ""}),
            release("base 1.0", likes={"unknown": ""}),
        ]
    )
    assert [each.id for each in order] == ["base", "triage", "slack"]


def test_a_circle_of_optional_dependencies_is_opened_at_its_smallest_id() -> None:
    order = load_order([release("b 1.0", likes={"a": ""}), release("a 1.0", likes={"b": ""})])
    assert [each.id for each in order] == ["a", "b"]


def test_the_load_order_depends_on_the_releases_alone() -> None:
    releases = [
        release("z 1.0", {"a": ""}),
        release("c 1.0", {"b": ""}),
        release("d 1.0", {"c": "", "z": ""}),
        release("b 1.0"),
        release("a 1.0"),
    ]
    orders = {"".join(each.id for each in load_order(order)) for order in permutations(releases)}
    assert orders == {"abczd"}


# ---- many releases


def test_a_thousand_releases_resolve_to_the_newest_that_fit_together() -> None:
    releases = [
        release(
            f"e{number} {version}",
            {f"e{other}": f">={version - 1}" for other in (number + 1, number + 7) if other < 100},
            runtime=">=1" if (number, version) > (99, 4) else "",
        )
        for number in range(100)
        for version in range(1, 11)
    ]
    # The last one stays at 4, and every step towards the first may gain one version: steps of seven count, then of one.
    steps = {number: sum(divmod(99 - number, 7)) for number in range(100)}
    resolution = resolve(universe(*releases), "e0")
    assert {choice.release.id: int(choice.release.version) for choice in resolution.choices} == {
        f"e{number}": min(10, 4 + steps[number]) for number in range(100)
    }


def test_a_chain_of_a_thousand_extensions_is_resolved() -> None:
    chain = [release(f"e{number} 1.0", {f"e{number + 1}": ">=1"} if number < 999 else {}) for number in range(1000)]
    assert chosen(resolve(universe(*chain), "e0")) == [f"e{number} 1.0" for number in reversed(range(1000))]
