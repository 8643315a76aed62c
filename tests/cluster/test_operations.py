"""Plans and operations: bound to what was planned, one at a time, once each, all or nothing."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import ray

import ray_ext
from ray_ext.client.runtime import Runtime
from ray_ext.control.commands import Command
from ray_ext.packages import pack_folder
from tests.cluster.conftest import MakeExtension

#: Counts its loads; each waits until ``go`` is in its data directory, and fails while ``broken`` is there.
WAITING = """
import asyncio
from ray_ext import Extension, exported

class Probe(Extension):
    async def on_load(self):
        with open(self.data_dir / "loads", "a") as file:
            file.write("x")
        while not (self.data_dir / "go").exists():
            await asyncio.sleep(0.01)
        if (self.data_dir / "broken").exists():
            raise OSError("no disk")

    @exported
    async def generation(self):
        return self.context.generation

    @exported
    async def die(self):
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
"""
LIMITED = """
[configuration]
type = "object"
properties.limit = { type = "integer", default = 3 }
"""


class Waiting:
    """An extension of the test's own that is loaded when the test says so."""

    def __init__(self, runtime: Runtime, extension: str, folder: Path) -> None:
        self.runtime = runtime
        self.id = extension
        self.folder = folder
        self._data = runtime.home / "data" / extension

    def set(self, name: str) -> None:
        self._data.mkdir(mode=0o700, exist_ok=True)
        (self._data / name).touch()

    def clear(self, name: str) -> None:
        (self._data / name).unlink()

    @property
    def loads(self) -> int:
        counted = self._data / "loads"
        return len(counted.read_text()) if counted.exists() else 0

    def until_loading(self, loads: int = 1) -> None:
        _until(lambda: self.loads >= loads)

    def command(self, **more: Any) -> Command:
        return Command(verb="install", wheel=pack_folder(self.folder), source=str(self.folder), actor="me", **more)


@pytest.fixture
def waiting(runtime: Runtime, make_extension: MakeExtension, request: pytest.FixtureRequest) -> Iterator[Waiting]:
    extension = f"waiting-{abs(hash(request.node.name)) % 10**8}"
    made = Waiting(runtime, extension, make_extension(extension, code=WAITING))
    yield made
    made.set("go")
    if extension in {view.id for view in runtime.list()}:
        runtime.remove(extension, purge=True, grace_s=0)


def _until(is_so: Callable[[], bool], limit_s: float = 30.0) -> None:
    give_up = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < give_up, "it did not come true"
        time.sleep(0.01)


def _registry(runtime: Runtime) -> Any:
    return ray.get_actor("registry", namespace=runtime.namespace)


def _steps(view: Any) -> list[str]:
    return [f"{step.kind} {step.extension} {step.version}" for step in view.plan.steps]


def _cause(reference: Any) -> ray_ext.RayExtError:
    with pytest.raises(ray.exceptions.RayTaskError) as caught:
        ray.get(reference)
    assert isinstance(caught.value.cause, ray_ext.RayExtError)
    return caught.value.cause


# ---- plans


def _everything(home: Path) -> dict[str, int]:
    return {
        str(path.relative_to(home)): path.stat().st_size
        for path in home.rglob("*")
        if path.is_file() and not {"logs", "run"} & set(path.relative_to(home).parts) and "store.db" not in path.name
    }


def test_a_plan_changes_nothing_and_its_hash_installs_what_it_says(runtime: Runtime, waiting: Waiting) -> None:
    waiting.set("go")
    before = _everything(runtime.home)
    planned = runtime.plan("install", waiting.folder)
    assert planned == runtime.plan("install", waiting.folder), "no revision was counted"
    assert _everything(runtime.home) == before
    assert runtime.releases(waiting.id) == []
    assert _steps(planned) == [f"install {waiting.id} 1.0.0", f"load {waiting.id} 1.0.0"]
    assert runtime.install(waiting.folder, plan=planned.hash).state == "loaded"


