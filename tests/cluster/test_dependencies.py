"""Extensions that need others: what comes before, what goes along, and what comes back when a step fails."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

import ray_ext
from ray_ext.client.runtime import Runtime
from tests.cluster.conftest import MakeExtension

#: Notes in its data directory when it was loaded and unloaded.
NOTING = """
import time
from ray_ext import Extension, exported

class Probe(Extension):
    async def on_load(self):
        (self.data_dir / "loaded").write_text(str(time.monotonic_ns()))

    async def on_unload(self):
        (self.data_dir / "unloaded").write_text(str(time.monotonic_ns()))

    @exported
    async def about(self):
        return [self.get_metadata().version, dict(self.config)]
"""
FAILING = """
from ray_ext import Extension, exported

class Probe(Extension):
    async def on_load(self):
        raise OSError("no disk")

    @exported
    async def about(self): ...
"""
LIMITED = """
[configuration]
type = "object"
properties.limit = { type = "integer" }
"""


def _noted(runtime: Runtime, extension: str, what: str) -> int:
    return int((runtime.home / "data" / extension / what).read_text())


def _steps(view: Any) -> list[str]:
    return [f"{step.kind} {step.extension} {step.version}" for step in view.plan.steps]


def _about(runtime: Runtime, extension: str) -> Any:
    return ray.get(runtime.extension(extension).about.remote())


def _installed(runtime: Runtime) -> set[str]:
    return {view.id for view in runtime.list()}


@pytest.fixture
def chain(runtime: Runtime, make_extension: MakeExtension, request: pytest.FixtureRequest) -> Any:
    """Three extensions of the test's own, registered: each needs the one before. Returns their ids."""
    prefix = f"c{abs(hash(request.node.name)) % 10**8}"
    ids = [f"{prefix}-ground", f"{prefix}-middle", f"{prefix}-top"]
    runtime.register(make_extension(ids[0], code=NOTING, manifest=LIMITED))
    runtime.register(make_extension(ids[0], code=NOTING, version="1.5.0"))
    runtime.register(make_extension(ids[0], code=NOTING, version="2.0.0"))
    runtime.register(make_extension(ids[1], code=NOTING, manifest=f'[dependencies]\n{ids[0]} = ">=1,<2"\n'))
    runtime.register(make_extension(ids[2], code=NOTING, manifest=f'[dependencies]\n{ids[1]} = ">=1"\n'))
    yield ids
    if ids[0] in _installed(runtime):
        runtime.remove(ids[0], cascade=True, purge=True, grace_s=0)


def test_dependencies_that_are_only_registered_are_loaded_first_as_the_plan_said(
    runtime: Runtime, chain: list[str]
) -> None:
    ground, middle, top = chain
    planned = runtime.plan("install", top, to="1.0.0")
    assert _steps(planned) == [
        f"install {ground} 1.5.0",
        f"install {middle} 1.0.0",
        f"install {top} 1.0.0",
        f"load {ground} 1.5.0",
        f"load {middle} 1.0.0",
        f"load {top} 1.0.0",
    ]
    assert all(step.why and step.why in planned.text for step in planned.plan.steps)
    told: list[str] = []
    runtime.install(top, version="1.0.0", plan=planned.hash, on_progress=told.append)
    assert [line.partition("] ")[2].partition(":")[0] for line in told] == _steps(planned)
    done = runtime.audit(top, limit=1)[0]
    assert (done.verb, done.outcome, done.detail["steps"]) == ("install", "done", _steps(planned))
    loaded = [_noted(runtime, extension, "loaded") for extension in chain]
    assert loaded == sorted(loaded)
    assert [_about(runtime, extension)[0] for extension in chain] == ["1.5.0", "1.0.0", "1.0.0"]


def test_what_others_need_is_neither_unloaded_nor_removed_and_they_are_named(
    runtime: Runtime, chain: list[str]
) -> None:
    ground, middle, top = chain
    runtime.install(top, version="1.0.0")
    for refused in (runtime.unload, runtime.remove):
        with pytest.raises(ray_ext.DependentsExist) as caught:
            refused(ground)
        assert caught.value.details["dependents"] == [top, middle]
        assert f"{middle} 1.0.0 needs {ground}" in caught.value.what
    assert {runtime.show(extension).generation for extension in chain} == {1}


