"""Plans lead where they were asked to lead, over states in which everything loaded has what it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise

import msgspec
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ray_ext.errors import RayExtError
from ray_ext.resolve.plans import Plan, StepKind, after, make_plan
from ray_ext.resolve.rendering import render
from ray_ext.resolve.requests import Install, Load, Remove, Request, Unload, Upgrade
from ray_ext.resolve.rules import is_within
from ray_ext.resolve.universe import Installed, KnownRelease, Universe

IDS = ("a", "b", "c", "d")
VERSIONS = ("1.0", "1.1", "2.0")
RANGES = ("", "", "", ">=1.1", "<2")
QUICK = settings(deadline=None, max_examples=300)

ids, versions = st.sampled_from(IDS), st.sampled_from(VERSIONS)
first_requests = st.lists(st.builds(Install, id=ids, version=versions), min_size=2, max_size=3)
requests = st.one_of(
    st.builds(Install, id=ids, version=versions, load=st.booleans()),
    st.builds(Load, id=ids),
    st.builds(Unload, id=ids, is_cascading=st.booleans()),
    st.builds(Remove, id=ids, is_cascading=st.booleans(), is_purging=st.booleans()),
    st.builds(Upgrade, id=ids, version=st.none() | versions),
)
installations = st.builds(Installed, id=ids, version=versions, is_wanted=st.booleans(), is_loaded=st.booleans())


@st.composite
def universes(draw: st.DrawFn, *, with_circles: bool = False) -> Universe:
    """Each extension in each version, nothing installed. An extension needs only later ones, or with circles any."""

    def asks(others: Sequence[str], most: int) -> dict[str, str]:
        single = [{each: range_} for each in others for range_ in RANGES]
        double = [first | second for first, second in combinations(single, 2)]
        return draw(st.sampled_from(draw(st.sampled_from([[{}], single, double][: most + 1])))) if others else {}

    releases = {}
    for number, extension in enumerate(IDS):
        others, later = [each for each in IDS if each != extension], IDS[number + 1 :]
        releases[extension] = tuple(
            KnownRelease(
                id=extension,
                version=version,
                sha256=extension + version,
                dependencies=asks(others if with_circles else later, 2),
                optional_dependencies=asks(others, 1),
                requirements=("pyyaml",) if version == "1.1" else (),
                is_yanked=draw(st.sampled_from([False, False, False, True])),
            )
            for version in VERSIONS
        )
    return Universe(runtime_version="0.1.0", releases=releases, installed={})


def lacking(universe: Universe) -> set[str]:
    """What loaded extensions need and is not installed in their range and loaded."""
    there = universe.installed
    loaded = {(each.id, each.version) for each in there.values() if each.is_loaded}
    return {
        needed
        for known in universe.releases.values()
        for release in known
        if (release.id, release.version) in loaded
        for needed, range_ in release.dependencies.items()
        if needed not in there or not there[needed].is_loaded or not is_within(range_, there[needed].version)
    }


def states(universe: Universe, plan: Plan) -> Iterator[Universe]:
    """The universe before and after each of the plan's steps."""
    for count in range(len(plan.steps) + 1):
        yield after(universe, replace(plan, steps=plan.steps[:count]))


def is_answered(before: Universe, request: Request, end: Universe) -> bool:
    """Whether the end is what was asked for."""
    was, now = before.installed.get(request.id), end.installed.get(request.id)
    if now is None or isinstance(request, Remove):
        return now is None and isinstance(request, Remove)
    match request:
        case Install():
            return now.version == request.version and (now.is_loaded or not request.load)
        case Load():
            return now.is_loaded and was is not None and now.version == was.version
        case Unload():
            return not now.is_loaded and not now.is_wanted
        case Upgrade():
            if was is None or request.version not in (None, now.version):
                return False
            return now == was or now.is_loaded == (was.is_loaded or was.is_wanted)


@QUICK
@given(universes(), first_requests, st.lists(requests, min_size=3, max_size=8))
def test_every_plan_reaches_its_end_over_states_that_lack_nothing_and_is_then_done(
    universe: Universe, first: list[Request], then: list[Request]
) -> None:
    for request in first + then:
        try:
            plan = make_plan(universe, request)
        except RayExtError as error:
            event(f"{request.verb}: {error.code}")
            continue
        event(f"{request.verb}: {'steps' if plan.steps else 'no change'}")
        stopped, started = (
            {step.extension for step in plan.steps if step.kind is kind} for kind in (StepKind.UNLOAD, StepKind.LOAD)
        )
        swapped = {request.id} if isinstance(request, Install | Upgrade) else set()
        assert stopped & started <= swapped
        assert all(lacking(state) <= stopped & started for state in states(universe, plan))
        for state, following in pairwise(states(universe, plan)):
            replaced = {
                each
                for each in following.installed.values()
                if state.installed.get(each.id, each).version != each.version
            }
            assert not any(each.is_loaded for each in replaced)
        end = after(universe, plan)
        assert lacking(end) == set()
        assert is_answered(universe, request, end)
        kept = {each.extension for each in plan.untouched}
        assert universe.installed.keys() - {step.extension for step in plan.steps} == kept
        assert all(end.installed[each] == universe.installed[each] for each in kept)
        assert make_plan(end, request).steps == ()
        universe = end


@QUICK
@given(universes(with_circles=True), st.lists(installations, max_size=4), requests)
def test_whatever_is_installed_a_plan_is_made_or_refused_and_equal_snapshots_give_equal_plans(
    universe: Universe, there: list[Installed], request: Request
) -> None:
    snapshot = replace(universe, installed={each.id: each for each in there})
    turned = replace(
        snapshot,
        installed=dict(reversed(list(snapshot.installed.items()))),
        releases=dict(reversed(list(snapshot.releases.items()))),
    )
    try:
        plan = make_plan(snapshot, request)
    except RayExtError as error:
        event(error.code)
        return
    event("steps" if plan.steps else "no change")
    again = make_plan(turned, request)
    assert msgspec.json.encode(again) == msgspec.json.encode(plan)
    assert (again.hash, render(again)) == (plan.hash, render(plan))
    assert is_answered(snapshot, request, after(snapshot, plan))
