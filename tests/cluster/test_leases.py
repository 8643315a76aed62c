"""Calls go on while the registry is away for longer than a lease, and while exchanges are lost."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from msgspec.structs import replace

from ray_ext.calling.call import CallFuture
from ray_ext.calling.channel import ClientChannel
from ray_ext.calling.registry_client import registry_client
from ray_ext.calling.routebook import Target, route_book
from ray_ext.client.runtime import Runtime
from tests.cluster.conftest import CODE, MakeExtension

LEASE_S = 0.5
_numbers = itertools.count(1)

WAITING = """
    @exported
    async def wait(self):
        await self.count_to("waits")
        self.event = getattr(self, "event", asyncio.Event())
        await self.event.wait()
        return "released"

    @exported
    async def release(self):
        self.event.set()
"""


@pytest.fixture
def leased(runtime: Runtime, make_extension: MakeExtension) -> Iterator[str]:
    """An extension of the test's own."""
    extension = runtime.install(make_extension(f"leased-{next(_numbers)}", code=CODE + WAITING)).id
    yield extension
    runtime.unload(extension, grace_s=0)


async def test_every_call_gets_its_result_while_the_registry_is_stopped_for_longer_than_a_lease(
    runtime: Runtime, leased: str
) -> None:
    route = await registry_client(runtime.namespace).call_async("route", leased, 0, 10.0)
    book = route_book(runtime.namespace)
    await asyncio.to_thread(book.learn, replace(route, lease_s=LEASE_S))
    handle: Any = runtime.extension(leased)
    registry = runtime.status().registry_pid
    sent = 0

    async def caller(number: int) -> None:
        nonlocal sent
        stopped_at = time.monotonic()
        while time.monotonic() - stopped_at < 5 * LEASE_S:
            sent += 1
            assert await handle.echo(number) == number
            await handle.count_to("ledger")

    async def newcomer() -> Any:
        return await handle.echo.options(timeout_s=5)("on an event loop without a channel")

    os.kill(registry, signal.SIGSTOP)
    try:
        async with asyncio.timeout(30):
            await asyncio.gather(*(caller(number) for number in range(8)))
        assert await asyncio.to_thread(asyncio.run, newcomer()) == "on an event loop without a channel"
    finally:
        os.kill(registry, signal.SIGCONT)
    assert sent > 8
    assert await handle.counted("ledger") == sent
    await runtime.aio.unload(leased)
    async with asyncio.timeout(20):
        while book.get(leased) is not None:
            await asyncio.sleep(0.01)
    view = await runtime.aio.load(leased)
    assert view.generation == 2
    assert await handle.counted("ledger") == sent


class CuttingActor:
    """Ray's handle of a host, which cancels every third exchange on its way."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self.sent = self.cut = 0

    @property
    def exchange(self) -> CuttingActor:
        return self

    def remote(self, payload: bytes) -> Any:
        answer = self._actor.exchange.remote(payload)
        self.sent += 1
        if not self.sent % 3:
            self.cut += 1
            ray.cancel(answer)
        return answer


async def test_no_call_is_lost_or_run_twice_when_exchanges_are_cut(runtime: Runtime, leased: str) -> None:
    handle: Any = runtime.extension(leased)
    assert await handle.counted("ledger") == 0
    target = route_book(runtime.namespace).get(leased)
    assert target is not None
    actor = CuttingActor(target.actor)
    taken_back: list[CallFuture] = []
    loop = asyncio.get_running_loop()
    channel = ClientChannel(loop, Target(target.route, actor), lambda _, calls: taken_back.extend(calls))

    def call() -> CallFuture:
        future = CallFuture(loop, leased, "count_to", (("ledger",), {}), None, None)
        channel.add(future)
        return future

    done = 0

    async def caller() -> None:
        nonlocal done
        while actor.cut < 5:
            await call()
            done += 1

    async with asyncio.timeout(60):
        await asyncio.gather(*(caller() for _ in range(8)))
    assert taken_back == []
    assert await handle.counted("ledger") == done


class Callers:
    """An actor whose methods share a process, and so a channel."""

    def __init__(self) -> None:
        self.begun = 0

    async def call(self, method: Any) -> Any:
        self.begun += 1
        return await method()

    async def have_begun(self) -> int:
        return self.begun


async def test_cancelling_a_task_leaves_the_calls_of_others_in_its_process_alone(runtime: Runtime, leased: str) -> None:
    handle: Any = runtime.extension(leased)
    callers = ray.remote(num_cpus=0)(Callers).remote()

    async def running(count: int) -> None:
        async with asyncio.timeout(20):
            while await handle.counted("waits") < count:
                await asyncio.sleep(0.01)

    staying = callers.call.remote(handle.wait)
    await running(1)
    # Its exchange stays as the only one: what it brings back belongs to both.
    cancelled = callers.call.remote(handle.wait)
    await running(2)
    ray.cancel(cancelled)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        await cancelled
    await handle.release()
    async with asyncio.timeout(20):
        assert await staying == "released"
    assert await handle.counted("waits") == 2


async def test_cancelling_a_task_leaves_others_waiting_for_an_extension_that_starts(
    runtime: Runtime, make_extension: MakeExtension, leased: str, tmp_path: Path
) -> None:
    code = f"""
        import asyncio, os
        from ray_ext import Extension, exported

        class Probe(Extension):
            async def on_load(self):
                while not os.path.exists({str(tmp_path / "gate")!r}):
                    await asyncio.sleep(0.01)

            @exported
            async def hello(self):
                return "hello"
    """
    folder = make_extension("leased-slowly", code=code, manifest='isolation = "trusted"\n')
    loading = asyncio.ensure_future(runtime.aio.install(folder, grant="requested"))
    async with asyncio.timeout(20):
        while "leased-slowly" not in [view.id for view in await runtime.aio.list() if view.desired == "loaded"]:
            await asyncio.sleep(0.01)
    handle: Any = runtime.extension("leased-slowly")
    callers = ray.remote(num_cpus=0)(Callers).remote()
    # From then on their process knows the registry, and a call without a route asks for one at once.
    await callers.call.remote(runtime.extension(leased).pid)
    cancelled, staying = callers.call.remote(handle.hello), callers.call.remote(handle.hello)
    while await callers.have_begun.remote() < 3:
        await asyncio.sleep(0.01)
    ray.cancel(cancelled)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        await cancelled
    (tmp_path / "gate").touch()
    await loading
    assert await staying == "hello"
    await runtime.aio.unload("leased-slowly")