def test_a_cascade_unloads_dependents_before_what_they_need(runtime: Runtime, chain: list[str]) -> None:
    ground, _, top = chain
    runtime.install(top, version="1.0.0")
    runtime.unload(ground, cascade=True)
    unloaded = [_noted(runtime, extension, "unloaded") for extension in reversed(chain)]
    assert unloaded == sorted(unloaded)
    assert {runtime.show(extension).state for extension in chain} == {"unloaded"}
    runtime.load(top)
    assert [runtime.show(extension).generation for extension in chain] == [2, 2, 2]


def test_a_dependency_that_was_installed_for_a_dependent_that_fails_to_load_is_gone_again(
    runtime: Runtime, chain: list[str], make_extension: MakeExtension
) -> None:
    ground = chain[0]
    failing = make_extension(f"{ground}-failing", code=FAILING, manifest=f'[dependencies]\n{ground} = ">=1"\n')
    before = _installed(runtime)
    with pytest.raises(ray_ext.LoadFailed, match="no disk") as caught:
        runtime.install(failing)
    assert caught.value.where.endswith(
        f"step load {ground}-failing 1.0.0; undone: load {ground} 2.0.0; install {ground}-failing 1.0.0; "
        f"install {ground} 2.0.0; left: everything as it was"
    )
    assert _installed(runtime) == before
    with pytest.raises(ray_ext.ExtensionNotFound):
        _about(runtime, ground)
    assert runtime.releases(f"{ground}-failing") == []
    assert len(runtime.releases(ground)) == 3, "what was registered before stays known"


def test_an_upgrade_that_fails_to_load_leaves_the_old_version_serving_with_its_configuration(
    runtime: Runtime, chain: list[str], make_extension: MakeExtension
) -> None:
    ground = chain[0]
    runtime.install(ground, version="1.0.0", config={"limit": 3})
    newer = make_extension(ground, code=FAILING, version="3.0.0", manifest=LIMITED)
    with pytest.raises(ray_ext.LoadFailed, match="no disk") as caught:
        runtime.upgrade(ground, newer, config={"limit": 4})
    assert caught.value.where.endswith(
        f"undone: install {ground} 3.0.0; unload {ground} 1.0.0; left: everything as it was"
    )
    assert _about(runtime, ground) == ["1.0.0", {"limit": 3}]
    view = runtime.show(ground)
    assert (view.state, view.desired, view.version) == ("loaded", "loaded", "1.0.0")
    assert "3.0.0" not in [each.version for each in runtime.releases(ground)]


async def test_calls_wait_while_an_upgrade_replaces_the_version(runtime: Runtime, chain: list[str]) -> None:
    ground = chain[0]
    await runtime.aio.install(ground, version="1.0.0")
    handle: Any = runtime.extension(ground)
    versions: set[str] = {(await handle.about())[0]}
    upgraded: list[Any] = []

    async def upgrade() -> None:
        upgraded.append(await runtime.aio.upgrade(ground, "1.5.0"))

    upgrading = asyncio.create_task(upgrade())
    while not upgrading.done():
        versions.add((await handle.about())[0])
    await upgrading
    assert (await handle.about())[0] == upgraded[0].version == "1.5.0"
    assert versions <= {"1.0.0", "1.5.0"}


def _packages(runtime: Runtime) -> set[str]:
    return {wheel.stem for wheel in (runtime.home / "packages").glob("??/*.whl")}


