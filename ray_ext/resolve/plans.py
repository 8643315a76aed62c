"""The exact steps that an operation will take, computed from a snapshot before anything is touched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

import msgspec
from packaging.utils import canonicalize_version

from ray_ext.errors import (
    DependencyConflict,
    DependencyCycle,
    DependentsExist,
    ExtensionNotFound,
    InstallationConflict,
    PlanStale,
    RayExtError,
)
from ray_ext.resolve.explanation import described
from ray_ext.resolve.requests import Install, Load, Remove, Request, Unload, Upgrade
from ray_ext.resolve.resolution import Choice, load_order, resolve
from ray_ext.resolve.rules import installed_releases, is_within, parsed
from ray_ext.resolve.universe import Installed, KnownRelease, Universe

__all__ = ["Plan", "Step", "StepKind", "Untouched", "after", "check_plan", "make_plan"]

# The most of a list that one line names.
_SHOWN = 3


class StepKind(StrEnum):
    """What a step does with its extension; ``environment`` provides its Python packages, ``purge`` deletes its data."""

    ENVIRONMENT = "environment"
    INSTALL = "install"
    LOAD = "load"
    UNLOAD = "unload"
    REMOVE = "remove"
    PURGE = "purge"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One change; ``why`` is a line for people. An ``install`` over another version replaces it."""

    kind: StepKind
    extension: str
    version: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Untouched:
    """An installed extension without a step, and why the plan leaves it as it is."""

    extension: str
    version: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps that answer a request at one revision of the store; none where there is nothing to do."""

    request: Request
    revision: int
    steps: tuple[Step, ...]
    untouched: tuple[Untouched, ...]

    @property
    def hash(self) -> str:
        """SHA-256, in hexadecimal, of the whole plan: equal for equal plans only."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


def make_plan(universe: Universe, request: Request) -> Plan:
    """Work out what a request takes; equal arguments give equal plans.

    - What is loaded has its dependencies loaded before every step and after it. Only an extension that is loaded and
      changes its version is away between its ``unload`` and its ``load``; its dependents stay, their calls wait.
    - Environments, downloads and dependencies come before anything that serves is stopped, ``purge`` comes last.
    - What should be loaded and is not (it crashed, say) counts as loaded where something is to be stopped.
    - Removing what is known but not installed is no change.

    Raises :class:`ExtensionNotFound`, :class:`DependentsExist` (the request is not cascading),
    :class:`InstallationConflict` (another version is loaded, and the new one is not to be), and what
    :func:`~ray_ext.resolve.resolution.resolve` raises.
    """
    match request:
        case Install():
            steps, reasons = _install(universe, request)
        case Load():
            steps, reasons = _load(universe, request)
        case Unload():
            steps, reasons = _unload(universe, request)
        case Remove():
            steps, reasons = _remove(universe, request)
        case Upgrade():
            steps, reasons = _upgrade(universe, request)
        case _:
            assert_never(request)
    touched = {step.extension for step in steps}
    untouched = tuple(
        Untouched(extension=each.id, version=each.version, why=reasons.get(each.id, "not involved"))
        for each in sorted(universe.installed.values(), key=lambda each: each.id)
        if each.id not in touched
    )
    return Plan(request=request, revision=universe.revision, steps=tuple(steps), untouched=untouched)


def check_plan(universe: Universe, plan: Plan) -> None:
    """Raise :class:`PlanStale` when the same request would now give another plan, if only at another revision.

    Its details: the hashes ``planned`` and ``current`` (empty where no plan can be made), and the ``changes`` in words.
    """
    try:
        current = make_plan(universe, plan.request)
    except RayExtError as error:
        raise _stale(plan, "", [error.what]) from error
    if current != plan:
        raise _stale(plan, current.hash, _changes(plan, current))


