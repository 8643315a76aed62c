"""What an extension's own exceptions do: to their caller everything, to its guest nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ray_ext.errors import ExtensionCrashed, ExtensionError, LoadFailed, RayExtError
from ray_ext.wire.frames import ENVELOPE_LIMIT
from ray_ext.wire.messages import ErrorParts, encode_message

from .conftest import DEADLINE_S, Driver

FAILURES = """
class Demo(Extension):
    @exported
    async def echo(self, value): return value
    @exported
    async def fail(self, kind: str): raise make(kind)
    @exported
    def fail_in_thread(self, kind: str): raise make(kind)
    @exported
    async def chain(self, length: int):
        try:
            if length:
                await self.chain(length - 1)
            raise KeyError("the root")
        except Exception as error:
            raise RuntimeError(f"level {length}") from error
    @exported
    async def circle(self):
        a, b = ValueError("a"), ValueError("b")
        a.__cause__, b.__cause__ = b, a
        raise a
    @exported
    async def convert(self, value: Spiteful): return value
    @exported
    async def deep(self): return self.deep_call()
    def deep_call(self): return self.deep_call()
    @exported
    async def cancels_itself(self):
        asyncio.current_task().cancel()
        await asyncio.sleep(20)
    @exported
    async def raises_cancelled(self): raise asyncio.CancelledError("mine")

class StrRaises(Exception):
    def __str__(self): raise ValueError("no text")
    __repr__ = __str__
class StrExits(Exception):
    def __str__(self): raise SystemExit(1)
    __repr__ = __str__
class StrIsNone(Exception):
    def __str__(self): return None
    __repr__ = __str__
class Text(str):
    def __str__(self): raise SystemExit(2)
    def encode(self, *args): raise SystemExit(2)
class StrIsSubclass(Exception):
    def __str__(self): return Text("sub")
class CauseExits(Exception):
    @property
    def __cause__(self): raise SystemExit(3)
class TraceExits(Exception):
    @property
    def __traceback__(self): raise SystemExit(3)
class Meta(type):
    def __getattribute__(cls, name):
        if name in ("__module__", "__qualname__", "__name__"):
            raise SystemExit(4)
        return super().__getattribute__(name)
class MetaExits(Exception, metaclass=Meta): pass

@dataclasses.dataclass
class Spiteful:
    x: int
    def __post_init__(self):
        if self.x == 0: raise ValueError("\\ud800 refused")
        if self.x == 1: raise StrExits()
        if self.x == 2: raise SystemExit(5)

def make(kind):
    if kind == "huge": return ValueError("h" * 50_000_000)
    if kind == "surrogate": return ValueError("\\ud800")
    if kind == "long name": return type("N" * 1_000_000, (Exception,), {})("x")
    if kind == "bad name": return type("\\ud800", (Exception,), {"__module__": "m"})("x")
    if kind == "args": return ValueError(object(), {1: 2})
    if kind == "group": return ExceptionGroup("several", [ValueError("one"), KeyError("two")])
    return {**vars(__import__("builtins")), **globals()}[kind]("text")
"""

KINDS = [
    "ValueError", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "StopAsyncIteration",
    "BaseException", "TimeoutError", "MemoryError", "RecursionError", "StrRaises", "StrExits", "StrIsNone",
    "StrIsSubclass", "CauseExits", "TraceExits", "MetaExits", "huge", "surrogate", "long name", "bad name", "args",
    "group",
]  # fmt: skip


async def test_whatever_a_method_raises_is_its_own_failure_and_the_guest_lives_on(
    driver: Driver, is_trusted: bool
) -> None:
    driven = await driver.start(FAILURES, is_trusted=is_trusted, memory_bytes=512 << 20)
    for method in ("fail", "fail_in_thread"):
        for kind in KINDS:
            with pytest.raises(ExtensionError) as caught:
                await driven.call(method, kind, timeout_s=10.0)
            error = caught.value
            assert len(encode_message(ErrorParts.of(error))) < ENVELOPE_LIMIT, kind
            assert str(error).startswith(f"{method} raised"), kind
            assert isinstance(error.details["message"], str), kind
            assert error.where == "demo"
            assert await driven.call("echo", kind) == kind
    assert not driven.instance.exit.done()
    assert driven.instance.status().failed == 2 * len(KINDS)


async def test_an_error_carries_type_message_and_the_traceback_of_the_extensions_code(
    driver: Driver, is_trusted: bool
) -> None:
    driven = await driver.start(FAILURES, is_trusted=is_trusted)
    with pytest.raises(ExtensionError) as caught:
        await driven.call("fail", "ValueError")
    details = caught.value.details
    assert (details["type"], details["message"]) == ("ValueError", "text")
    assert "in fail" in caught.value.traceback_text
    assert "raise make(kind)" in caught.value.traceback_text


async def test_a_chain_of_exceptions_is_told_from_the_last_to_the_first_and_bounded(driver: Driver) -> None:
    driven = await driver.start(FAILURES)
    with pytest.raises(ExtensionError) as caught:
        await driven.call("chain", 2)
    text = caught.value.traceback_text
    assert (
        text.index("RuntimeError: level 2") < text.index("RuntimeError: level 1") < text.index("KeyError: 'the root'")
    )
    with pytest.raises(ExtensionError) as caught:
        await driven.call("chain", 200)
    assert len(caught.value.traceback_text) < 30_000
    with pytest.raises(ExtensionError) as caught:
        await driven.call("circle")
    assert caught.value.traceback_text.count("ValueError: a") == 1


@pytest.mark.parametrize(
    ("value", "code"), [(0, "argument-mismatch"), (1, "argument-mismatch"), (2, "argument-mismatch")]
)
async def test_a_type_that_misbehaves_while_arguments_are_converted_fails_its_call_only(
    driver: Driver, value: int, code: str, is_trusted: bool
) -> None:
    driven = await driver.start(FAILURES, is_trusted=is_trusted)
    with pytest.raises(RayExtError) as caught:
        await driven.call("convert", {"x": value}, timeout_s=5.0)
    assert caught.value.code == code
    assert await driven.call("convert", {"x": 9}) == {"x": 9}


async def test_endless_recursion_fails_its_call_only(driver: Driver, is_trusted: bool) -> None:
    driven = await driver.start(FAILURES, is_trusted=is_trusted)
    with pytest.raises(ExtensionError, match="RecursionError"):
        await driven.call("deep")
    assert await driven.call("echo", 1) == 1


@pytest.mark.parametrize("method", ["cancels_itself", "raises_cancelled"])
async def test_a_method_that_cancels_itself_has_failed_and_was_not_cancelled(driver: Driver, method: str) -> None:
    driven = await driver.start(FAILURES)
    with pytest.raises(ExtensionError, match="CancelledError"):
        await driven.call(method)


# ---- loading


_OK = """
    @exported
    async def echo(self, value): return value
