"""Calls to real guests: values, concurrency, cancellation, deadlines, refusals."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydantic
import pytest

from ray_ext.errors import (
    ArgumentMismatch,
    CallCancelled,
    DeadlineExceeded,
    ExtensionCrashed,
    NotExported,
    PayloadTooLarge,
    ProtocolViolation,
    ResultNotSerialisable,
)
from ray_ext.wire import values

from .conftest import Driver, eventually

BASICS = """
class Demo(Extension):
    async def on_load(self):
        self.running = self.begun = 0
        self.event = threading.Event()
        self.barrier = threading.Barrier(8)
    @exported
    async def echo(self, value=None): return value
    @exported
    async def add(self, left: int, right: int = 1, *, scale: int = 1) -> int: return (left + right) * scale
    @exported
    async def slow(self, seconds: float):
        self.begun += 1
        self.running += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self.running -= 1
    @exported
    async def counts(self): return [self.begun, self.running]
    @exported
    def wait_for_event(self): return self.event.wait(20)
    @exported
    async def set_event(self): self.event.set()
    @exported
    def meet(self): self.barrier.wait(20)
    @exported
    async def block(self):
        (self.data_dir / "blocking").touch()
        until(self.data_dir / "go")
    @exported
    async def stubborn(self):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            (self.data_dir / "cancelled").touch()
            raise
    @exported
    async def unsendable(self, kind: str):
        return {"object": {"a": [1, object()]}, "int": [2 ** 70], "text": {"x": "\\ud800"}}[kind]
    @exported
    async def size(self, value): return len(value)
    @exported
    async def large(self, size: int): return b"x" * size
    @exported
    async def unsendable_by_exit(self): return Exits()
    async def not_marked(self): return "secret"
    def __call__(self): return "secret"

class Exits:
    def model_dump(self): raise SystemExit(3)
"""


@pytest.mark.parametrize(
    "value",
    [
        None, True, -(2**63), 2**64 - 1, 1.5, "text ü 🎈", b"\x00\xff", [1, [2]], {"a": {"b": None}}, {1: "x"},
        datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), b"z" * 500_000,
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
async def test_a_plain_value_comes_back_as_it_was_sent(driver: Driver, value: object) -> None:
    driven = await driver.start(BASICS)
    assert await driven.call("echo", value) == value


TYPED = """
import msgspec, pydantic, typing

@dataclasses.dataclass
class Point:
    x: int
    y: int = 2
class Item(msgspec.Struct):
    name: str
    tags: list[str] = []
class Model(pydantic.BaseModel):
    count: int
    inner: dict[str, int] = {}

class Demo(Extension):
    @exported
    async def point(self, p: Point) -> Point:
        assert type(p) is Point
        return Point(p.x + 1, p.y)
    @exported
    async def points(self, ps: list[Point], *rest: Point, **named: Point) -> list[Point]:
        assert {type(p) for p in [*ps, *rest, *named.values()]} == {Point}
        return [*ps, *rest, *named.values()]
    @exported
    def item(self, item: Item) -> Item:
        assert type(item) is Item
        return Item(item.name * 2, [*item.tags, "new"])
    @exported
    async def model(self, model: Model) -> Model:
        assert type(model) is Model
        return Model(count=model.count + 1, inner={"a": 1})
