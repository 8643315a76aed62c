"""Operations whose registry is killed before or after a write, and operations that a closing runtime cuts short."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import ray

import ray_ext
from ray_ext.client.leftovers import processes_of
from ray_ext.client.runtime import Runtime
from ray_ext.control.commands import Command
from ray_ext.home import Home
from ray_ext.store import failpoints
from tests.cluster.conftest import MakeExtension


def _until(is_so: Callable[[], bool], limit_s: float = 30.0) -> None:
    give_up = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < give_up, "it did not come true"
        time.sleep(0.02)


def _arm(runtime: Runtime, failpoint: str) -> int:
    """Let the registry die there; its successor lives. Returns its process id."""

    def arm(_: object) -> int:
        os.environ[failpoints.VARIABLE] = failpoint
        return os.getpid()

    registry = ray.get_actor("registry", namespace=runtime.namespace)
    pid: int = ray.get(registry.__ray_call__.remote(arm))
    return pid


def _serving_hosts(runtime: Runtime) -> set[str]:
    """The hosts that have an instance."""
    serving = set()
    for each in ray.util.list_named_actors(all_namespaces=True):
        if each["namespace"] == runtime.namespace and each["name"].startswith("host/"):
            try:
                host = ray.get_actor(each["name"], namespace=runtime.namespace)
                if ray.get(host.ping.remote()) is not None:
                    serving.add(each["name"])
            except (ValueError, ray.exceptions.RayActorError):
                continue
    return serving


def _rows(home: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(home / "store.db")) as store:
        return store.execute(query).fetchall()


def _assert_consistent(runtime: Runtime) -> None:
    """What the store routes to is what runs; nothing is half done, and no package is kept for nothing or missing."""
    assert _rows(runtime.home, "SELECT operation FROM operations WHERE outcome IS NULL") == []
    routed = {host for (host,) in _rows(runtime.home, "SELECT host FROM routes")}
    # What was stopped is kept for its callers a few seconds longer.
    _until(lambda: _serving_hosts(runtime) == routed)
    assert {view.id for view in runtime.list() if view.state == "loaded"} == {
        extension for (extension,) in _rows(runtime.home, "SELECT extension FROM routes")
    }
    kept = {wheel.stem for wheel in (runtime.home / "packages").glob("??/*.whl")}
    assert kept == {each.sha256 for each in runtime.releases()}


@pytest.fixture
def pair(runtime: Runtime, make_extension: MakeExtension, request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    """One that is registered in two versions, and the folder of one that needs it."""
    ground = f"crash-{abs(hash(request.node.name)) % 10**8}"
    for version in ("1.0.0", "2.0.0"):
        runtime.register(make_extension(ground, version=version))
    yield ground, make_extension(f"{ground}-top", manifest=f'[dependencies]\n{ground} = ">=1"\n')
    if ground in {view.id for view in runtime.list()}:
        runtime.remove(ground, cascade=True, purge=True, grace_s=0)


@pytest.mark.parametrize(
    "failpoint",
    [
        "begin-operation.after-commit",
        "install.before-commit",
        "install.after-commit:2",
        "set-desired.before-commit",
        "next-generation.after-commit",
        "put-route.before-commit",
        "put-route.after-commit:2",
        "advance-operation.after-commit:4",
        "finish-operation.before-commit",
        "finish-operation.after-commit",
    ],
)
def test_an_install_whose_registry_is_killed_at_a_write_ends_as_if_it_had_not_been(
    runtime: Runtime, pair: tuple[str, Path], failpoint: str
) -> None:
    ground, folder = pair
    killed = _arm(runtime, failpoint)
    view = runtime.install(folder)
    assert runtime.status().registry_pid != killed, "the failpoint was not reached"
    assert view.state == "loaded"
    assert {each.id for each in runtime.list()} >= {ground, view.id}
    assert ray.get(runtime.extension(view.id).echo.remote("by the client")) == "by the client"
    assert [entry.outcome for entry in runtime.audit(view.id) if "steps" in entry.detail] == ["done"]
    _assert_consistent(runtime)
    assert runtime.install(folder).generation == view.generation


@pytest.mark.parametrize(
    "failpoint",
    ["begin-operation.after-commit", "retire.after-commit", "install.after-commit", "put-route.after-commit"],
)
def test_an_upgrade_whose_registry_is_killed_at_a_write_ends_with_the_new_version(
    runtime: Runtime, pair: tuple[str, Path], failpoint: str
) -> None:
    ground, _ = pair
    runtime.install(ground, version="1.0.0")
    killed = _arm(runtime, failpoint)
    view = runtime.upgrade(ground, "2.0.0")
    assert runtime.status().registry_pid != killed, "the failpoint was not reached"
    assert (view.version, view.state) == ("2.0.0", "loaded")
    assert ray.get(runtime.extension(ground).echo.remote("by the client")) == "by the client"
    _assert_consistent(runtime)


@pytest.mark.parametrize(
    "failpoint",
    ["remove.after-commit", "finish-operation.before-commit", "finish-operation.after-commit"],
)
def test_a_removal_whose_registry_is_killed_at_a_write_leaves_nothing(
    runtime: Runtime, pair: tuple[str, Path], failpoint: str
) -> None:
    ground, folder = pair
    top = runtime.install(folder).id
    killed = _arm(runtime, failpoint)
    runtime.remove(ground, cascade=True, purge=True)
    assert runtime.status().registry_pid != killed, "the failpoint was not reached"
    assert not {ground, top} & {view.id for view in runtime.list()}
    for extension in (ground, top):
        assert runtime.releases(extension) == []
        assert not (runtime.home / "data" / extension).exists()
        assert not (runtime.home / "logs" / extension).exists()
    _assert_consistent(runtime)


def test_an_interrupted_install_is_not_there_when_nobody_sends_it_again(
    runtime: Runtime, pair: tuple[str, Path]
) -> None:
    ground, _ = pair
    killed = _arm(runtime, "finish-operation.before-commit")
    command = Command(verb="install", extension=ground, version="1.0.0", actor="me")
    registry = ray.get_actor("registry", namespace=runtime.namespace)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(registry.perform.remote(command, f"{ground}-once"))
    assert runtime.status().registry_pid != killed
    assert ground not in {view.id for view in runtime.list()}
    assert [entry.outcome for entry in runtime.audit(ground, limit=1)] == ["interrupted"]
    _assert_consistent(runtime)
    assert runtime.install(ground, version="1.0.0").generation == 2


CHOOSY = """
import os, signal
from ray_ext import Extension, exported

