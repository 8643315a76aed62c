from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest

from ray_ext.errors import (
    DependencyConflict,
    DependencyCycle,
    DependentsExist,
    ExtensionNotFound,
    InstallationConflict,
    PlanStale,
)
from ray_ext.resolve.plans import Plan, after, check_plan, make_plan
from ray_ext.resolve.rendering import render
from ray_ext.resolve.requests import Install, Load, Remove, Request, Unload, Upgrade
from ray_ext.resolve.universe import Installed, KnownRelease, Universe

LOADED = {"is_wanted": True, "is_loaded": True}
ABSENT = {"is_wanted": False, "is_loaded": False}


def release(
    name: str,
    needs: Mapping[str, str] | None = None,
    *,
    likes: Mapping[str, str] | None = None,
    requirements: tuple[str, ...] = (),
) -> KnownRelease:
    """``release("triage 1.2.0", {"sync": ">=2"})``."""
    extension, version = name.split()
    return KnownRelease(
        id=extension,
        version=version,
        sha256=name,
        dependencies=needs or {},
        optional_dependencies=likes or {},
        requirements=requirements,
    )


def universe(*releases: KnownRelease, loaded: str = "", installed: str = "", revision: int = 1) -> Universe:
    """``universe(..., loaded="sync 2.0, triage 1.0", installed="slack 1.0")``."""
    known: dict[str, tuple[KnownRelease, ...]] = {}
    for each in releases:
        known[each.id] = (*known.get(each.id, ()), each)
    there: dict[str, Installed] = {}
    for names, state in ((loaded, LOADED), (installed, ABSENT)):
        for extension, version in (name.split() for name in names.split(",") if name):
            there[extension] = Installed(id=extension, version=version, **state)
    return Universe(runtime_version="0.1.0", releases=known, installed=there, revision=revision)


def steps(plan: Plan) -> list[str]:
    return [f"{each.kind} {each.extension} {each.version}" for each in plan.steps]


def reasons(plan: Plan) -> dict[str, str]:
    return {f"{each.kind} {each.extension}": each.why for each in plan.steps}


def untouched(plan: Plan) -> dict[str, str]:
    return {each.extension: each.why for each in plan.untouched}


SYNC = (release("sync 2.0"), release("sync 2.1", requirements=("httpx>=0.27", "pyyaml")), release("sync 3.0"))
TRIAGE = (
    release("triage 1.0", {"sync": ">=2,<3"}, requirements=("pyyaml>=6",)),
    release("triage 1.1", {"sync": ">=2,<3", "store": ""}),
)
STORE = (release("store 1.0"),)
REPORT = (release("report 1.0", {"triage": ""}),)
NEWS = (release("news 1.0", likes={"sync": "", "triage": "<2"}),)
ALL = (*SYNC, *TRIAGE, *STORE, *REPORT)


# ---- install


def test_an_installation_prepares_and_installs_everything_before_it_loads_dependencies_first() -> None:
    plan = make_plan(universe(*ALL), Install(id="triage", version="1.0"))
    assert steps(plan) == [
        "environment sync 2.1",
        "install sync 2.1",
        "environment triage 1.0",
        "install triage 1.0",
        "load sync 2.1",
        "load triage 1.0",
    ]
    assert reasons(plan) == {
        "environment sync": "its Python packages: httpx>=0.27, pyyaml",
        "install sync": "sync >=2,<3 is needed by triage 1.0",
        "environment triage": "its Python packages: pyyaml>=6",
        "install triage": "asked for",
        "load sync": "sync >=2,<3 is needed by triage 1.0",
        "load triage": "asked for",
    }


def test_an_environment_names_the_first_requirements_and_counts_the_others() -> None:
    plan = make_plan(universe(release("a 1", requirements=("b", "c", "d", "e", "f"))), Install(id="a", version="1"))
    assert reasons(plan)["environment a"] == "its Python packages: b, c, d and 2 more"


def test_what_several_need_is_installed_and_loaded_for_the_same_reason() -> None:
    there = universe(release("a 1"), release("b 1", {"a": ">=1"}), release("c 1", {"a": "<2", "b": ""}))
    whys = reasons(make_plan(there, Install(id="c", version="1")))
    assert whys["install a"] == whys["load a"] == "a <2 is needed by c 1"


def test_an_installation_without_loading_loads_no_dependency_either() -> None:
    plan = make_plan(universe(*ALL), Install(id="report", version="1.0", load=False))
    assert [step for step in steps(plan) if not step.startswith("environment")] == [
        "install store 1.0",
        "install sync 2.1",
        "install triage 1.1",
        "install report 1.0",
    ]


