"""What happens when something is killed: guests, hosts, the registry."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

import ray_ext
from ray_ext.calling.handle import Handle
from ray_ext.calling.names import REGISTRY_NAME
from ray_ext.client.runtime import Runtime
from ray_ext.routing.routes import Route
from tests.cluster.conftest import MakeExtension


def _instance(runtime: Runtime, extension: str) -> Any:
    instance = runtime.show(extension).instance
    assert instance is not None
    return instance


@pytest.fixture
def mortal(runtime: Runtime, make_extension: MakeExtension, request: pytest.FixtureRequest) -> Iterator[str]:
    """An extension of the test's own."""
    name = "mortal-" + str(abs(hash(request.node.name)) % 10**8)
    extension = runtime.install(make_extension(name)).id
    yield extension
    runtime.unload(extension, grace_s=0)


async def test_a_killed_guest_ends_started_calls_as_unknown_and_later_ones_work_within_two_seconds(
    runtime: Runtime, mortal: str
) -> None:
    handle: Any = runtime.extension(mortal)
    running = [asyncio.ensure_future(handle.sleep(600.0)) for _ in range(20)]
    by_ray = handle.sleep.remote(600.0)
    assert await handle.echo("they have started") == "they have started"
    while _instance(runtime, mortal).pending < 21:
        await asyncio.sleep(0.02)
    os.kill(await handle.pid(), signal.SIGKILL)
    begun = time.monotonic()
    outcomes = await asyncio.gather(*running, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ray_ext.OutcomeUnknown] * 20
    assert "SIGKILL" in str(outcomes[0])
    with pytest.raises(ray_ext.OutcomeUnknown):
        await by_ray
    assert await handle.echo("later") == "later"
    assert time.monotonic() - begun < 2.0
    assert await asyncio.to_thread(ray.get, handle.echo.remote("by ray")) == "by ray"
    view = runtime.show(mortal)
    assert view.generation == 2
    assert view.last_exit is not None
    assert view.last_exit.kind == "crashed"


async def test_calls_that_a_killed_guest_had_not_begun_end_as_crashed_and_did_not_run(
    runtime: Runtime, mortal: str
) -> None:
    handle: Any = runtime.extension(mortal)
    pid = await handle.pid()
    blocking = asyncio.ensure_future(handle.block(600.0))
    while _instance(runtime, mortal).pending < 1:
        await asyncio.sleep(0.02)
    waiting = [asyncio.ensure_future(handle.count_to("ledger")) for _ in range(20)]
    while _instance(runtime, mortal).pending < 21:
        await asyncio.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    outcomes = await asyncio.gather(blocking, *waiting, return_exceptions=True)
    assert isinstance(outcomes[0], ray_ext.OutcomeUnknown)
    assert [type(outcome) for outcome in outcomes[1:]] == [ray_ext.ExtensionCrashed] * 20
    assert await handle.counted("ledger") == 0


async def test_an_idempotent_call_survives_the_death_of_its_guest(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    code = """
        import asyncio, os
        from ray_ext import Extension, exported

        class Probe(Extension):
            @exported(idempotent=True)
            async def work(self):
                marker = self.data_dir / "begun"
                if not marker.exists():
                    marker.touch()
                    await asyncio.sleep(600)
                return self.context.generation

            @exported
            async def pid(self):
                return os.getpid()

            @exported
            async def has_begun(self):
                return (self.data_dir / "begun").exists()
    """
    extension = runtime.install(make_extension("idempotent", code=code)).id
    handle: Any = runtime.extension(extension)
    working = asyncio.ensure_future(handle.work())
    while not await handle.has_begun():
        await asyncio.sleep(0.02)
    os.kill(await handle.pid(), signal.SIGKILL)
    assert await working == 2
    runtime.unload(extension)


async def test_a_killed_host_takes_its_guest_along_and_a_successor_serves(runtime: Runtime, mortal: str) -> None:
    handle: Any = runtime.extension(mortal)
    guest = await handle.pid()
    running = asyncio.ensure_future(handle.sleep(600.0))
    while _instance(runtime, mortal).pending < 1:
        await asyncio.sleep(0.02)
    descriptor = os.pidfd_open(guest)
    os.kill(_instance(runtime, mortal).host_pid, signal.SIGKILL)
    with pytest.raises(ray_ext.OutcomeUnknown):
        await running
    dead = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, dead.set)
    await asyncio.wait_for(dead.wait(), 5)
    asyncio.get_running_loop().remove_reader(descriptor)
    os.close(descriptor)
    assert await handle.echo("on the successor") == "on the successor"
    last = runtime.show(mortal).last_exit
    assert last is not None
    assert last.kind == "host-lost"


