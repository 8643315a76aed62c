"""Spare hosts: ready beforehand, taken by what fits, replaced, and never a reason for a load to fail."""

from __future__ import annotations

import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from ray_ext.actors.spares import SPARE_PREFIX
from ray_ext.calling.registry_client import registry_client
from ray_ext.client.runtime import Runtime, connect
from tests.cluster.conftest import MakeExtension

DEADLINE_S = 30.0


@pytest.fixture
def home(runtime: Runtime) -> Iterator[Path]:
    """Of another runtime in the same Ray."""
    folder = Path(tempfile.mkdtemp(prefix="rx-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def loadable(runtime: Runtime, make_extension: MakeExtension) -> str:
    """Installed, with the default resources, and not loaded."""
    return runtime.install(make_extension("takes-a-spare"), load=False).id


def hosts(runtime: Runtime) -> set[str]:
    named = ray.util.list_named_actors(all_namespaces=True)
    names = {each["name"] for each in named if each["namespace"] == runtime.namespace}
    return {name for name in names if name.startswith("host/")}


def host_of(runtime: Runtime, extension: str) -> str:
    return str(registry_client(runtime.namespace).call("route", extension, 0, DEADLINE_S).host)


def spare(runtime: Runtime, *, other_than: str = "") -> str:
    """The name of the host that is ready, once that is another."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        status = runtime.status()
        taken = {host_of(runtime, view.id) for view in status.extensions if view.state == "loaded"}
        ready = {name for name in hosts(runtime) - taken - {other_than} if name.startswith(SPARE_PREFIX)}
        if status.spare_hosts == len(ready) == 1:
            return ready.pop()
        time.sleep(0.02)
    raise AssertionError("there is no other spare host")


def pid_of(runtime: Runtime, host: str) -> int:
    actor: Any = ray.get_actor(host, namespace=runtime.namespace)
    return int(ray.get(actor.__ray_call__.remote(lambda _: os.getpid())))


def test_a_load_takes_the_spare_host_and_another_takes_its_place(runtime: Runtime, loadable: str) -> None:
    ready = spare(runtime)
    pid = pid_of(runtime, ready)
    runtime.load(loadable)
    assert host_of(runtime, loadable) == ready
    instance = runtime.show(loadable).instance
    assert instance is not None
    assert instance.host_pid == pid
    assert spare(runtime) != ready
    runtime.unload(loadable)


def test_what_asks_for_other_resources_starts_cold_and_leaves_the_spare_host(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    ready = spare(runtime)
    view = runtime.install(make_extension("asks-for-less", manifest="[resources]\ncpus = 0.01\n"))
    assert host_of(runtime, view.id) == f"host/{view.id}/1"
    assert spare(runtime) == ready
    runtime.remove(view.id)


def test_a_spare_host_that_dies_is_replaced(runtime: Runtime) -> None:
    dead = spare(runtime)
    os.kill(pid_of(runtime, dead), signal.SIGKILL)
    assert spare(runtime, other_than=dead) in hosts(runtime)


def test_a_load_right_after_the_death_of_the_spare_host_succeeds(runtime: Runtime, loadable: str) -> None:
    dead = spare(runtime)
    os.kill(pid_of(runtime, dead), signal.SIGKILL)
    assert runtime.load(loadable).state == "loaded"
    assert host_of(runtime, loadable) != dead
    runtime.unload(loadable)


def test_a_runtime_starts_one_spare_host_and_leaves_none_when_it_closes(home: Path) -> None:
    with connect(home=home) as runtime:
        ready = spare(runtime)
        descriptor = os.pidfd_open(pid_of(runtime, ready))
        assert hosts(runtime) == {ready}
    assert hosts(runtime) == set()
    # Readable once the process is gone.
    assert select.select([descriptor], [], [], DEADLINE_S)[0]
    os.close(descriptor)


def test_without_spare_hosts_every_load_starts_cold(home: Path, make_extension: MakeExtension) -> None:
    with connect(home=home, spares=0) as runtime:
        view = runtime.install(make_extension("starts-cold"))
        assert hosts(runtime) == {f"host/{view.id}/1"}
        assert runtime.status().spare_hosts == 0
    assert hosts(runtime) == set()
