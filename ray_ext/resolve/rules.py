"""Which releases may be chosen, who asks for what, and which releases an ask takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ray_ext.resolve.universe import KnownRelease, Universe

__all__ = ["Ask", "Question", "Rules", "installed_releases", "is_within", "parsed"]


@lru_cache(maxsize=16_384)
def parsed(version: str) -> Version:
    """A version by PEP 440."""
    return Version(version)


@lru_cache(maxsize=16_384)
def _parsed_range(specifier: str) -> SpecifierSet:
    return SpecifierSet(specifier, prereleases=True)


@lru_cache(maxsize=65_536)
def is_within(specifier: str, version: str) -> bool:
    """Whether a range holds a version, which may be a pre-release."""
    return _parsed_range(specifier).contains(parsed(version))


@lru_cache(maxsize=16_384)
def _is_exact(specifier: str) -> bool:
    return any(each.operator in ("==", "===") and not each.version.endswith(".*") for each in _parsed_range(specifier))


@lru_cache(maxsize=16_384)
def _names_prerelease(specifier: str) -> bool:
    return any(each.prereleases for each in _parsed_range(specifier))


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be resolved: ``asked`` maps the extensions whose versions may change to the ranges asked for.

    ``is_change``: their best versions are wanted; otherwise the installed ones, wherever these fit.
    """

    universe: Universe
    asked: Mapping[str, str]
    is_change: bool = False


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A range for an extension, by releases of one other, or by the question itself where there are no ``askers``.

    An optional ask pulls nothing in.
    """

    id: str
    specifier: str
    askers: tuple[KnownRelease, ...] = ()
    is_optional: bool = False


def installed_releases(universe: Universe) -> Iterator[KnownRelease]:
    """The release of each installation."""
    for installation in universe.installed.values():
        known = universe.releases[installation.id]
        yield next(release for release in known if release.version == installation.version)


class Rules:
    """The rules of one question.

    Without ``with_prereleases`` an ask takes a pre-release only if it names one. Each ask decides for itself what it
    takes: more asks never make more releases fit.
    """

    def __init__(self, question: Question, *, with_prereleases: bool = True) -> None:
        self.question = question
        self._with_prereleases = with_prereleases
        self._kept = {
            release.id: release for release in installed_releases(question.universe) if release.id not in question.asked
        }
        self._standing: dict[str, list[Ask]] = {}
        for release in self._kept.values():
            for ask in self.asks([release]):
                self._standing.setdefault(ask.id, []).append(ask)

    def releases(self, extension: str) -> Sequence[KnownRelease]:
        """All that are known of an extension."""
        return self.question.universe.releases.get(extension, ())

    def options(self, extension: str) -> tuple[KnownRelease, ...]:
        """The releases of an extension that may be chosen, best first: newest first, mostly."""
        allowed = [release for release in self.releases(extension) if not self.objection(release)]
        return tuple(sorted(allowed, key=self._rank, reverse=True))

    def asks(self, releases: Sequence[KnownRelease]) -> Iterator[Ask]:
        """What releases of one extension ask for; those that ask for the same share the ask."""
        askers: dict[tuple[str, str, bool], list[KnownRelease]] = {}
        for release in releases:
            for extension, specifier in release.dependencies.items():
                askers.setdefault((extension, specifier, False), []).append(release)
            for extension, specifier in release.optional_dependencies.items():
                askers.setdefault((extension, specifier, True), []).append(release)
        for (extension, specifier, is_optional), same in askers.items():
            yield Ask(id=extension, specifier=specifier, askers=tuple(same), is_optional=is_optional)

    def kept(self, extension: str) -> KnownRelease | None:
        """The installed release of an extension whose version may not change."""
        return self._kept.get(extension)

    def standing_asks(self, extension: str) -> Sequence[Ask]:
        """What installed extensions ask of this one, whether or not they take part."""
        return self._standing.get(extension, ())

    def objection(self, release: KnownRelease) -> str:
        """Why a release may not be chosen, whoever asks; empty: it may."""
        kept, runtime = self.kept(release.id), self.question.universe.runtime_version
        if kept is not None and kept.version != release.version:
            return f"held back, because {kept.version} is installed"
        if not is_within(release.requires_runtime, runtime):
            return f"requires ray_ext {release.requires_runtime}, and this is {runtime}"
        for ask in self.standing_asks(release.id):
            if not is_within(ask.specifier, release.version):
                return f"outside {ask.specifier}"
        return ""

    def misfit(self, ask: Ask, release: KnownRelease) -> str:
        """Why an ask does not take a release; empty: it does."""
        if not is_within(ask.specifier, release.version):
            return f"outside {ask.specifier}"
        if ask.is_optional or self.is_installed(release):
            return ""
        if release.is_yanked and not _is_exact(ask.specifier):
            return "yanked, and not asked for by =="
        if not self._with_prereleases and parsed(release.version).is_prerelease:
            return "" if _names_prerelease(ask.specifier) else "a pre-release"
        return ""

    def is_met_without(self, ask: Ask) -> bool:
        """Whether an ask is content when its extension has no part in the resolution: optional, and not broken."""
        kept = self.kept(ask.id)
        return ask.is_optional and (kept is None or is_within(ask.specifier, kept.version))

    def is_installed(self, release: KnownRelease) -> bool:
        """Whether this very version is installed."""
        installation = self.question.universe.installed.get(release.id)
        return installation is not None and installation.version == release.version

    def _rank(self, release: KnownRelease) -> tuple[bool, bool, Version]:
        version = parsed(release.version)
        is_last_resort = self._with_prereleases and version.is_prerelease
        return self.is_installed(release) and not self.question.is_change, not is_last_resort, version
