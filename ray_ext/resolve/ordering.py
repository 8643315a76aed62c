"""In which order extensions are loaded: what one needs before the one that needs it."""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from ray_ext.errors import DependencyCycle
from ray_ext.resolve.universe import KnownRelease

__all__ = ["load_order"]


def load_order(releases: Iterable[KnownRelease]) -> tuple[KnownRelease, ...]:
    """Order releases of different extensions so that dependencies come before dependents, else by their ids.

    An optional dependency comes first as well, unless that would close a circle. The order depends on the releases
    alone, not on how they are passed. Raises :class:`DependencyCycle` when they need each other in a circle.
    """
    by_id = {release.id: release for release in sorted(releases, key=lambda release: release.id)}
    needs = {extension: sorted(by_id.keys() & release.dependencies) for extension, release in by_id.items()}
    likes = {extension: sorted(by_id.keys() & release.optional_dependencies) for extension, release in by_id.items()}
    while True:
        sorter = TopologicalSorter({extension: needs[extension] + likes[extension] for extension in by_id})
        try:
            sorter.prepare()
        except CycleError as error:
            _open(_circle(error), by_id, likes)
        else:
            return tuple(by_id[extension] for extension in _by_layers(sorter))


def _circle(error: CycleError) -> list[str]:
    """The circle of a CycleError: each id needs the next, from the smallest id round to it again."""
    ids: list[str] = error.args[1][:0:-1]
    start = ids.index(min(ids))
    return [*ids[start:], *ids[: start + 1]]


def _open(circle: list[str], by_id: dict[str, KnownRelease], likes: dict[str, list[str]]) -> None:
    """Give up one optional dependency of the circle; raise DependencyCycle when it has none."""
    for dependent, dependency in pairwise(circle):
        if dependency in likes[dependent]:
            likes[dependent].remove(dependency)
            return
    steps = [
        f"{by_id[dependent].id} {by_id[dependent].version} needs {dependency}"
        for dependent, dependency in pairwise(circle)
    ]
    raise DependencyCycle(
        f"extensions depend on each other in a circle: {', '.join(steps)}",
        fix="choose, or publish, a version of one of them that does not need the next",
        details={"cycle": circle},
    )


def _by_layers(sorter: TopologicalSorter[str]) -> list[str]:
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order += ready
        sorter.done(*ready)
    return order
