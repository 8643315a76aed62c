"""Why no releases fit together, and what would help: the text of a DependencyConflict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ray_ext.errors import DependencyConflict, DependencyCycle
from ray_ext.resolve.ordering import load_order
from ray_ext.resolve.rules import Ask, Question, Rules, installed_releases, is_within, parsed
from ray_ext.resolve.search import Unanswered, search
from ray_ext.resolve.universe import Installed, KnownRelease

__all__ = ["conflict", "described"]

# Listed, and tried, at most: whoever reads it mends the first thing and asks again.
_LISTED_VERSIONS = 5
_LISTED_ASKS = 3
_LISTED_LINES = 40
_TRIED_CHANGES = 10
_TRIED_VERSIONS = 5


def described(extension: str, specifier: str) -> str:
    """An extension with the range that is wanted of it."""
    return f"{extension} {specifier}" if specifier else extension


def conflict(question: Question, asks: Sequence[Ask]) -> DependencyConflict:
    """The error for a question about one extension that has no answer because of ``asks``.

    It names who asks for what, the known releases with what speaks against each, and what would solve it.
    """
    ((target, specifier),) = question.asked.items()
    wanted = described(target, specifier)
    if not asks:
        return DependencyConflict(
            f"the search for releases that allow {wanted} was given up: too many ranges contradict each other",
            fix=f"ask for one version, {target} ==VERSION, or install what it needs one by one",
            details={"conflicts": []},
        )
    rules = Rules(question)
    disputed = _by_extension(asks, rules)
    lines = _shortened([line for extension in disputed for line in _dispute(extension, disputed[extension], rules)])
    return DependencyConflict(
        f"no known releases allow {wanted}:\n" + "\n".join(f"  - {line}" for line in lines),
        fix="; or ".join(_solutions(question, disputed, rules))
        or "install a release of one of them that asks for less",
        details={"conflicts": lines},
    )


def _by_extension(asks: Iterable[Ask], rules: Rules) -> Mapping[str, Sequence[Ask]]:
    """The asks by the extension that they ask for, from the question's own outwards; newer askers first.

    What installed extensions ask for is added where it excludes a known release.
    """
    by_asker: dict[str, list[Ask]] = {}
    for ask in sorted(asks, key=lambda ask: (ask.id, ask.specifier)):
        by_asker.setdefault(ask.askers[0].id if ask.askers else "", []).append(ask)
    disputed = {ask.id: [ask] for ask in by_asker[""]}
    waiting = list(disputed)
    for asker in waiting:
        for ask in sorted(by_asker.pop(asker, ()), key=lambda ask: parsed(ask.askers[0].version), reverse=True):
            disputed.setdefault(ask.id, []).append(ask)
            waiting.append(ask.id)
    for extension, own in disputed.items():
        releases = rules.releases(extension)
        for ask in rules.standing_asks(extension):
            if ask not in own and not all(is_within(ask.specifier, release.version) for release in releases):
                own.append(ask)
    return disputed


# ---- lines


def _dispute(extension: str, asks: Sequence[Ask], rules: Rules) -> Iterator[str]:
    """Who asks for an extension, and what speaks against each of its known releases, the newest first."""
    by_asker: dict[str, list[Ask]] = {}
    for ask in asks:
        by_asker.setdefault(ask.askers[0].id if ask.askers else "", []).append(ask)
    for asker, same in by_asker.items():
        yield from (_in_words(ask, rules) for ask in same[:_LISTED_ASKS])
        others = sum(len(ask.askers) for ask in same[_LISTED_ASKS:])
        if others:
            yield f"and {others} more of {asker}, with other ranges of {extension}"
    reasons: dict[str, list[str]] = {}
    for release in sorted(rules.releases(extension), key=lambda each: parsed(each.version), reverse=True):
        # What one release of an asker does not take, another one may.
        misfits = ([rules.misfit(ask, release) for ask in same] for same in by_asker.values())
        reason = rules.objection(release) or next((misfit[0] for misfit in misfits if all(misfit)), "")
        if reason:
            reasons.setdefault(reason, []).append(release.version)
    for reason, versions in reasons.items():
        yield f"{extension} {_listed(versions)}: {reason}"
    if not rules.releases(extension):
        yield f"no release of {extension} is known"


def _in_words(ask: Ask, rules: Rules) -> str:
    wanted = described(ask.id, ask.specifier)
    if not ask.askers:
        return f"{wanted} is asked for"
    asker = ask.askers[0].id
    installed = " (installed)" if rules.kept(asker) else ""
    need = "needs" if len(ask.askers) == 1 else "need"
    condition = " wherever that is installed" if ask.is_optional else ""
    return f"{asker} {_listed([each.version for each in ask.askers])}{installed} {need} {wanted}{condition}"


def _listed(versions: Sequence[str]) -> str:
    more = len(versions) - _LISTED_VERSIONS
    return ", ".join(versions[:_LISTED_VERSIONS]) + (f" and {more} more" if more > 0 else "")


def _shortened(lines: list[str]) -> list[str]:
    """The lines without the middle where they are many: one end is what was asked for, the other the root of it."""
    more = len(lines) - _LISTED_LINES
    half = _LISTED_LINES // 2
    return lines if more <= 0 else [*lines[:half], f"and {more} more", *lines[-half:]]


# ---- solutions


def _solutions(question: Question, disputed: Mapping[str, Sequence[Ask]], rules: Rules) -> Iterator[str]:
    """What would solve it: one change at a time, each tried out before it is proposed."""
    ((target, specifier),) = question.asked.items()
    anyhow = _answer(replace(question, asked={target: ""}, is_change=True)) if specifier else None
    if anyhow is not None and not rules.is_installed(anyhow[target]):
        yield f"asking for {target} {anyhow[target].version} would solve it"
    askers = (asker.id for asks in disputed.values() for ask in asks for asker in ask.askers)
    involved = (rules.kept(extension) for extension in dict.fromkeys([*disputed, *askers]))
    for release in [release for release in involved if release is not None][:_TRIED_CHANGES]:
        version = _version_instead(question, release)
        if version is not None:
            verb = "upgrading" if parsed(version) > parsed(release.version) else "downgrading"
            yield f"{verb} {release.id} to {version} would solve it"
        elif _is_solved_without(question, release.id):
            yield f"removing {release.id} would solve it"
    for extension, asks in disputed.items():
        versions = [release.version for release in rules.releases(extension)]
        unknown = [ask for ask in asks if not any(is_within(ask.specifier, version) for version in versions)]
        for ask in unknown[:1]:
            where = f" in {ask.specifier}" if ask.specifier else ""
            yield f"no known release of {extension} fits: install one{where}"


def _version_instead(question: Question, release: KnownRelease) -> str | None:
    """The version to which an installed extension could be changed first, so that the question has an answer."""
    tried: list[str] = []
    while len(tried) < _TRIED_VERSIONS:
        others = ",".join(f"!={version}" for version in tried)
        both = _answer(replace(question, asked={**question.asked, release.id: others}, is_change=True))
        if both is None:
            return None
        version = both[release.id].version
        if _is_solved_after(question, release.id, version):
            return version
        tried.append(version)
    return None


def _is_solved_after(question: Question, extension: str, version: str) -> bool:
    """Whether an installed extension can be changed to this version, and the question has an answer then."""
    change = _answer(replace(question, asked={extension: f"=={version}"}))
    if change is None:
        return False
    changed = {each.id: Installed(id=each.id, version=each.version) for each in change.values()}
    universe = replace(question.universe, installed={**question.universe.installed, **changed})
    return _answer(replace(question, universe=universe)) is not None


def _is_solved_without(question: Question, extension: str) -> bool:
    """Whether nothing installed needs an extension, and the question has an answer once it is removed."""
    universe = question.universe
    if any(extension in release.dependencies for release in installed_releases(universe)):
        return False
    installed = {each.id: each for each in universe.installed.values() if each.id != extension}
    return _answer(replace(question, universe=replace(universe, installed=installed))) is not None


def _answer(question: Question) -> Mapping[str, KnownRelease] | None:
    try:
        found = search(question)
        load_order(found.values())
    except (Unanswered, DependencyCycle):
        return None
    return found