class Probe(Extension):
    async def on_load(self):
        if self.config["limit"] < 5 and (self.data_dir / "loaded").exists():
            raise ValueError("too low")
        (self.data_dir / "loaded").touch()

    @exported
    async def config_is(self):
        return dict(self.config)

    @exported
    async def die(self):
        os.kill(os.getpid(), signal.SIGKILL)
"""
LIMITED = """
[configuration]
type = "object"
properties.limit = { type = "integer", default = 3 }
"""


def test_an_instance_that_an_undone_operation_has_started_does_not_serve(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    folder = make_extension("choosy-crash", code=CHOOSY, manifest=LIMITED)
    runtime.install(folder)
    handle: Any = runtime.extension("choosy-crash")
    with pytest.raises(ray_ext.OutcomeUnknown):
        ray.get(handle.die.remote())
    _until(lambda: "too low" in runtime.show("choosy-crash").reason)
    killed = _arm(runtime, "finish-operation.before-commit")
    # The same version, wanted before and after: by its configuration alone it is another instance.
    assert runtime.install(folder, config={"limit": 5}).configuration == {"limit": 5}
    assert runtime.status().registry_pid != killed
    assert ray.get(handle.config_is.remote()) == {"limit": 5}
    _assert_consistent(runtime)
    runtime.remove("choosy-crash", purge=True)


CLOSING = """
import sys, threading, time
from pathlib import Path
import ray_ext
runtime = ray_ext.connect(home=sys.argv[1])
runtime.install(sys.argv[2])
ends = []
def install():
    try:
        runtime.install(sys.argv[3])
    except ray_ext.RayExtError as error:
        ends.append(f"{error.code}: {error.where}")
thread = threading.Thread(target=install)
thread.start()
begun = Path(sys.argv[1], "data", "endless", "begun")
while thread.is_alive() and not begun.exists():
    time.sleep(0.02)
runtime.close()
thread.join()
print(*ends, sep="\\n")
"""
ENDLESS = """
import asyncio
from ray_ext import Extension, exported

class Probe(Extension):
    async def on_load(self):
        (self.data_dir / "begun").touch()
        await asyncio.sleep(600)

    @exported
    async def echo(self): ...
"""


def test_a_closing_runtime_undoes_the_operation_at_work_and_tells_its_client(
    make_extension: MakeExtension, tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    folders = [make_extension("steady-one"), make_extension("endless", code=ENDLESS)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", CLOSING, str(home.root), *map(str, folders)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "runtime-closed: step load endless 1.0.0; undone: install endless 1.0.0" in done.stdout, done.stderr
    assert _rows(home.root, "SELECT extension, desired FROM installations") == [("steady-one", "loaded")]
    assert _rows(home.root, "SELECT outcome FROM operations ORDER BY number") == [("done",), ("failed",)]
    assert processes_of(home) == []