def test_what_is_installed_or_loaded_already_gets_no_step_and_the_range_that_it_fits_is_named() -> None:
    there = universe(*ALL, *NEWS, loaded="sync 2.0, news 1.0", installed="store 1.0")
    plan = make_plan(there, Install(id="triage", version="1.1"))
    assert steps(plan) == ["install triage 1.1", "load store 1.0", "load triage 1.1"]
    assert reasons(plan)["load store"] == "store is needed by triage 1.1"
    assert untouched(plan)["sync"] == "2.0 fits >=2,<3 of triage 1.1"


def test_the_reason_to_stay_names_everyone_who_has_a_range() -> None:
    both = (release("a 1"), release("b 1", {"a": ""}), release("c 1", {"b": ">=1"}, likes={"a": "<2"}))
    plan = make_plan(universe(*both, loaded="a 1, b 1"), Install(id="c", version="1"))
    assert untouched(plan) == {"a": "1 fits the open range of b 1 and <2 of c 1", "b": "1 fits >=1 of c 1"}


def test_installing_what_is_there_is_no_change() -> None:
    there = universe(*ALL, loaded="sync 2.0", installed="store 1.0")
    for request, why in [
        (Install(id="sync", version="2.0"), "loaded already"),
        (Install(id="sync", version="2.0.0"), "loaded already"),
        (Install(id="sync", version="2.0", load=False), "installed already"),
        (Install(id="store", version="1.0", load=False), "installed already"),
    ]:
        plan = make_plan(there, request)
        assert plan.steps == ()
        assert untouched(plan)[request.id] == why


def test_another_version_over_one_that_is_not_loaded_replaces_it() -> None:
    plan = make_plan(universe(*ALL, installed="sync 2.0"), Install(id="sync", version="3.0", load=False))
    assert steps(plan) == ["install sync 3.0"]
    assert reasons(plan)["install sync"] == "asked for; replaces 2.0"


def test_another_version_over_a_loaded_one_stops_it_when_everything_else_is_ready() -> None:
    there = universe(*ALL, *NEWS, loaded="sync 2.0, triage 1.0, report 1.0", installed="news 1.0")
    plan = make_plan(there, Install(id="sync", version="2.1"))
    assert steps(plan) == ["environment sync 2.1", "unload sync 2.0", "install sync 2.1", "load sync 2.1"]
    assert reasons(plan)["unload sync"] == "2.1 replaces it"
    assert untouched(plan) == {
        "triage": "stays loaded: calls to sync wait while it is replaced",
        "report": "not involved",
        "news": "sync 2.1 fits its open range",
    }


def test_another_version_over_a_loaded_one_without_loading_is_refused() -> None:
    with pytest.raises(InstallationConflict) as refused:
        make_plan(universe(*ALL, loaded="sync 2.0"), Install(id="sync", version="2.1", load=False))
    assert refused.value.details == {"id": "sync", "installed": "2.0", "offered": "2.1"}
    assert "ray-ext upgrade sync" in refused.value.fix
    assert "ray-ext unload sync" in refused.value.fix


def test_a_version_means_that_release_and_not_a_local_build_of_it() -> None:
    there = universe(release("a 1.0"), release("a 1.0+debian"), release("a 1.0+fedora"))
    for version in ("1.0", "1.0+debian"):
        plan = make_plan(there, Install(id="a", version=version, load=False))
        assert steps(plan) == [f"install a {version}"]
        assert steps(make_plan(after(there, plan), Upgrade(id="a", version="1.0+fedora"))) == ["install a 1.0+fedora"]


@pytest.mark.parametrize("version", ["9.9", "1.*", ">=1", "newest", "1.0,<2", ""])
def test_a_version_that_no_release_has_is_refused_with_those_there_are(version: str) -> None:
    there = universe(*ALL, installed="sync 2.0")
    for request in (Install(id="sync", version=version), Upgrade(id="sync", version=version)):
        with pytest.raises(DependencyConflict, match="is known") as refused:
            make_plan(there, request)
        assert refused.value.fix == "register it, or ask for a known one, such as 3.0, 2.1, 2.0"


def test_an_unknown_extension_is_not_found() -> None:
    with pytest.raises(ExtensionNotFound) as refused:
        make_plan(universe(*ALL), Install(id="snyc", version="1.0"))
    assert "sync" in refused.value.fix


# ---- load


def test_loading_brings_what_is_needed_and_not_there() -> None:
    there = universe(*ALL, installed="triage 1.1, store 1.0")
    plan = make_plan(there, Load(id="triage"))
    assert steps(plan) == [
        "environment sync 2.1",
        "install sync 2.1",
        "load store 1.0",
        "load sync 2.1",
        "load triage 1.1",
    ]


