"""Resolution: which releases are chosen, why, and in which order."""

from __future__ import annotations

from itertools import pairwise, permutations

import pytest

from ray_ext.errors import DependencyCycle, ExtensionNotFound
from ray_ext.resolve.resolution import load_order, resolve
from tests.unit.universes import chosen, refusal, release, universe

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