"""
LOADS: list[tuple[str, str, dict[str, Any]]] = [
    ("import", "import no_such_module_anywhere", {}),
    ("import", "raise SystemExit(3)", {}),
    ("import", "def broken(:", {}),
    ("import", "class Other(Extension):" + _OK, {}),
    ("import", "class Demo:" + _OK, {}),
    ("import", "Demo = 3", {}),
    ("import", "", {"entry_point": "no_such_module_anywhere:Demo"}),
    ("import", "", {"entry_point": "no_colon_here"}),
    ("construct", "class Demo(Extension):\n    def __init__(self): raise KeyboardInterrupt" + _OK, {}),
    ("construct", "class Demo(Extension):\n    def __init__(self, needed): ..." + _OK, {}),
    ("construct", "class Demo(Extension):\n    def __init__(self): self.config" + _OK, {}),
    ("construct", "class Demo(Extension):\n    async def echo(self): ...", {}),
    ("on_load", "class Demo(Extension):\n    async def on_load(self): 1 / 0" + _OK, {}),
    ("on_load", "class Demo(Extension):\n    async def on_load(self): sys.exit('no')" + _OK, {}),
    ("on_load", "class Demo(Extension):\n    async def on_load(self): raise asyncio.CancelledError" + _OK, {}),
    ("on_load", "class Demo(Extension):\n    def on_load(self): return 5" + _OK, {}),
]


@pytest.mark.parametrize(("step", "body", "options"), LOADS)
async def test_a_load_that_fails_names_its_step_and_leaves_no_guest(
    driver: Driver, step: str, body: str, options: dict[str, Any], is_trusted: bool
) -> None:
    driven = driver.make(body, is_trusted=is_trusted, **options)
    with pytest.raises(LoadFailed) as caught:
        await driven.instance.start()
    assert caught.value.details["step"] == step
    assert caught.value.where == "demo"
    async with asyncio.timeout(DEADLINE_S):
        gone = await driven.instance.exit
    assert gone.kind == "crashed"
    assert gone.cause == caught.value.what


async def test_a_load_that_takes_too_long_is_ended(driver: Driver, is_trusted: bool) -> None:
    body = "class Demo(Extension):\n    async def on_load(self): await asyncio.sleep(60)" + _OK
    driven = driver.make(body, is_trusted=is_trusted, load_timeout_s=0.5)
    with pytest.raises(LoadFailed, match=r"within 0\.5 s"):
        await driven.instance.start()
    async with asyncio.timeout(DEADLINE_S):
        assert (await driven.instance.exit).kind == "crashed"


async def test_an_import_that_blocks_is_ended_by_force(driver: Driver) -> None:
    driven = driver.make("time.sleep(60)\nclass Demo(Extension):" + _OK, load_timeout_s=0.5)
    with pytest.raises(LoadFailed):
        await driven.instance.start()
    async with asyncio.timeout(DEADLINE_S):
        assert (await driven.instance.exit).kind == "crashed"


async def test_a_guest_that_exits_while_it_loads_is_reported_with_its_status(driver: Driver) -> None:
    driven = driver.make("os._exit(7)")
    with pytest.raises(ExtensionCrashed, match="exit status 7"):
        await driven.instance.start()
    assert (await driven.instance.exit).cause == "exit status 7"


async def test_on_load_sees_its_configuration_environment_and_directory(driver: Driver, is_trusted: bool) -> None:
    body = """
    class Demo(Extension):
        async def on_load(self):
            (self.data_dir / "here").write_text("x")
            self.seen = [dict(self.config), os.environ["DRIVEN"], self.context.generation, self.get_metadata().version]
            try:
                self.config["k"] = 2
            except TypeError:
                self.seen.append("read-only")
        @exported
        async def tell(self): return self.seen
    """
    env = {"DRIVEN": "yes"}
    driven = await driver.start(body, is_trusted=is_trusted, config={"k": [1]}, env_vars=env)
    assert await driven.call("tell") == [{"k": [1]}, "yes", 1, "1.0", "read-only"]
    assert (driven.data / "here").read_text() == "x"


@pytest.mark.parametrize("is_trusted", [False, True], ids=["strict", "trusted"])
async def test_a_data_directory_that_cannot_be_made_refuses_the_load_with_the_cause(
    driver: Driver, is_trusted: bool
) -> None:
    driven = driver.make(FAILURES, is_trusted=is_trusted)
    driven.data.write_text("in the way")
    with pytest.raises(LoadFailed) as caught:
        await driven.instance.start()
    assert caught.value.details["step"] == "spawn"
    assert (await driven.instance.exit).kind == "crashed"