def test_loading_never_changes_the_version_that_is_installed() -> None:
    newer = (release("a 1", {"b": "<2"}), release("a 2", {"b": ">=2"}), release("b 2"))
    with pytest.raises(DependencyConflict):
        make_plan(universe(*newer, installed="a 1, b 2"), Load(id="a"))


def test_loading_what_is_loaded_is_no_change_and_what_crashed_is_loaded_again() -> None:
    there = universe(*ALL, loaded="sync 2.0")
    assert untouched(make_plan(there, Load(id="sync"))) == {"sync": "loaded already"}
    crashed = replace(there, installed={"sync": Installed(id="sync", version="2.0", is_wanted=True)})
    assert steps(make_plan(crashed, Load(id="sync"))) == ["load sync 2.0"]


@pytest.mark.parametrize("request_", [Load(id="triage"), Unload(id="triage"), Upgrade(id="triage"), Remove(id="tri")])
def test_what_is_not_installed_is_not_found_and_what_is_installed_is_named(request_: Request) -> None:
    with pytest.raises(ExtensionNotFound) as refused:
        make_plan(universe(*ALL, loaded="sync 2.0", installed="store 1.0"), request_)
    assert refused.value.details["installed"] == ["store", "sync"]
    assert refused.value.fix == "installed: store, sync"


# ---- unload and remove

CHAIN = universe(*ALL, *NEWS, loaded="sync 2.0, triage 1.0, report 1.0, news 1.0")


def test_what_loaded_extensions_need_is_not_unloaded_and_all_that_need_it_are_named() -> None:
    with pytest.raises(DependentsExist) as refused:
        make_plan(CHAIN, Unload(id="sync"))
    assert refused.value.details["dependents"] == ["report", "triage"]
    assert refused.value.what.endswith("report 1.0 needs triage; triage 1.0 needs sync >=2,<3")
    assert refused.value.fix == "unload first: report, triage; or all together: ray-ext unload sync --cascade"


def test_a_cascade_unloads_the_farthest_dependents_first() -> None:
    plan = make_plan(CHAIN, Unload(id="sync", is_cascading=True))
    assert steps(plan) == ["unload report 1.0", "unload triage 1.0", "unload sync 2.0"]
    assert reasons(plan) == {
        "unload report": "needs triage",
        "unload triage": "needs sync >=2,<3",
        "unload sync": "asked for",
    }
    assert untouched(plan) == {"news": "works without sync and triage, too"}


def test_a_dependent_that_is_not_loaded_does_not_keep_its_dependency_loaded_but_installed() -> None:
    there = universe(*ALL, loaded="sync 2.0", installed="triage 1.0")
    plan = make_plan(there, Unload(id="sync"))
    assert steps(plan) == ["unload sync 2.0"]
    assert untouched(plan) == {"triage": "needs sync, but is not loaded"}
    with pytest.raises(DependentsExist) as refused:
        make_plan(there, Remove(id="sync"))
    assert refused.value.details["dependents"] == ["triage"]
    assert refused.value.fix == "remove first: triage; or all together: ray-ext remove sync --cascade"


def test_what_crashed_and_is_wanted_is_unloaded_and_keeps_its_dependencies() -> None:
    crashed = {**CHAIN.installed, "report": Installed(id="report", version="1.0", is_wanted=True)}
    there = replace(CHAIN, installed=crashed)
    with pytest.raises(DependentsExist):
        make_plan(there, Unload(id="triage"))
    plan = make_plan(there, Unload(id="report"))
    assert steps(plan) == ["unload report 1.0"]
    assert not after(there, plan).installed["report"].is_wanted


def test_unloading_what_is_not_loaded_is_no_change() -> None:
    plan = make_plan(universe(*ALL, installed="sync 2.0"), Unload(id="sync"))
    assert plan.steps == ()
    assert untouched(plan) == {"sync": "not loaded"}


def test_a_cascade_removes_dependents_first_and_data_last() -> None:
    there = universe(*ALL, loaded="sync 2.0, triage 1.0", installed="report 1.0")
    plan = make_plan(there, Remove(id="sync", is_cascading=True, is_purging=True))
    assert steps(plan) == [
        "unload triage 1.0",
        "unload sync 2.0",
        "remove report 1.0",
        "remove triage 1.0",
        "remove sync 2.0",
        "purge report 1.0",
        "purge triage 1.0",
        "purge sync 2.0",
    ]
    assert after(there, plan).installed == {}


