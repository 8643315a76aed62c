"""How a guest's life ends: in order, by a signal, by a hang, by its own hand. And what its log holds afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from ray_ext.actors.spec import Exit
from ray_ext.errors import CallCancelled, ExtensionCrashed, OutcomeUnknown

from .conftest import DEADLINE_S, Driven, Driver, eventually

SOURCE = """
import warnings

class Demo(Extension):
    async def on_unload(self):
        (self.data_dir / "unloaded").touch()
        if (self.data_dir / "fail").exists(): raise ValueError("on_unload failed")
    @exported
    async def echo(self, value): return value
    @exported
    async def finish_when_told(self):
        while not (self.data_dir / "go").exists():
            await asyncio.sleep(0.01)
        return "finished"
    @exported
    async def forever(self): await asyncio.sleep(60)
    @exported
    def forever_in_thread(self):
        (self.data_dir / "thread").touch()
        time.sleep(60)
    @exported
    async def block(self):
        (self.data_dir / "blocking").touch()
        time.sleep(60)
    @exported
    async def exit_now(self, status: int):
        print("last words", flush=True)
        os._exit(status)
    @exported
    async def log_a_little(self):
        self.logger.info("informed")
        try:
            1 / 0
        except ZeroDivisionError:
            self.logger.exception("with trace")
        thread = threading.Thread(target=lambda: self.logger.info("from a thread"))
        thread.start()
    @exported
    async def speak(self):
        print("printed ü")
        print("to stderr", file=sys.stderr)
        os.write(1, b"bytes \\\\xff\\n")
        logging.getLogger("mine").warning("warned %d", 7)
        self.logger.info("informed")
        self.logger.debug("not shown")
        try:
            1 / 0
        except ZeroDivisionError:
            self.logger.exception("with trace")
        self.logger.info(Spiteful())
        self.logger.info("misfit %d", "x")
        self.logger.info("surrogate \\ud800")
        logging.getLogger("\\ud800").info("odd name")
        threading.Thread(target=lambda: self.logger.info("from a thread")).start()
        self.logger.info("m" * 100_000)

class Spiteful:
    def __str__(self): raise ValueError("no text")
    __repr__ = __str__
"""


async def ended(driven: Driven) -> Exit:
    async with asyncio.timeout(DEADLINE_S):
        return await driven.instance.exit


async def outcomes(*calls: asyncio.Future[Any]) -> list[Any]:
    async with asyncio.timeout(DEADLINE_S):
        return await asyncio.gather(*calls, return_exceptions=True)


# ---- killed


async def test_after_a_kill_started_calls_are_unknown_and_the_others_did_not_run(driver: Driver) -> None:
    driven = await driver.start(SOURCE)
    _, sleeping = driven.send("forever")
    _, in_thread = driven.send("forever_in_thread")
    await eventually((driven.data / "thread").exists)
    _, blocking = driven.send("block")
    await eventually((driven.data / "blocking").exists)
    unstarted = [driven.send("echo", number)[1] for number in range(5)]
    driven.instance.flush()
    os.kill(driven.pid, signal.SIGKILL)
    gone = await ended(driven)
    started = await outcomes(sleeping, in_thread, blocking)
    assert [type(error) for error in started] == [OutcomeUnknown] * 3
    assert {type(error) for error in await outcomes(*unstarted)} == {ExtensionCrashed}
    assert gone == Exit(kind="crashed", cause="killed by SIGKILL", unknown_calls=3, unstarted_calls=5)
    assert started[0].details["cause"] == "killed by SIGKILL"
    status = driven.instance.status()
    assert (status.accepted, status.failed, status.unknown, status.pending) == (8, 5, 3, 0)


async def test_a_result_that_was_written_before_the_kill_is_still_delivered(driver: Driver) -> None:
    driven = await driver.start(SOURCE + """
    @exported
    async def answer_and_block(self): ...
class Late(Demo):
    @exported
    async def answer_and_block(self):
        asyncio.get_running_loop().call_later(0, lambda: ((self.data_dir / "blocking").touch(), time.sleep(60)))
        return "done"