def after(universe: Universe, plan: Plan) -> Universe:
    """What the plan's steps make of a universe; the revision stays, as the store gives the next."""
    installed = dict(universe.installed)
    for step in plan.steps:
        extension = step.extension
        match step.kind:
            case StepKind.INSTALL:
                before = installed.get(extension, Installed(id=extension, version=step.version))
                installed[extension] = replace(before, version=step.version)
            case StepKind.LOAD:
                installed[extension] = replace(installed[extension], is_wanted=True, is_loaded=True)
            case StepKind.UNLOAD:
                installed[extension] = replace(installed[extension], is_wanted=False, is_loaded=False)
            case StepKind.REMOVE:
                del installed[extension]
            case StepKind.ENVIRONMENT | StepKind.PURGE:
                pass
            case _:
                assert_never(step.kind)
    return replace(universe, installed=installed)


# ---- one function for each request: its steps, and the reasons of what it leaves alone, by id

_Draft = tuple[list[Step], Mapping[str, str]]


def _install(universe: Universe, request: Install) -> _Draft:
    choices = resolve(universe, request.id, _exactly(universe, request.id, request.version)).choices
    target, installed = choices[-1], universe.installed.get(request.id)
    if installed and _is_up(installed) and not target.is_installed and not request.load:
        raise InstallationConflict(
            f"{installed.id} {installed.version} is loaded, and {target.release.version} is to be installed only",
            fix=f"upgrade it: ray-ext upgrade {installed.id}; or unload it first: ray-ext unload {installed.id}",
            details={"id": installed.id, "installed": installed.version, "offered": target.release.version},
        )
    return _arrival(universe, choices, is_loading=request.load)


def _load(universe: Universe, request: Load) -> _Draft:
    installed = _installed(universe, request.id)
    choices = resolve(universe, request.id, _exactly(universe, request.id, installed.version)).choices
    return _arrival(universe, choices, is_loading=True)


def _upgrade(universe: Universe, request: Upgrade) -> _Draft:
    installed = _installed(universe, request.id)
    specifier = "" if request.version is None else _exactly(universe, request.id, request.version)
    choices = resolve(universe, request.id, specifier, is_change=True).choices
    if choices[-1].is_installed:
        return [], {request.id: "installed already" if specifier else "the best version that fits is installed"}
    return _arrival(universe, choices, is_loading=_is_up(installed))


def _unload(universe: Universe, request: Unload) -> _Draft:
    if not _is_up(_installed(universe, request.id)):
        return [], {request.id: "not loaded"}
    up = [each for each in installed_releases(universe) if _is_up(universe.installed[each.id])]
    leaving = _leaving(up, request.id)
    if len(leaving) > 1 and not request.is_cascading:
        raise _dependents_exist(request, leaving, "loaded")
    steps = [_step(StepKind.UNLOAD, each, _reason_to_leave(each, leaving)) for each in leaving]
    return steps, _left_behind(universe, leaving)


def _remove(universe: Universe, request: Remove) -> _Draft:
    if request.id not in universe.installed and universe.releases.get(request.id):
        return [], {}
    _installed(universe, request.id)
    leaving = _leaving(installed_releases(universe), request.id)
    if len(leaving) > 1 and not request.is_cascading:
        raise _dependents_exist(request, leaving, "installed")
    up = [each for each in leaving if _is_up(universe.installed[each.id])]
    steps = [_step(StepKind.UNLOAD, each, _reason_to_leave(each, leaving)) for each in up]
    steps += [_step(StepKind.REMOVE, each, _reason_to_leave(each, leaving)) for each in leaving]
    if request.is_purging:
        steps += [_step(StepKind.PURGE, each, "its data directory is deleted, as asked for") for each in leaving]
    return steps, _left_behind(universe, leaving)


# ---- what comes