def test_a_plan_is_stale_after_any_change_and_nothing_is_done(
    runtime: Runtime, waiting: Waiting, make_extension: MakeExtension
) -> None:
    planned = runtime.plan("install", waiting.folder)
    runtime.register(make_extension(f"{waiting.id}-other"))
    before = _everything(runtime.home)
    for given in (planned.hash, planned.hash[:12], ""):
        with pytest.raises(ray_ext.PlanStale) as caught:
            runtime.install(waiting.folder, plan=given)
    assert caught.value.details["planned"] == ""
    current = runtime.plan("install", waiting.folder)
    assert caught.value.details["current"] == current.hash != planned.hash
    assert _everything(runtime.home) == before
    assert waiting.loads == 0


def test_a_plan_covers_the_configuration_and_tells_when_that_alone_changes(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    folder = make_extension("planned-limits", manifest=LIMITED)
    runtime.install(folder, load=False)
    planned = runtime.plan("install", folder, config={"limit": 4}, load=False)
    assert [(step.kind, step.why) for step in planned.plan.steps] == [("install", "its configuration or grant changes")]
    with pytest.raises(ray_ext.PlanStale):
        runtime.install(folder, config={"limit": 5}, load=False, plan=planned.hash)
    assert runtime.show("planned-limits").configuration == {"limit": 3}
    assert runtime.install(folder, config={"limit": 4}, load=False, plan=planned.hash).configuration == {"limit": 4}


# ---- one at a time


def test_an_operation_waits_for_the_one_at_work_or_is_refused_with_its_name(
    runtime: Runtime, waiting: Waiting, strict: str
) -> None:
    registry = _registry(runtime)
    first = registry.perform.remote(waiting.command(), f"{waiting.id}-first")
    waiting.until_loading()
    refused = _cause(registry.perform.remote(Command(verb="load", extension=strict, wait_s=0.05), f"{waiting.id}-b"))
    assert isinstance(refused, ray_ext.OperationConflict)
    assert refused.details == {"running": f"install {waiting.id}"}
    # Its watcher is told that nothing comes.
    assert ray.get(registry.news.remote(f"{waiting.id}-b", "", 60.0)) == ([], True)
    second = registry.perform.remote(Command(verb="unload", extension=waiting.id), f"{waiting.id}-c")
    assert ray.wait([second], timeout=0.2)[0] == []
    waiting.set("go")
    assert ray.get(first).state == "loaded"
    assert ray.get(second).state == "unloaded"


def test_a_release_is_registered_between_operations_and_none_is_stale_for_it(
    runtime: Runtime, waiting: Waiting, make_extension: MakeExtension
) -> None:
    registry = _registry(runtime)
    installing = registry.perform.remote(waiting.command(), f"{waiting.id}-first")
    waiting.until_loading()
    other = make_extension(f"{waiting.id}-other")
    registering = registry.register.remote(pack_folder(other), str(other), "me", f"{waiting.id}-other")
    following = registry.perform.remote(Command(verb="unload", extension=waiting.id), f"{waiting.id}-b")
    assert ray.wait([registering], timeout=0.2)[0] == []
    waiting.set("go")
    ray.get(installing)
    assert ray.get(registering).id == f"{waiting.id}-other"
    assert ray.get(following).state == "unloaded"


RACING = """
import sys
import ray_ext
with ray_ext.connect(home=sys.argv[1], is_embedding=False) as runtime:
    print(runtime.install(sys.argv[2]).generation)
"""


def test_two_processes_that_install_the_same_release_both_have_it_and_it_is_loaded_once(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    folder = make_extension("raced")
    arguments = [sys.executable, "-c", RACING, str(runtime.home), str(folder)]
    racers = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [racer.communicate(timeout=60)[0].strip() for racer in racers] == ["1", "1"]
    assert [entry.verb for entry in runtime.audit("raced")] == ["install", "install"], "one step, one operation"
    runtime.remove("raced")


def test_other_bytes_of_a_known_version_are_refused_and_not_kept(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    known = runtime.register(make_extension("bytewise"))
    before = _everything(runtime.home)
    other = make_extension("bytewise", manifest='tags = ["other"]\n')
    for refused in (runtime.register, runtime.install):
        with pytest.raises(ray_ext.ReleaseConflict) as caught:
            refused(other)
        assert caught.value.details["known"] == known.sha256
        assert str(other) in caught.value.where
    assert _everything(runtime.home) == before


# ---- once


def test_an_operation_that_is_sent_twice_is_carried_out_once(runtime: Runtime, waiting: Waiting) -> None:
    registry = _registry(runtime)
    first = registry.perform.remote(waiting.command(), waiting.id)
    waiting.until_loading()
    # It does not wait for another operation: it is that operation.
    second = registry.perform.remote(waiting.command(wait_s=0.05), waiting.id)
    assert ray.wait([second], timeout=0.5)[0] == []
    waiting.set("go")
    views = ray.get([first, second])
    views.append(ray.get(registry.perform.remote(waiting.command(), waiting.id)))
    assert [view.generation for view in views] == [1, 1, 1]
    assert waiting.loads == 1
    removals = [registry.perform.remote(Command(verb="remove", extension=waiting.id), f"{waiting.id}-b")] * 2
    again = registry.perform.remote(Command(verb="remove", extension=waiting.id), f"{waiting.id}-b")
    assert ray.get([*removals, again]) == [None, None, None]


def test_a_failed_operation_that_is_sent_again_fails_with_the_same_words(runtime: Runtime, waiting: Waiting) -> None:
    registry = _registry(runtime)
    waiting.set("go")
    waiting.set("broken")
    first = _cause(registry.perform.remote(waiting.command(), waiting.id))
    waiting.clear("broken")
    again = _cause(registry.perform.remote(waiting.command(), waiting.id))
    assert isinstance(again, ray_ext.LoadFailed)
    assert (str(again), again.details) == (str(first), first.details)
    assert waiting.loads == 1


def test_an_operation_goes_on_when_its_client_does_not_wait_for_it(runtime: Runtime, waiting: Waiting) -> None:
    registry = _registry(runtime)
    left = registry.perform.remote(waiting.command(), waiting.id)
    waiting.until_loading()
    ray.cancel(left)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(left)
    waiting.set("go")
    assert runtime.load(waiting.id).generation == 1
    assert runtime.audit(waiting.id, limit=1)[0].outcome == "done"


# ---- all or nothing


def test_what_a_failed_install_made_known_is_forgotten_so_that_its_version_can_be_mended(
    runtime: Runtime, waiting: Waiting, make_extension: MakeExtension
) -> None:
    waiting.set("go")
    waiting.set("broken")
    before = {path for path in _everything(runtime.home) if path.endswith(".whl")}
    with pytest.raises(ray_ext.LoadFailed):
        runtime.install(waiting.folder)
    assert runtime.releases(waiting.id) == []
    assert {path for path in _everything(runtime.home) if path.endswith(".whl")} == before
    assert runtime.install(make_extension(waiting.id)).state == "loaded"


def test_what_cannot_be_undone_when_it_fails_is_undone_before_the_next_operation(
    runtime: Runtime, waiting: Waiting, strict: str
) -> None:
    waiting.set("broken")
    failing = _registry(runtime).perform.remote(waiting.command(), waiting.id)
    waiting.until_loading()
    with closing(sqlite3.connect(runtime.home / "store.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # no write succeeds now, as on a full disk
        waiting.set("go")
        failure = _cause(failing)
    assert isinstance(failure, ray_ext.OperationFailed)
    assert failure.details["step"] == f"load {waiting.id} 1.0.0"
    assert "no disk" in str(failure.details["cause"])
    assert "locked" in str(failure.details["left"])
    runtime.load(strict)
    assert waiting.id not in {view.id for view in runtime.list()}
    assert runtime.releases(waiting.id) == []
    assert [entry.outcome for entry in runtime.audit(waiting.id, limit=1)] == ["interrupted"]
    waiting.clear("broken")
    assert runtime.install(waiting.folder).state == "loaded"


def test_looking_is_not_disturbed_by_what_is_removed_meanwhile(runtime: Runtime, make_extension: MakeExtension) -> None:
    folders = [make_extension(f"fleeting-{number}") for number in range(3)]
    trouble: list[BaseException] = []
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            try:
                ray.get([_registry(runtime).list_extensions.remote() for _ in range(5)])
            except BaseException as error:  # noqa: BLE001 - asserted below
                trouble.append(error)

    looking = threading.Thread(target=look)
    looking.start()
    for _ in range(4):
        for folder in folders:
            runtime.install(folder, load=False)
        for number in range(3):
            runtime.remove(f"fleeting-{number}")
    is_over.set()
    looking.join()
    assert trouble == []


# ---- beside supervision


def _is_every_host_known(runtime: Runtime) -> bool:
    status = runtime.status()
    named = ray.util.list_named_actors(all_namespaces=True)
    hosts = [each for each in named if each["namespace"] == runtime.namespace and each["name"].startswith("host/")]
    return len(hosts) == status.spare_hosts + sum(view.state == "loaded" for view in status.extensions)


async def _ended(handle: Any) -> None:
    with pytest.raises(ray_ext.OutcomeUnknown):
        await handle.die()


async def test_a_load_takes_over_from_supervision_and_says_why_it_fails(runtime: Runtime, waiting: Waiting) -> None:
    waiting.set("go")
    await runtime.aio.install(waiting.folder)
    waiting.set("broken")
    await _ended(runtime.extension(waiting.id))
    await asyncio.to_thread(waiting.until_loading, 3)
    view = await runtime.aio.show(waiting.id)
    assert view.state == "restarting"
    with pytest.raises(ray_ext.LoadFailed, match="no disk"):
        await runtime.aio.load(waiting.id)
    view = await runtime.aio.show(waiting.id)
    assert (view.state, view.desired) == ("restarting", "loaded"), "supervision goes on"
    waiting.clear("broken")
    loaded = await runtime.aio.load(waiting.id)
    assert loaded.state == "loaded"
    handle: Any = runtime.extension(waiting.id)
    assert await handle.generation() == loaded.generation


async def test_an_unload_ends_the_start_that_supervision_is_at(runtime: Runtime, waiting: Waiting) -> None:
    waiting.set("go")
    await runtime.aio.install(waiting.folder)
    waiting.clear("go")
    await _ended(runtime.extension(waiting.id))
    await asyncio.to_thread(waiting.until_loading, 2)
    assert (await runtime.aio.unload(waiting.id)).state == "unloaded"
    await asyncio.to_thread(_until, lambda: _is_every_host_known(runtime))
    waiting.set("go")
    assert (await runtime.aio.load(waiting.id)).generation == 3, "the second one was given up"


async def test_a_removal_while_its_guest_dies_leaves_nothing_that_would_start_it_again(
    runtime: Runtime, waiting: Waiting
) -> None:
    waiting.set("go")
    await runtime.aio.install(waiting.folder)
    dying: Awaitable[None] = asyncio.ensure_future(_ended(runtime.extension(waiting.id)))
    await runtime.aio.remove(waiting.id, grace_s=0)
    await asyncio.wait({asyncio.ensure_future(dying)}, timeout=30)
    assert waiting.id not in {view.id for view in await runtime.aio.list()}
    assert (await runtime.aio.install(waiting.folder)).state == "loaded"
    assert waiting.loads <= 3


async def test_a_configuration_that_keeps_an_extension_from_starting_can_be_changed(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    code = """
        import os, signal
        from ray_ext import Extension, exported
        class Probe(Extension):
            async def on_load(self):
                if self.config["limit"] < 5 and (self.data_dir / "loaded").exists():
                    raise ValueError("too low")
                (self.data_dir / "loaded").touch()
            @exported
            async def die(self):
                os.kill(os.getpid(), signal.SIGKILL)
    """
    folder = make_extension("choosy", code=code, manifest=LIMITED)
    await runtime.aio.install(folder)
    await _ended(runtime.extension("choosy"))
    while "too low" not in (await runtime.aio.show("choosy")).reason:
        await asyncio.sleep(0.02)
    with pytest.raises(ray_ext.InstallationConflict):
        await runtime.aio.install(folder, config={"limit": 5}, load=False)
    view = await runtime.aio.install(folder, config={"limit": 5})
    assert (view.state, view.configuration) == ("loaded", {"limit": 5})
    await runtime.aio.remove("choosy", purge=True)