""".replace("    @exported\n    async def answer_and_block(self): ...\n", "", 1), entry_class="Late")  # fmt: skip
    _, outcome = driven.send("answer_and_block")
    driven.instance.flush()
    end = asyncio.get_running_loop().time() + DEADLINE_S
    while not (driven.data / "blocking").exists():  # this loop must not run: the result stays in the socket
        assert asyncio.get_running_loop().time() < end
    os.kill(driven.pid, signal.SIGKILL)
    assert await outcomes(outcome) == ["done"]
    assert await ended(driven) == Exit(kind="crashed", cause="killed by SIGKILL")


@pytest.mark.parametrize("status", [0, 3])
async def test_a_guest_that_exits_by_itself_has_crashed_with_that_status(driver: Driver, status: int) -> None:
    driven = await driver.start(SOURCE)
    _, outcome = driven.send("exit_now", status)
    gone = await ended(driven)
    assert gone == Exit(kind="crashed", cause=f"exit status {status}", unknown_calls=1)
    assert isinstance((await outcomes(outcome))[0], OutcomeUnknown)
    assert "last words" in [record["message"] for record in driven.log()]
    last = driven.log()[-1]
    assert (last["logger"], last["level"]) == ("ray_ext", "ERROR")
    assert f"crashed (exit status {status})" in last["message"]


async def test_a_guest_that_is_cut_off_within_a_frame_has_crashed_and_broke_no_protocol(driver: Driver) -> None:
    driven = await driver.start("""
    import struct
    class Demo(Extension):
        @exported
        async def die_while_writing(self):
            os.write(channel(), struct.pack("<II", 10, 1000) + b"half")
            os._exit(5)
    """)
    _, outcome = driven.send("die_while_writing")
    assert await ended(driven) == Exit(kind="crashed", cause="exit status 5", unknown_calls=1)
    assert isinstance((await outcomes(outcome))[0], OutcomeUnknown)


# ---- hung


async def test_a_guest_whose_heartbeat_stops_is_ended_as_hung(driver: Driver) -> None:
    driven = await driver.start(SOURCE, hang_after_s=1.0)
    _, outcome = driven.send("forever")
    assert await driven.call("echo", 1) == 1
    os.kill(driven.pid, signal.SIGSTOP)
    gone = await ended(driven)
    assert (gone.kind, gone.unknown_calls) == ("hung", 1)
    assert "heartbeat was silent for" in gone.cause
    assert isinstance((await outcomes(outcome))[0], OutcomeUnknown)


async def test_a_guest_whose_event_loop_is_blocked_still_beats(driver: Driver) -> None:
    driven = await driver.start(SOURCE, hang_after_s=1.0)
    driven.send("block")
    await eventually((driven.data / "blocking").exists)

    def has_lag() -> bool:
        lag = driven.instance.status().loop_lag_s
        return lag is not None and lag > 1.5

    await eventually(has_lag)
    beat_age = driven.instance.status().beat_age_s
    assert beat_age is not None
    assert beat_age < 1.0
    assert not driven.instance.exit.done()
    os.kill(driven.pid, signal.SIGKILL)
    await ended(driven)


# ---- stopped


async def test_a_stop_lets_running_calls_finish_and_then_unloads(driver: Driver, is_trusted: bool) -> None:
    driven = await driver.start(SOURCE, is_trusted=is_trusted)
    _, outcome = driven.send("finish_when_told")
    stopping = asyncio.create_task(driven.instance.stop(10.0))
    await asyncio.sleep(0)
    assert not (driven.data / "unloaded").exists()
    (driven.data / "go").touch()
    assert (await stopping).kind == "stopped"
    assert await outcomes(outcome) == ["finished"]
    assert (driven.data / "unloaded").exists()
    assert driven.log()[-1]["level"] == "INFO"


async def test_a_stop_cancels_what_outlasts_its_grace_and_still_unloads(driver: Driver, is_trusted: bool) -> None:
    driven = await driver.start(SOURCE, is_trusted=is_trusted)
    _, outcome = driven.send("forever")
    gone = await driven.instance.stop(0.1)
    assert (gone.kind, gone.unknown_calls) == ("stopped", 0)
    assert isinstance((await outcomes(outcome))[0], CallCancelled)
    assert (driven.data / "unloaded").exists()


async def test_an_on_unload_that_raises_is_logged_and_the_stop_succeeds(driver: Driver, is_trusted: bool) -> None:
    driven = await driver.start(SOURCE, is_trusted=is_trusted)
    (driven.data / "fail").touch()
    assert (await driven.instance.stop(1.0)).kind == "stopped"
    (record,) = [record for record in driven.log() if "on_unload raised ValueError" in record["message"]]
    assert record["level"] == "ERROR"
    assert "on_unload failed" in record["traceback"]


async def test_stopping_twice_says_the_same(driver: Driver) -> None:
    driven = await driver.start(SOURCE)
    first = await driven.instance.stop(1.0)
    assert await driven.instance.stop(1.0) == first


# ---- logs


async def test_what_an_extension_prints_and_logs_is_in_its_log(driver: Driver) -> None:
    driven = await driver.start(SOURCE)
    await driven.call("speak")
    await driven.instance.stop(1.0)
    records = driven.log()
    found = {(record["logger"], record["level"], record["message"]) for record in records}
    assert {
        ("stdout", "INFO", "printed ü"), ("stderr", "INFO", "to stderr"), ("stdout", "INFO", r"bytes \xff"),
        ("mine", "WARNING", "warned 7"), ("demo", "INFO", "informed"), ("demo", "ERROR", "with trace"),
        ("demo", "INFO", "from a thread"), ("demo", "INFO", r"surrogate \ud800"), (r"\ud800", "INFO", "odd name"),
    } <= found  # fmt: skip
    assert not any(record["message"] == "not shown" for record in records)
    (traced,) = [record for record in records if record["message"] == "with trace"]
    assert "ZeroDivisionError" in traced["traceback"]
    assert sum("could not be formatted" in record["message"] for record in records) == 2
    assert max(len(record["message"]) for record in records) == 32_000
    assert all((record["extension"], record["generation"]) == ("demo", 1) for record in records)


async def test_what_a_trusted_extension_logs_is_in_its_log(driver: Driver) -> None:
    driven = await driver.start(SOURCE, is_trusted=True)
    await driven.call("log_a_little")
    await driven.instance.stop(1.0)
    messages = [record["message"] for record in driven.log()]
    assert {"informed", "with trace", "from a thread"} <= set(messages)
