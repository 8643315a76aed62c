"""Small universes of releases, written in one line each, and what is asked of them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ray_ext.errors import DependencyConflict
from ray_ext.resolve.resolution import Resolution, resolve
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