def test_a_removal_keeps_the_data_unless_it_is_purging() -> None:
    assert steps(make_plan(CHAIN, Remove(id="report"))) == ["unload report 1.0", "remove report 1.0"]


def test_removing_what_is_known_but_not_installed_is_no_change() -> None:
    assert make_plan(universe(*ALL), Remove(id="sync")).steps == ()


# ---- upgrade


def test_an_upgrade_takes_the_best_version_that_the_dependents_allow_and_leaves_them_loaded() -> None:
    plan = make_plan(CHAIN, Upgrade(id="sync"))
    assert steps(plan) == ["environment sync 2.1", "unload sync 2.0", "install sync 2.1", "load sync 2.1"]
    assert untouched(plan) == {
        "news": "stays loaded: calls to sync wait while it is replaced",
        "report": "not involved",
        "triage": "stays loaded: calls to sync wait while it is replaced",
    }


def test_new_dependencies_of_an_upgrade_serve_before_the_old_version_stops() -> None:
    there = universe(*ALL, loaded="sync 2.0, triage 1.0")
    assert steps(make_plan(there, Upgrade(id="triage"))) == [
        "install store 1.0",
        "load store 1.0",
        "unload triage 1.0",
        "install triage 1.1",
        "load triage 1.1",
    ]


def test_an_upgrade_loads_nothing_where_the_old_version_was_not_loaded() -> None:
    there = universe(*ALL, installed="sync 2.0, triage 1.0")
    assert steps(make_plan(there, Upgrade(id="triage"))) == ["install store 1.0", "install triage 1.1"]


def test_an_upgrade_of_what_crashed_stops_its_restarts_and_loads_the_new_version() -> None:
    there = replace(universe(*ALL), installed={"sync": Installed(id="sync", version="2.1", is_wanted=True)})
    assert steps(make_plan(there, Upgrade(id="sync"))) == ["unload sync 2.1", "install sync 3.0", "load sync 3.0"]


def test_an_upgrade_to_an_older_version_is_made_when_it_is_asked_for() -> None:
    there = universe(*ALL, loaded="sync 3.0")
    plan = make_plan(there, Upgrade(id="sync", version="2.0"))
    assert steps(plan) == ["unload sync 3.0", "install sync 2.0", "load sync 2.0"]


def test_an_upgrade_to_what_is_there_is_no_change() -> None:
    there = universe(*ALL, loaded="sync 2.1, triage 1.0")
    for request, why in [
        (Upgrade(id="sync"), "the best version that fits is installed"),
        (Upgrade(id="sync", version="2.1"), "installed already"),
    ]:
        plan = make_plan(there, request)
        assert plan.steps == ()
        assert untouched(plan)["sync"] == why


def test_an_upgrade_outside_the_ranges_of_dependents_is_refused() -> None:
    with pytest.raises(DependencyConflict):
        make_plan(CHAIN, Upgrade(id="sync", version="3.0"))


# ---- inconsistent snapshots, as a crash may leave them


def test_what_lacks_its_dependency_can_be_unloaded_removed_and_repaired() -> None:
    there = universe(*ALL, loaded="triage 1.0")
    assert steps(make_plan(there, Unload(id="triage"))) == ["unload triage 1.0"]
    assert steps(make_plan(there, Remove(id="triage"))) == ["unload triage 1.0", "remove triage 1.0"]
    repair = make_plan(there, Load(id="triage"))
    assert steps(repair) == ["environment sync 2.1", "install sync 2.1", "load sync 2.1"]
    assert untouched(repair) == {"triage": "sync 2.1 fits its >=2,<3"}


def test_nothing_leads_into_a_circle_and_a_cascade_leads_out_of_it() -> None:
    circle = (release("a 1", {"b": ""}), release("b 1", {"c": ""}), release("c 1", {"a": ""}))
    for there in (universe(*circle), universe(*circle, installed="a 1, b 1, c 1")):
        with pytest.raises(DependencyCycle):
            make_plan(there, Install(id="a", version="1"))
    there = universe(*circle, loaded="a 1, b 1, c 1")
    with pytest.raises(DependentsExist):
        make_plan(there, Unload(id="b"))
    plan = make_plan(there, Remove(id="b", is_cascading=True))
    assert steps(plan)[2::3] == ["unload b 1", "remove b 1"]
    assert after(there, plan).installed == {}


# ---- plans as values


def test_a_plan_pickles_becomes_json_and_keeps_its_hash() -> None:
    plan = make_plan(CHAIN, Upgrade(id="sync"))
    copied = pickle.loads(pickle.dumps(plan))
    assert copied == plan
    assert copied.hash == plan.hash
    assert len(plan.hash) == 64
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