async def test_a_guest_that_stops_beating_is_ended_and_replaced(runtime: Runtime, mortal: str) -> None:
    handle: Any = runtime.extension(mortal)
    os.kill(await handle.pid(), signal.SIGSTOP)
    with pytest.raises(ray_ext.RayExtError) as caught:
        await handle.echo.options(timeout_s=60)("stuck")
    assert isinstance(caught.value, (ray_ext.ExtensionCrashed, ray_ext.OutcomeUnknown))
    assert await handle.echo("again") == "again"
    last = runtime.show(mortal).last_exit
    assert last is not None
    assert last.kind == "hung"


def test_every_call_ends_with_its_result_while_the_registry_is_killed(runtime: Runtime, strict: str) -> None:
    callers, calls = 8, 250

    class Caller:
        def __init__(self) -> None:
            self.done = 0

        async def run(self, handle: Any, first: int) -> list[int]:
            results = []
            for number in range(first, first + calls):
                results.append(await handle.echo(number))
                self.done += 1
                await asyncio.sleep(0.005)
            return results

        async def progress(self) -> int:
            return self.done

    before = runtime.status()
    handle: Any = runtime.extension(strict)
    actors = [ray.remote(num_cpus=0)(Caller).remote() for _ in range(callers)]
    runs = [actor.run.remote(handle, index * calls) for index, actor in enumerate(actors)]
    while min(ray.get([actor.progress.remote() for actor in actors])) < 10:
        time.sleep(0.02)
    os.kill(before.registry_pid, signal.SIGKILL)
    results = ray.get(runs, timeout=120)
    assert sorted(number for each in results for number in each) == list(range(callers * calls))
    after = runtime.status()
    assert after.registry_pid != before.registry_pid
    assert after.writer_epoch > before.writer_epoch
    assert runtime.show(strict).generation == 1


def test_a_restarted_registry_serves_the_same_routes_and_installations(runtime: Runtime, strict: str) -> None:
    before = runtime.show(strict)
    os.kill(runtime.status().registry_pid, signal.SIGKILL)
    after = runtime.show(strict)
    assert (after.generation, after.sha256, after.state) == (before.generation, before.sha256, "loaded")
    assert ray.get(runtime.extension(strict).echo.remote("still the same")) == "still the same"


def test_a_restarted_registry_ends_hosts_that_the_store_does_not_know(runtime: Runtime, strict: str) -> None:
    class Stray:
        def ping(self) -> int:
            return os.getpid()

    stray = (
        ray.remote(num_cpus=0)(Stray)
        .options(name="host/stray/1", namespace=runtime.namespace, lifetime="detached")
        .remote()
    )
    descriptor = os.pidfd_open(ray.get(stray.ping.remote()))
    os.kill(runtime.status().registry_pid, signal.SIGKILL)
    runtime.show(strict)
    give_up = time.monotonic() + 10
    while True:
        try:
            signal.pidfd_send_signal(descriptor, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < give_up, "the stray host lives on"
        time.sleep(0.02)
    os.close(descriptor)


class _LateRegistry:
    """One that has not noticed yet that the host of generation 1 is gone."""

    async def route(self, extension: str, newer_than: int, wait_s: float) -> Route:
        if newer_than >= 1:
            raise ray_ext.ExtensionNotLoaded(f"nothing is newer than {newer_than}")
        return Route(
            extension=extension,
            version="1.0.0",
            generation=1,
            epoch=1,
            host="host/nobody/1",
            is_trusted=False,
            payload_limit=1 << 20,
            methods={"echo": False},
        )


async def test_a_route_to_a_host_that_is_gone_makes_callers_ask_for_a_later_one(runtime: Runtime) -> None:
    namespace = f"{runtime.namespace}.late"
    registry = ray.remote(_LateRegistry).options(name=REGISTRY_NAME, namespace=namespace, num_cpus=0).remote()
    handle: Any = Handle(namespace, "late")
    with pytest.raises(ray_ext.ExtensionNotLoaded, match="newer than 1"):
        await handle.echo("awaited")
    with pytest.raises(ray_ext.ExtensionNotLoaded, match="newer than 1"):
        await asyncio.to_thread(handle.echo.remote, "by ray")
    ray.kill(registry)
