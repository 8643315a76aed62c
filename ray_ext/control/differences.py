"""Where what is differs from what should be, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ray_ext.control.views import ActorView, RuntimeView

__all__ = ["differences"]


def differences(actors: Sequence[ActorView], runtime: RuntimeView | None) -> list[str]:
    """A line for each extension that is not in its desired state, each part that is away, each missing spare host."""
    return [*_of_actors(actors), *(() if runtime is None else _of_runtime(runtime))]


def _of_actors(actors: Sequence[ActorView]) -> Iterator[str]:
    for actor in actors:
        if actor.state == "away":
            yield f"{actor.name} is away{f': {actor.detail}' if actor.detail else ''}"


def _of_runtime(runtime: RuntimeView) -> Iterator[str]:
    for each in runtime.extensions:
        if each.state != each.desired:
            yield f"{each.id} is {each.state} and should be {each.desired}{f': {each.reason}' if each.reason else ''}"
    missing = runtime.spare_hosts_wanted - runtime.spare_hosts
    if missing > 0:
        yield f"{missing} of {runtime.spare_hosts_wanted} spare hosts not ready: the next load takes longer"
