"""Which releases an installation or an upgrade takes, and in which order they are loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from ray_ext.errors import ExtensionNotFound
from ray_ext.resolve.explanation import conflict, described
from ray_ext.resolve.ordering import load_order
from ray_ext.resolve.rules import Question
from ray_ext.resolve.search import Unanswered, search
from ray_ext.resolve.universe import KnownRelease, Universe

__all__ = ["Choice", "Resolution", "load_order", "resolve"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A release that was chosen: ``why`` says so in one line; ``is_installed``: this very version is there already."""

    release: KnownRelease
    why: str
    is_installed: bool


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """The target and all that it needs, directly or not, in load order: dependencies before dependents."""

    choices: tuple[Choice, ...]


def resolve(universe: Universe, target: str, specifier: str = "", *, is_change: bool = False) -> Resolution:
    """Choose a release of ``target`` within ``specifier`` (PEP 440; empty: any), and of everything that it needs.

    Only the target's version may change: every other installed extension keeps its own, and the ranges of all that are
    installed count. With ``is_change`` the best version of the target is wanted, otherwise the installed one where it
    fits. What is not installed is taken as new as possible.

    - An optional dependency pulls nothing in; where its extension is installed, or chosen anyway, its range counts.
    - A yanked release is taken only if it is installed, or if all who need it ask for exactly it with ``==``.
    - A pre-release is taken if it is installed, if all who need it name one, or if there is no other solution.

    Raises :class:`ExtensionNotFound`; :class:`DependencyConflict`, with who asks for what and what would solve it;
    :class:`DependencyCycle` when the best that fit need each other in a circle, which is reported and not avoided.
    """
    if not universe.releases.get(target):
        raise _unknown(universe, target)
    question = Question(universe=universe, asked={target: specifier}, is_change=is_change)
    try:
        ordered = load_order(search(question).values())
    except Unanswered as unanswered:
        raise conflict(question, unanswered.asks) from None
    installed = {each.id: each.version for each in universe.installed.values()}
    reasons = {**_needs(ordered), **dict.fromkeys(installed, "installed already"), target: "asked for"}
    choices = (
        Choice(release=each, why=reasons[each.id], is_installed=installed.get(each.id) == each.version)
        for each in ordered
    )
    return Resolution(choices=tuple(choices))


def _needs(ordered: Sequence[KnownRelease]) -> Mapping[str, str]:
    """For each release that another one needs: by whom, the one that is loaded last first."""
    needs: dict[str, str] = {}
    for dependent in reversed(ordered):
        for extension, specifier in dependent.dependencies.items():
            need = f"{described(extension, specifier)} is needed by {dependent.id} {dependent.version}"
            needs.setdefault(extension, need)
    return needs


def _unknown(universe: Universe, target: str) -> ExtensionNotFound:
    known = sorted(extension for extension, releases in universe.releases.items() if releases)
    nearest = get_close_matches(target[:200], known, n=3)
    fix = "install it from its folder or wheel"
    return ExtensionNotFound(
        f"no release of {target[:200]!r} is known",
        fix=f"did you mean {' or '.join(nearest)}? If not, {fix}" if nearest else fix,
        details={"installed": sorted(universe.installed), "nearest": nearest},
    )
