"""Against every combination of releases: a solution is found exactly when there is one, and it keeps the rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ray_ext.errors import DependencyConflict, DependencyCycle
from ray_ext.resolve.resolution import resolve
from ray_ext.resolve.universe import Installed, KnownRelease, Universe

RUNTIME = "1.0"
TARGET = "a"
IDS = ["a", "b", "c", "d", "e"]
VERSIONS = ["1.0", "1.1", "2.0rc1", "2.0"]
RANGES = ["", "", "", ">=1.1", "<2", "<=2", ">=2", "!=1.1", "~=1.0", ">1.0,<2", "==1.1", ">=2.0rc1", "==2.0rc1", ">=3"]
RUNTIMES = ["", "", "", "", "", "", ">=1", "<1"]

Combination = Mapping[str, KnownRelease]


@st.composite
def releases_of(draw: st.DrawFn, extension: str) -> tuple[KnownRelease, ...]:
    others = st.sampled_from([each for each in IDS if each != extension])
    asks = st.dictionaries(others, st.sampled_from(RANGES), max_size=2)
    return tuple(
        KnownRelease(
            id=extension,
            version=version,
            sha256="",
            requires_runtime=draw(st.sampled_from(RUNTIMES)),
            dependencies=(needs := draw(asks)),
            optional_dependencies={each: range_ for each, range_ in draw(asks).items() if each not in needs},
            is_yanked=draw(st.sampled_from([False, False, False, True])),
        )
        for version in draw(
            st.lists(st.sampled_from(VERSIONS), unique=True, min_size=0 if extension == "e" else 2, max_size=4)
        )
    )


@st.composite
def universes(draw: st.DrawFn) -> Universe:
    """Five extensions, a few of them installed; of the last one perhaps no release."""
    releases = {extension: draw(releases_of(extension)) for extension in IDS}
    installed = {
        extension: Installed(id=extension, version=draw(st.sampled_from(releases[extension])).version)
        for extension in sorted(draw(st.sets(st.sampled_from(IDS), max_size=3)))
        if releases[extension]
    }
    return Universe(runtime_version=RUNTIME, releases=releases, installed=installed)


@cache
def contains(range_: str, version: str) -> bool:
    return SpecifierSet(range_).contains(version, prereleases=True)


def within(range_: str, release: KnownRelease) -> bool:
    return contains(range_, release.version)


class BruteForce:
    """Every combination that keeps the rules, found by trying all."""

    def __init__(self, universe: Universe, target: str, specifier: str) -> None:
        self.universe = universe
        self.target = target
        self.specifier = specifier
        self.kept = [
            next(release for release in universe.releases[each.id] if release.version == each.version)
            for each in universe.installed.values()
            if each.id != target
        ]

    def solutions(self) -> list[Combination]:
        return [chosen for chosen in self.closed({}) if all(self.is_allowed(each, chosen) for each in chosen.values())]

    def closed(self, chosen: Combination) -> Iterator[Combination]:
        """All sets of releases, one for each extension, of the target and what that needs, directly or not."""
        needed = {self.target, *(need for release in chosen.values() for need in release.dependencies)}
        missing = min(needed - chosen.keys(), default=None)
        if missing is None:
            yield chosen
            return
        for release in self.universe.releases[missing]:
            yield from self.closed({**chosen, missing: release})

    def is_allowed(self, release: KnownRelease, chosen: Combination) -> bool:
        installed = self.universe.installed.get(release.id)
        return (
            contains(release.requires_runtime, RUNTIME)
            and (installed is None or release.id == self.target or installed.version == release.version)
            and all(within(range_, release) for range_ in self.ranges(release, chosen))
            and (not release.is_yanked or self.is_installed(release) or self.all_say(release, chosen, "=="))
            and all(
                within(range_, kept)
                for kept in self.kept
                if (range_ := release.optional_dependencies.get(kept.id)) is not None
            )
        )

    def ranges(self, release: KnownRelease, chosen: Combination) -> Iterator[str]:
        yield from self.needs(release, chosen)
        for other in [*self.kept, *chosen.values()]:
            for asks in (other.dependencies, other.optional_dependencies):
                if release.id in asks:
                    yield asks[release.id]

    def needs(self, release: KnownRelease, chosen: Combination) -> list[str]:
        asked = [self.specifier] if release.id == self.target else []
        return asked + [each.dependencies[release.id] for each in chosen.values() if release.id in each.dependencies]

    def is_installed(self, release: KnownRelease) -> bool:
        installed = self.universe.installed.get(release.id)
        return installed is not None and installed.version == release.version

    def all_say(self, release: KnownRelease, chosen: Combination, *beginnings: str) -> bool:
        return all(range_.startswith(beginnings) for range_ in self.needs(release, chosen))

    def has_unnamed_prerelease(self, chosen: Combination) -> bool:
        return any(
            Version(release.version).is_prerelease
            and not self.is_installed(release)
            and not self.all_say(release, chosen, ">=2.0rc1", "==2.0rc1")
            for release in chosen.values()
        )

    def best_target(self, solutions: Sequence[Combination], *, is_change: bool) -> str:
        """The version of the target that is best among the solutions."""
        good = [chosen for chosen in solutions if not self.has_unnamed_prerelease(chosen)]
        versions = {Version(chosen[self.target].version) for chosen in good or solutions}
        installed = self.universe.installed.get(self.target)
        if installed is not None and not is_change and Version(installed.version) in versions:
            return installed.version
        return str(max(versions, key=lambda version: (bool(good) or not version.is_prerelease, version)))


def is_circle(ids: Sequence[str], chosen: Combination) -> bool:
    return chosen.keys() >= set(ids) and all(need in chosen[each].dependencies for each, need in pairwise(ids))


@given(universes(), st.sampled_from(["", "", *RANGES]), st.booleans())
@settings(deadline=None, max_examples=200)
def test_a_solution_is_found_exactly_when_there_is_one_and_it_keeps_every_rule(
    universe: Universe, specifier: str, is_change: bool
) -> None:
    brute_force = BruteForce(universe, TARGET, specifier)
    solutions = brute_force.solutions()
    try:
        resolution = resolve(universe, TARGET, specifier, is_change=is_change)
    except DependencyConflict:
        assert solutions == []
        return
    except DependencyCycle as error:
        circle = error.details["cycle"]
        assert isinstance(circle, list)
        assert any(is_circle(circle, chosen) for chosen in solutions)
        return
    found = {choice.release.id: choice.release for choice in resolution.choices}
    assert found in solutions
    assert not brute_force.has_unnamed_prerelease(found) or all(map(brute_force.has_unnamed_prerelease, solutions))
    assert found[TARGET].version == brute_force.best_target(solutions, is_change=is_change)
    order = list(found)
    for choice in resolution.choices:
        assert choice.is_installed == brute_force.is_installed(choice.release)
        assert all(order.index(need) < order.index(choice.release.id) for need in choice.release.dependencies)


@given(universes(), st.sampled_from(["", *RANGES]))
@settings(deadline=None, max_examples=100)
def test_what_a_conflict_says_would_solve_it_does(universe: Universe, specifier: str) -> None:
    try:
        resolve(universe, TARGET, specifier)
    except DependencyCycle:
        return
    except DependencyConflict as error:
        fix = error.fix
    else:
        return
    for version in re.findall(r"asking for a (\S+) would", fix):
        assert resolve(universe, TARGET, f"=={version}").choices
    for extension, version in re.findall(r"grading (\w) to (\S+) would", fix):
        first = resolve(universe, extension, f"=={version}", is_change=True)
        changed = {choice.release.id: choice.release.version for choice in first.choices}
        installed = {each: Installed(id=each, version=version) for each, version in changed.items()}
        assert resolve(replace(universe, installed={**universe.installed, **installed}), TARGET, specifier).choices
    for extension in re.findall(r"removing (\w) would", fix):
        left = {each: installation for each, installation in universe.installed.items() if each != extension}
        assert resolve(replace(universe, installed=left), TARGET, specifier).choices