"""


async def test_arguments_become_what_the_annotations_say_and_results_become_plain(
    driver: Driver, is_trusted: bool
) -> None:
    libraries = str(Path(pydantic.__file__).parents[1])
    driven = await driver.start(TYPED, is_trusted=is_trusted, more_code=(libraries,), memory_bytes=512 << 20)
    assert await driven.call("point", {"x": 1}) == {"x": 2, "y": 2}
    assert await driven.call("point", p={"x": 1, "y": 5}) == {"x": 2, "y": 5}
    many = await driven.call("points", [{"x": 1}], {"x": 2}, last={"x": 3})
    assert [point["x"] for point in many] == [1, 2, 3]
    assert await driven.call("item", {"name": "ab", "tags": ["t"]}) == {"name": "abab", "tags": ["t", "new"]}
    assert await driven.call("model", {"count": 1}) == {"count": 2, "inner": {"a": 1}}
    for method, wrong in [("point", {"x": "no"}), ("item", {"tags": []}), ("model", {"count": "no"}), ("point", 3)]:
        with pytest.raises(ArgumentMismatch):
            await driven.call(method, wrong)


async def test_many_calls_at_once_each_get_their_own_result(driver: Driver, is_trusted: bool) -> None:
    driven = await driver.start(BASICS, is_trusted=is_trusted)
    assert await asyncio.gather(*[driven.call("echo", number) for number in range(2000)]) == list(range(2000))
    status = driven.instance.status()
    assert (status.accepted, status.completed, status.failed, status.pending) == (2000, 2000, 0, 0)


async def test_a_plain_method_runs_in_a_thread_while_async_ones_go_on(driver: Driver, is_trusted: bool) -> None:
    driven = await driver.start(BASICS, is_trusted=is_trusted)
    _, waiting = driven.send("wait_for_event")
    await driven.call("set_event")
    assert await waiting is True


async def test_plain_methods_run_at_the_same_time(driver: Driver, is_trusted: bool) -> None:
    driven = await driver.start(BASICS, is_trusted=is_trusted)
    await asyncio.gather(*[driven.call("meet") for _ in range(8)])
    assert driven.instance.status().completed == 8


# ---- cancellation and deadlines


async def test_a_thousand_calls_cancelled_at_once_all_end_cancelled_and_the_guest_lives_on(
    driver: Driver, is_trusted: bool
) -> None:
    driven = await driver.start(BASICS, is_trusted=is_trusted)
    calls = [driven.send("slow", 60.0) for _ in range(1000)]
    assert await driven.call("counts") == [1000, 1000]
    for entry, _ in calls:
        driven.instance.cancel(entry)
    outcomes = await asyncio.gather(*[outcome for _, outcome in calls], return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {CallCancelled}
    await eventually(lambda: len(driven.instance.ledger) == 0, "the guest confirms every cancellation")
    assert await driven.call("counts") == [1000, 0]
    assert driven.instance.status().failed == 1000


async def test_a_call_cancelled_before_its_first_step_never_runs_and_is_forgotten(
    driver: Driver, is_trusted: bool
) -> None:
    driven = await driver.start(BASICS, is_trusted=is_trusted)
    entry, outcome = driven.send("slow", 60.0)
    driven.instance.cancel(entry)
    with pytest.raises(CallCancelled):
        await outcome
    await eventually(lambda: len(driven.instance.ledger) == 0)
    assert await driven.call("counts") == [0, 0]


async def test_cancelling_a_call_twice_or_after_its_end_changes_nothing(driver: Driver) -> None:
    driven = await driver.start(BASICS)
    entry, outcome = driven.send("echo", 1)
    assert await outcome == 1
    driven.instance.cancel(entry)
    driven.instance.cancel_sequence(entry.sequence)
    driven.instance.cancel_sequence(999)
    assert await driven.call("echo", 2) == 2
    assert driven.instance.status().failed == 0


async def test_a_deadline_ends_the_call_and_cancels_the_running_method(driver: Driver, is_trusted: bool) -> None:
    driven = await driver.start(BASICS, is_trusted=is_trusted)
    with pytest.raises(DeadlineExceeded) as caught:
        await driven.call("stubborn", timeout_s=0.3)
    assert caught.value.details == {"timeout_s": 0.3, "started": True}
    await eventually((driven.data / "cancelled").exists)
    await eventually(lambda: len(driven.instance.ledger) == 0)


async def test_a_deadline_says_when_the_call_had_not_started(driver: Driver) -> None:
    driven = await driver.start(BASICS)
    _, blocking = driven.send("block")
    await eventually((driven.data / "blocking").exists)
    with pytest.raises(DeadlineExceeded, match="had not started") as caught:
        await driven.call("slow", 60.0, timeout_s=0.05)
    assert caught.value.details["started"] is False
    (driven.data / "go").touch()
    await blocking
    assert (await driven.call("counts"))[0] == 0


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
async def test_a_call_without_time_left_is_refused(driver: Driver, timeout_s: float) -> None:
    driven = await driver.start(BASICS)
    with pytest.raises(DeadlineExceeded):
        driven.send("echo", timeout_s=timeout_s)
    status = driven.instance.status()
    assert (status.refused, status.accepted) == (1, 0)


# ---- refusals


@pytest.mark.parametrize("name", ["not_marked", "__call__", "__init__", "on_load", "config", "nothing", "", "x" * 9999])
async def test_only_exported_methods_can_be_called_and_the_refusal_lists_them(
    driver: Driver, name: str, is_trusted: bool
) -> None:
    driven = await driver.start(BASICS, is_trusted=is_trusted)
    with pytest.raises(NotExported) as caught:
        driven.send(name)
    exported = caught.value.details["exported"]
    assert isinstance(exported, list)
    assert exported == sorted(driven.instance.methods)
    assert {"echo", "add"} <= set(exported)
    assert not {"not_marked", "on_load", "__call__"} & set(exported)
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize(
    ("args", "kwargs", "names"),
    [
        ((), {}, "left"), ((1, 2, 3), {}, "positional"), ((1,), {"other": 1}, "other"), ((1,), {"left": 2}, "left"),
        (("one",), {}, "left"), ((1,), {"scale": None}, "scale"), ((1, 2.5), {}, "right"),
    ],
)  # fmt: skip
async def test_arguments_that_do_not_fit_are_refused_with_the_signature(
    driver: Driver, args: tuple[object, ...], kwargs: dict[str, Any], names: str
) -> None:
    driven = await driver.start(BASICS)
    with pytest.raises(ArgumentMismatch, match=names) as caught:
        await driven.call("add", *args, **kwargs)
    assert "add(left: int, right: int = 1" in caught.value.fix
    assert caught.value.where == "demo"
    assert await driven.call("add", 2, scale=3) == 9


async def test_arguments_that_do_not_bind_to_a_plain_method_are_refused(driver: Driver) -> None:
    driven = await driver.start(BASICS)
    with pytest.raises(ArgumentMismatch):
        await driven.call("meet", 1)


async def test_a_confined_extension_takes_no_pickles(driver: Driver) -> None:
    driven = await driver.start(BASICS)
    with pytest.raises(ProtocolViolation):
        driven.instance.submit("echo", None, values.PICKLE, b"", lambda *_: None)
    assert driven.instance.status().accepted == 0


@pytest.mark.parametrize(
    ("kind", "path"), [("object", "result['a'][1]"), ("int", "result[0]"), ("text", "result['x']")]
)
async def test_a_result_that_cannot_be_sent_is_named(driver: Driver, kind: str, path: str) -> None:
    driven = await driver.start(BASICS)
    with pytest.raises(ResultNotSerialisable) as caught:
        await driven.call("unsendable", kind)
    assert caught.value.details["path"] == path
    assert await driven.call("echo", 1) == 1


async def test_a_result_whose_encoding_exits_fails_alone(driver: Driver, is_trusted: bool) -> None:
    driven = await driver.start(BASICS, is_trusted=is_trusted)
    with pytest.raises(Exception, match="SystemExit"):
        await driven.call("unsendable_by_exit")
    assert await driven.call("echo", 1) == 1


async def test_a_result_at_the_limit_passes_and_one_byte_more_is_refused(driver: Driver, is_trusted: bool) -> None:
    driven = await driver.start(BASICS, is_trusted=is_trusted, memory_bytes=64 << 20)
    limit = driven.instance.ledger.limits.payload_bytes
    header = 5  # msgpack's bin 32
    assert len(await driven.call("large", limit - header)) == limit - header
    with pytest.raises(PayloadTooLarge) as caught:
        await driven.call("large", limit - header + 1)
    assert caught.value.details == {"size_bytes": limit + 1, "limit_bytes": limit, "which": "result"}
    assert await driven.call("echo", 1) == 1


async def test_arguments_at_the_limit_pass_and_one_byte_more_are_refused(driver: Driver) -> None:
    driven = await driver.start(BASICS, memory_bytes=64 << 20)
    limit = driven.instance.ledger.limits.payload_bytes
    header = len(values.encode_value(((b"x" * 70_000,), {}))) - 70_000
    with pytest.raises(PayloadTooLarge):
        driven.send("echo", b"x" * (limit - header + 1))
    assert await driven.call("size", b"x" * (limit - header)) == limit - header


async def test_a_call_after_the_end_is_refused_as_not_started(driver: Driver, is_trusted: bool) -> None:
    driven = await driver.start(BASICS, is_trusted=is_trusted)
    assert (await driven.instance.stop(1.0)).kind == "stopped"
    with pytest.raises(ExtensionCrashed):
        driven.send("echo")
    assert driven.instance.status().accepted == 0


async def test_the_method_table_tells_signatures_and_idempotence(driver: Driver, is_trusted: bool) -> None:
    source = """
    class Parent(Extension):
        @exported(idempotent=True)
        async def inherited(self, x: int) -> str:
            '''First line.

            More.'''
        @exported
        async def overridden(self): ...
    class Demo(Parent):
        async def overridden(self): ...
    """
    driven = await driver.start(source, is_trusted=is_trusted)
    assert set(driven.instance.methods) == {"inherited"}
    method = driven.instance.methods["inherited"]
    assert (method.idempotent, method.summary, method.signature) == (True, "First line.", "(x: int) -> str")
