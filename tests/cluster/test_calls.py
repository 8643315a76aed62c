"""What a call through a handle promises, in both isolations."""

from __future__ import annotations

import asyncio
import pickle
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import ray

import ray_ext
from ray_ext.client.runtime import Runtime


class Point(msgspec.Struct):
    x: int
    y: int


VALUES = [
    None,
    True,
    -(2**63),
    1.5,
    "t\u00e9xt",
    b"\x00\xff",
    [1, [2]],
    {"a": {"b": 1}},
    datetime(2026, 1, 2, tzinfo=UTC),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_every_plain_value_comes_back_equal_by_both_kinds_of_call(probe: Any, value: object) -> None:
    assert await probe.echo(value) == value
    assert await asyncio.to_thread(ray.get, probe.echo.remote(value)) == value


async def test_structured_arguments_are_converted_and_results_arrive_as_dicts_or_typed(probe: Any) -> None:
    assert await probe.flip(Point(1, 2)) == {"x": 2, "y": 1}
    assert await probe.flip.options(result_type=Point)({"x": 1, "y": 2}) == Point(2, 1)


async def test_top_level_refs_are_resolved(probe: Any) -> None:
    reference = ray.put("stored")
    assert await probe.echo.remote(reference) == "stored"
    assert await probe.echo.remote(value=reference) == "stored"


async def test_nested_refs_are_refused_by_name(runtime: Runtime, strict: str) -> None:
    handle: Any = runtime.extension(strict)
    reference = ray.put("stored")
    with pytest.raises(ray_ext.NestedObjectRef, match=r"argument 0\['in'\]\[0\]"):
        handle.echo.remote({"in": [reference]})


async def test_an_unserialisable_argument_is_named(runtime: Runtime, strict: str) -> None:
    handle: Any = runtime.extension(strict)
    with pytest.raises(ray_ext.ArgumentNotSerialisable, match=r"value\['when'\]\[1\]") as caught:
        await handle.echo(value={"when": [1, object()]})
    assert caught.value.details["path"] == "value['when'][1]"


async def test_any_object_may_be_passed_to_a_trusted_extension(runtime: Runtime, trusted: str) -> None:
    handle: Any = runtime.extension(trusted)
    assert (await handle.echo(lambda: "called"))() == "called"
    assert await handle.echo(complex(1, 2)) == complex(1, 2)
    assert await handle.echo.remote(complex(1, 2)) == complex(1, 2)


@pytest.mark.parametrize("name", ["hidden", "nothing", "on_load"])
async def test_a_refused_method_lists_what_is_exported(probe: Any, name: str) -> None:
    with pytest.raises(ray_ext.NotExported) as caught:
        await getattr(probe, name)()
    assert "echo" in caught.value.details["exported"]  # type: ignore[operator]
    with pytest.raises(ray_ext.NotExported):
        await getattr(probe, name).remote()


def test_a_dunder_is_no_attribute_of_a_handle(probe: Any) -> None:
    with pytest.raises(ray_ext.NotExported):
        probe.__wrapped__  # noqa: B018
    assert not hasattr(probe, "_private")


async def test_the_extensions_exception_arrives_with_its_traceback(probe: Any) -> None:
    with pytest.raises(ray_ext.ExtensionError, match="ValueError: so it goes") as caught:
        await probe.fail("so it goes")
    assert caught.value.details["type"] == "ValueError"
    assert "raise ValueError(text)" in caught.value.traceback_text
    assert pickle.loads(pickle.dumps(caught.value)).traceback_text == caught.value.traceback_text
    with pytest.raises(ray_ext.ExtensionError, match="so it goes"):
        await probe.fail.remote("so it goes")


async def test_an_exception_with_a_hostile_repr_is_the_calls_failure_alone(probe: Any) -> None:
    with pytest.raises(ray_ext.ExtensionError, match="Hostile"):
        await probe.fail_hostile()
    assert await probe.echo(1) == 1


async def test_a_result_that_cannot_be_sent_is_named(runtime: Runtime, strict: str) -> None:
    handle: Any = runtime.extension(strict)
    with pytest.raises(ray_ext.ResultNotSerialisable) as caught:
        await handle.unsendable()
    assert caught.value.details["path"] == "result['deep'][1]"


async def test_a_payload_at_the_limit_passes_and_one_byte_more_is_refused(probe: Any) -> None:
    limit = 128 * 2**20 // 4
    frame = len(msgspec.msgpack.encode(((b"x" * 70_000,), {}))) - 70_000
    assert len(await probe.echo(b"x" * (limit - frame))) == limit - frame
    with pytest.raises(ray_ext.PayloadTooLarge) as caught:
        await probe.echo(b"x" * (limit - frame + 1))
    assert caught.value.details["limit_bytes"] == limit
    with pytest.raises(ray_ext.PayloadTooLarge):
        probe.echo.remote(b"x" * (limit - frame + 1))
    assert len(await probe.blob(limit - 5)) == limit - 5
    with pytest.raises(ray_ext.PayloadTooLarge):
        await probe.blob(limit - 4)


async def test_a_deadline_ends_the_call_and_not_the_extension(probe: Any) -> None:
    begun = time.monotonic()
    with pytest.raises(ray_ext.DeadlineExceeded) as caught:
        await probe.sleep.options(timeout_s=10)(60.0)
    assert 9.5 < time.monotonic() - begun < 15
    assert caught.value.details["started"] is True
    assert await probe.echo("alive") == "alive"


async def test_a_deadline_ends_a_call_whose_guest_is_blocked(runtime: Runtime, strict: str) -> None:
    handle: Any = runtime.extension(strict)
    blocking = asyncio.ensure_future(handle.block(1.5))
    with pytest.raises(ray_ext.DeadlineExceeded):
        await handle.echo.options(timeout_s=0.3)("late")
    await blocking


async def test_a_thousand_calls_cancelled_at_once_end_and_the_extension_lives(probe: Any) -> None:
    calls = [probe.sleep(600.0) for _ in range(1000)]
    assert await probe.echo("all are on their way") == "all are on their way"
    for call in calls:
        call.cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert await probe.echo("alive") == "alive"


async def test_ray_cancel_cancels_the_running_method(runtime: Runtime, strict: str) -> None:
    handle: Any = runtime.extension(strict)
    reference = handle.sleep.remote(600.0)
    await _until(lambda: _pending(runtime, strict) >= 1)
    ray.cancel(reference)
    with pytest.raises((ray.exceptions.TaskCancelledError, ray.exceptions.RayTaskError)):
        await reference
    await _until(lambda: _pending(runtime, strict) == 0)


async def test_a_slow_call_does_not_delay_the_others(probe: Any) -> None:
    slow = asyncio.ensure_future(probe.sleep(5.0))
    for number in range(50):
        assert await probe.echo(number) == number
    assert not slow.done()
    slow.cancel()


async def test_blocking_methods_run_beside_each_other(probe: Any) -> None:
    begun = time.monotonic()
    await asyncio.gather(*(probe.think(1.0) for _ in range(8)))
    assert time.monotonic() - begun < 6


async def test_too_many_pending_calls_are_refused_at_once_with_a_pause_to_make(runtime: Runtime, strict: str) -> None:
    handle: Any = runtime.extension(strict)
    calls = [asyncio.ensure_future(handle.sleep(600.0)) for _ in range(4096 + 10)]
    done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
    refused = [call.exception() for call in done]
    assert refused
    assert all(isinstance(error, ray_ext.Overloaded) and error.retry_after_s > 0 for error in refused)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await _until(lambda: _pending(runtime, strict) == 0)


def test_calling_without_an_event_loop_says_what_to_do(probe: Any) -> None:
    with pytest.raises(ray_ext.NoEventLoop, match="remote"):
        probe.echo(1)


def test_a_handle_works_in_tasks_and_actors(probe: Any) -> None:
    def in_task(handle: Any) -> Any:
        async def call() -> Any:
            return await handle.echo("awaited")

        return asyncio.run(call()), ray.get(handle.echo.remote("remote"))

    class Actor:
        async def call(self, handle: Any) -> Any:
            return await handle.echo("in an async actor")

    assert ray.get(ray.remote(in_task).remote(probe)) == ("awaited", "remote")
    assert ray.get(ray.remote(Actor).remote().call.remote(probe)) == "in an async actor"


def test_handles_work_in_one_event_loop_after_another(probe: Any) -> None:
    async def call() -> Any:
        return await probe.echo("again")

    assert [asyncio.run(call()) for _ in range(3)] == ["again"] * 3


def _pending(runtime: Runtime, extension: str) -> int:
    instance = runtime.show(extension).instance
    assert instance is not None
    return instance.pending


async def _until(condition: Any, timeout_s: float = 20.0) -> None:
    give_up = time.monotonic() + timeout_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < give_up, "the condition did not come true in time"
        await asyncio.sleep(0.02)