def test_the_hash_tells_plans_apart_by_request_revision_steps_and_reasons() -> None:
    plan = make_plan(CHAIN, Upgrade(id="sync"))
    others = [
        replace(plan, request=Upgrade(id="sync", version="2.1")),
        replace(plan, request=Load(id="sync")),
        replace(plan, revision=2),
        replace(plan, steps=plan.steps[::-1]),
        replace(plan, untouched=()),
        replace(plan, steps=(replace(plan.steps[0], why="because"), *plan.steps[1:])),
    ]
    assert len({each.hash for each in (plan, *others)}) == 7


def test_a_plan_that_would_be_made_again_is_fresh() -> None:
    request = Upgrade(id="sync")
    check_plan(CHAIN, make_plan(CHAIN, request))
    turned = replace(CHAIN, installed=dict(reversed(list(CHAIN.installed.items()))))
    check_plan(turned, make_plan(CHAIN, request))


def test_a_stale_plan_is_refused_with_both_hashes_and_the_changes_in_words() -> None:
    before, now = (universe(*ALL, loaded=loaded, revision=4) for loaded in ("sync 2.0", "sync 2.1"))
    planned, current = (make_plan(there, Upgrade(id="sync", version="3.0")) for there in (before, now))
    with pytest.raises(PlanStale) as stale:
        check_plan(now, planned)
    assert stale.value.details == {
        "planned": planned.hash,
        "current": current.hash,
        "changes": [
            "no longer: unload sync 2.0 (3.0 replaces it)",
            "no longer: install sync 3.0 (asked for; replaces 2.0)",
            "new: unload sync 2.1 (3.0 replaces it)",
            "new: install sync 3.0 (asked for; replaces 2.1)",
        ],
    }
    assert stale.value.what.endswith("new: unload sync 2.1 (3.0 replaces it); and 1 more")


def test_a_plan_of_another_revision_is_stale_even_with_the_same_steps() -> None:
    plan = make_plan(CHAIN, Unload(id="report"))
    with pytest.raises(PlanStale, match="the steps are the same, but it is at revision 9, not 1"):
        check_plan(replace(CHAIN, revision=9), plan)


def test_a_plan_whose_steps_would_come_in_another_order_is_stale() -> None:
    plan = make_plan(CHAIN, Unload(id="sync", is_cascading=True))
    with pytest.raises(PlanStale, match="the order of the steps"):
        check_plan(CHAIN, replace(plan, steps=plan.steps[::-1]))


def test_a_plan_that_can_no_longer_be_made_is_stale_and_says_why() -> None:
    plan = make_plan(universe(*ALL, loaded="sync 2.0"), Unload(id="sync"))
    with pytest.raises(PlanStale, match="is needed by what is loaded") as stale:
        check_plan(CHAIN, plan)
    assert stale.value.details["current"] == ""


# ---- rendering


def test_a_plan_reads_as_numbered_steps_with_reasons_then_what_stays() -> None:
    plan = make_plan(CHAIN, Upgrade(id="sync"))
    assert render(plan).splitlines() == [
        "upgrade sync to the best version that fits",
        "  1.  environment  sync 2.1  its Python packages: httpx>=0.27, pyyaml",
        "  2.  unload       sync 2.0  2.1 replaces it",
        "  3.  install      sync 2.1  asked for; replaces 2.0",
        "  4.  load         sync 2.1  asked for",
        "untouched",
        "  news 1.0    stays loaded: calls to sync wait while it is replaced",
        "  report 1.0  not involved",
        "  triage 1.0  stays loaded: calls to sync wait while it is replaced",
        f"revision 1, plan {plan.hash[:12]}",
    ]


@pytest.mark.parametrize(
    ("request_", "title"),
    [
        (Install(id="a", version="1"), "install a 1"),
        (Install(id="a", version="1", load=False), "install a 1, without loading it"),
        (Load(id="a"), "load a"),
        (Unload(id="a"), "unload a"),
        (Unload(id="a", is_cascading=True), "unload a, with its dependents"),
        (Remove(id="a"), "remove a"),
        (Remove(id="a", is_cascading=True, is_purging=True), "remove a, with its dependents, with all data"),
        (Upgrade(id="a", version="2"), "upgrade a to 2"),
    ],
)
def test_a_plan_without_steps_says_so_under_its_request(request_: Request, title: str) -> None:
    plan = Plan(request=request_, revision=3, steps=(), untouched=())
    assert render(plan).splitlines() == [title, "  no change", f"revision 3, plan {plan.hash[:12]}"]