def test_remove_leaves_nothing_but_the_data_and_purge_not_even_that(
    runtime: Runtime, chain: list[str], make_extension: MakeExtension
) -> None:
    ground, middle, _ = chain
    data, logs = runtime.home / "data", runtime.home / "logs"
    runtime.install(ground, version="1.0.0")
    runtime.upgrade(ground, "1.5.0")
    known = {each.sha256 for extension in (ground, middle) for each in runtime.releases(extension)}
    runtime.install(middle, version="1.0.0")
    assert known <= _packages(runtime)
    assert (logs / ground).is_dir()
    runtime.remove(ground, cascade=True)
    for extension in (ground, middle):
        assert runtime.releases(extension) == []
        assert not (logs / extension).exists()
        assert (data / extension / "loaded").exists()
    assert not known & _packages(runtime)
    assert not {ground, middle} & _installed(runtime)
    with pytest.raises(ray_ext.ExtensionNotFound):
        runtime.remove(ground)

    view = runtime.install(make_extension(ground, code=NOTING))
    assert view.generation == 3, "generations go on counting"
    runtime.remove(ground, purge=True)
    assert not (data / ground).exists()


def test_a_yanked_release_is_not_chosen_until_that_is_taken_back(runtime: Runtime, chain: list[str]) -> None:
    ground, middle, _ = chain
    runtime.yank(ground, "1.5.0", "it loses issues")
    assert f"install {ground} 1.0.0" in _steps(runtime.plan("install", middle, to="1.0.0"))
    runtime.yank(ground, "1.0.0", "so does this")
    with pytest.raises(ray_ext.DependencyConflict, match="yanked"):
        runtime.plan("install", middle, to="1.0.0")
    runtime.yank(ground, "1.5.0", None)
    assert f"install {ground} 1.5.0" in _steps(runtime.plan("install", middle, to="1.0.0"))
    assert [entry.verb for entry in runtime.audit(ground, limit=3)] == ["unyank", "yank", "yank"]


def test_an_installed_release_that_is_yanked_goes_on_serving(runtime: Runtime, chain: list[str]) -> None:
    ground, middle, _ = chain
    runtime.install(middle, version="1.0.0")
    runtime.yank(ground, "1.5.0", "it loses issues")
    assert _about(runtime, ground)[0] == "1.5.0"
    runtime.unload(ground, cascade=True)
    assert runtime.load(middle).state == "loaded"


def test_thirty_registered_releases_are_listed_and_planned_with(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    ids = [f"many-{number}" for number in range(30)]
    for extension, needed in zip(ids, [None, *ids], strict=False):
        manifest = "" if needed is None else f'[dependencies]\n{needed} = ">=1"\n'
        assert runtime.register(make_extension(extension, manifest=manifest)).id == extension
    assert {each.id for each in runtime.releases()} >= set(ids)
    steps = _steps(runtime.plan("install", ids[-1], to="1.0.0"))
    assert steps == [f"{kind} {extension} 1.0.0" for kind in ("install", "load") for extension in ids]


#: Takes its time to load, and notes when it begins and when it is done.
SLOW = """
import asyncio, time
from ray_ext import Extension, exported

class Probe(Extension):
    async def on_load(self):
        (self.data_dir / "began").write_text(str(time.monotonic_ns()))
        await asyncio.sleep(DELAY)
        (self.data_dir / "loaded").write_text(str(time.monotonic_ns()))

    @exported
    async def about(self): ...
"""


def test_what_was_loaded_is_loaded_again_after_what_it_needs(make_extension: MakeExtension, tmp_path: Path) -> None:
    home, path = tmp_path / "home", os.environ["PATH"]
    base = make_extension("base", code=SLOW.replace("DELAY", "0.5"))
    above = make_extension("above", code=SLOW.replace("DELAY", "0"), manifest='[dependencies]\nbase = ""\n')
    program = (
        "import sys, ray, ray_ext\n"
        "with ray_ext.connect(home=sys.argv[1]) as runtime:\n"
        "    for folder in sys.argv[2:]: runtime.install(folder)\n"
        "    for name in ('above', 'base'): ray.get(runtime.extension(name).about.remote())\n"
    )
    for folders in ([base, above], []):
        subprocess.run([sys.executable, "-c", program, home, *folders], env={"PATH": path}, check=True, timeout=90)
    began, loaded = (int((home / "data" / each).read_text()) for each in ("above/began", "base/loaded"))
    assert began > loaded
