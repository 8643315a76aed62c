"""What ``status`` says of a runtime that is not as it should be."""

from __future__ import annotations

import time

from ray_ext.control.differences import differences
from ray_ext.control.views import ActorView, ExtensionView, RuntimeView


def _extension(extension: str, desired: str, state: str, reason: str = "") -> ExtensionView:
    return ExtensionView(
        id=extension, version="1.0", sha256="", name="", description="", category="", isolation="strict",
        desired=desired, state=state, reason=reason, generation=None, cpus=0.1, memory_bytes=1, grant="none",
        source="", created_at=0.0, updated_at=0.0, configuration={}, methods={},
    )  # fmt: skip


def _runtime(*extensions: ExtensionView, ready: int = 1) -> RuntimeView:
    return RuntimeView(
        version="1", namespace="n", home="h", registry_pid=1, writer_epoch=1, started_at=time.time(), nodes=[],
        spare_hosts=ready, spare_hosts_wanted=1, extensions=list(extensions),
    )  # fmt: skip


def _actor(name: str, *, is_away: bool = False, detail: str = "") -> ActorView:
    return ActorView(name=name, state="away" if is_away else "answers", pid=None, detail=detail)


def test_where_all_is_well_there_is_nothing_to_say() -> None:
    runtime = _runtime(_extension("a", "loaded", "loaded"), _extension("b", "unloaded", "unloaded"))
    assert differences([_actor("registry", detail="writer epoch 1")], runtime) == []


def test_every_extension_that_is_not_as_desired_has_a_line_with_its_reason() -> None:
    runtime = _runtime(
        _extension("a", "loaded", "failed", "crashed: signal 11"),
        _extension("b", "loaded", "loading"),
        _extension("c", "unloaded", "loaded"),
    )
    assert differences([], runtime) == [
        "a is failed and should be loaded: crashed: signal 11",
        "b is loading and should be loaded",
        "c is loaded and should be unloaded",
    ]


def test_every_part_that_is_away_has_a_line_also_while_the_registry_is() -> None:
    actors = [
        _actor("keeper"),
        _actor("registry", is_away=True, detail="no answer within 3 s"),
        _actor("x", is_away=True),
    ]
    assert differences(actors, None) == ["registry is away: no answer within 3 s", "x is away"]


def test_missing_spare_hosts_have_a_line() -> None:
    (line,) = differences([], _runtime(ready=0))
    assert line.startswith("1 of 1 spare hosts not ready")