def _arrival(universe: Universe, choices: Sequence[Choice], *, is_loading: bool) -> _Draft:
    """The steps to these choices, of which the target is the last: all others are there because it needs them."""
    target = choices[-1]
    before = universe.installed.get(target.release.id)
    swapped = before if before and _is_up(before) and not target.is_installed else None
    steps = [step for choice in choices if not choice.is_installed for step in _installation(universe, choice)]
    loads = [
        _step(StepKind.LOAD, choice.release, target.why if choice is target else _need(choice.release.id, choices))
        for choice in choices
        if is_loading and not (choice.is_installed and universe.installed[choice.release.id].is_loaded)
    ]
    if swapped:
        # Both are the target's: it is stopped when all else is ready.
        install, load = steps.pop(), loads.pop()
        loads += [_step(StepKind.UNLOAD, swapped, f"{target.release.version} replaces it"), install, load]
    reasons = {target.release.id: "loaded already" if is_loading else "installed already"}
    return steps + loads, {**reasons, **_reasons_to_stay(universe, choices, swapped)}


def _installation(universe: Universe, choice: Choice) -> list[Step]:
    release, before = choice.release, universe.installed.get(choice.release.id)
    why = f"{choice.why}; replaces {before.version}" if before else choice.why
    install = _step(StepKind.INSTALL, release, why)
    if not release.requirements:
        return [install]
    more = len(release.requirements) - _SHOWN
    shown = ", ".join(release.requirements[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return [_step(StepKind.ENVIRONMENT, release, f"its Python packages: {shown}"), install]


def _need(extension: str, choices: Sequence[Choice]) -> str:
    """Which of the choices needs this one: the last that does."""
    dependent = next(each.release for each in reversed(choices) if extension in each.release.dependencies)
    return f"{described(extension, dependent.dependencies[extension])} is needed by {_named(dependent)}"


def _reasons_to_stay(universe: Universe, choices: Sequence[Choice], swapped: Installed | None) -> dict[str, str]:
    """Why the dependencies among the choices may stay, and the installed ones that have ranges for what changes."""
    asked: dict[str, list[str]] = {}
    for choice in choices:
        for extension, specifier in _ranges(choice.release).items():
            asked.setdefault(extension, []).append(f"{specifier or 'the open range'} of {_named(choice.release)}")
    dependencies = [choice.release for choice in choices[:-1]]
    reasons = {each.id: f"{each.version} fits {' and '.join(asked[each.id])}" for each in dependencies}
    changed = [choice.release for choice in choices if not choice.is_installed]
    for dependent in installed_releases(universe):
        ranges = _ranges(dependent)
        fits = [f"{_named(each)} fits its {ranges[each.id] or 'open range'}" for each in changed if each.id in ranges]
        if swapped and swapped.id in ranges and _is_up(universe.installed[dependent.id]):
            reasons[dependent.id] = f"stays loaded: calls to {swapped.id} wait while it is replaced"
        elif fits:
            reasons[dependent.id] = " and ".join(fits)
    return reasons


# ---- what goes


def _leaving(candidates: Iterable[KnownRelease], extension: str) -> tuple[KnownRelease, ...]:
    """The extension, which is the last, and the candidates that need it, directly or not, each before what it needs."""
    pool = {release.id: release for release in sorted(candidates, key=lambda release: release.id)}
    leaving = {extension: pool[extension]}
    waiting = [extension]
    while waiting:
        needed = waiting.pop()
        dependents = [each for each in pool.values() if needed in each.dependencies and each.id not in leaving]
        leaving.update((each.id, each) for each in dependents)
        waiting += [each.id for each in dependents]
    try:
        return load_order(leaving.values())[::-1]
    except DependencyCycle:
        # No plan leads into a circle, but there must be a way out of one.
        return tuple(leaving.values())[::-1]


def _reason_to_leave(release: KnownRelease, leaving: Sequence[KnownRelease]) -> str:
    if release is leaving[-1]:
        return "asked for"
    needed = min(release.dependencies.keys() & {each.id for each in leaving})
    return f"needs {described(needed, release.dependencies[needed])}"


def _left_behind(universe: Universe, leaving: Sequence[KnownRelease]) -> Mapping[str, str]:
    """Why those may stay that have a range for something that goes."""
    gone, reasons = {each.id for each in leaving}, {}
    for release in installed_releases(universe):
        if needed := sorted(gone & release.dependencies.keys()):
            reasons[release.id] = f"needs {' and '.join(needed)}, but is not loaded"
        elif missed := sorted(gone & release.optional_dependencies.keys()):
            reasons[release.id] = f"works without {' and '.join(missed)}, too"
    return reasons


def _dependents_exist(request: Unload | Remove, leaving: Sequence[KnownRelease], state: str) -> DependentsExist:
    *dependents, target = leaving
    needs = [f"{_named(each)} {_reason_to_leave(each, leaving)}" for each in dependents]
    ids = [each.id for each in dependents]
    return DependentsExist(
        f"{_named(target)} is needed by what is {state}: {'; '.join(needs)}",
        fix=f"{request.verb} first: {', '.join(ids)}; or all together: ray-ext {request.verb} {target.id} --cascade",
        details={"dependents": ids},
    )


# ---- what is there


def _installed(universe: Universe, extension: str) -> Installed:
    if extension not in universe.installed:
        known = sorted(universe.installed)
        raise ExtensionNotFound(
            f"no extension {extension[:200]!r} is installed",
            fix=f"installed: {', '.join(known)}" if known else "install one: ray-ext install FOLDER",
            details={"installed": known},
        )
    return universe.installed[extension]


def _is_up(installed: Installed) -> bool:
    """Whether it serves, or its supervision is about to start it again."""
    return installed.is_loaded or installed.is_wanted


def _exactly(universe: Universe, extension: str, version: str) -> str:
    """The range that holds this version alone; raises DependencyConflict where it is unknown."""
    known = [release.version for release in universe.releases.get(extension, ())]
    others = [each for each in known if canonicalize_version(each) != canonicalize_version(version)]
    if known and len(others) == len(known):
        newest = sorted(known, key=parsed, reverse=True)[:_SHOWN]
        raise DependencyConflict(
            f"no release {version[:200]!r} of {extension} is known",
            fix=f"register it, or ask for a known one, such as {', '.join(newest)}",
            details={"conflicts": [f"{extension} =={version[:200]} is asked for"]},
        )
    # By PEP 440, ==1.0 holds local builds such as 1.0+debian, too.
    builds = [each for each in others if is_within(f"=={version}", each)]
    return ",".join([f"=={version}", *(f"!={build}" for build in builds)])


def _ranges(release: KnownRelease) -> Mapping[str, str]:
    return {**release.optional_dependencies, **release.dependencies}


def _named(release: KnownRelease) -> str:
    return f"{release.id} {release.version}"


def _step(kind: StepKind, subject: KnownRelease | Installed, why: str) -> Step:
    return Step(kind=kind, extension=subject.id, version=subject.version, why=why)


# ---- what has changed


def _stale(plan: Plan, current: str, changes: list[str]) -> PlanStale:
    more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return PlanStale(
        f"the plan to {plan.request.verb} {plan.request.id} is stale: {'; '.join(changes[:_SHOWN])}{more}",
        fix="make the plan again and look at it",
        details={"planned": plan.hash, "current": current, "changes": changes},
    )


def _changes(planned: Plan, current: Plan) -> list[str]:
    was, now = _lines(planned), _lines(current)
    changes = [f"no longer: {line}" for line in was if line not in now] + [
        f"new: {line}" for line in now if line not in was
    ]
    if not changes and was != now:
        changes.append("the order of the steps")
    return changes or [f"the steps are the same, but it is at revision {current.revision}, not {planned.revision}"]


def _lines(plan: Plan) -> list[str]:
    steps = [f"{each.kind} {each.extension} {each.version} ({each.why})" for each in plan.steps]
    return steps + [f"leave {each.extension} {each.version} as it is ({each.why})" for each in plan.untouched]
