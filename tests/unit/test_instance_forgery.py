"""A guest that writes onto the channel what it likes ends itself, and speaks for nobody else."""

from __future__ import annotations

import asyncio

import pytest

from ray_ext.errors import ExtensionError, OutcomeUnknown

from .conftest import DEADLINE_S, Driver, eventually

SOURCE = """
import struct, pickle
from ray_ext.wire.frames import pack_frame
from ray_ext.wire.messages import *
from ray_ext.wire.messages import ErrorParts, encode_message

def frame(message, body=b""): return pack_frame(encode_message(message), body)

FORGED = {
    "junk": lambda: b"\\xff" * 64,
    "empty envelope": lambda: pack_frame(b""),
    "large envelope": lambda: struct.pack("<II", 256 * 1024 + 1, 0),
    "large body": lambda: struct.pack("<II", 1, 2 ** 32 - 1),
    "no message": lambda: pack_frame(b"\\xc1\\xc1"),
    "host's message": lambda: frame(Shutdown(1.0)),
    "unknown result": lambda: frame(Result(999), b"\\xc0"),
    "sequence zero": lambda: frame(Result(0), b"\\xc0"),
    "unknown failure": lambda: frame(Failure(999, ErrorParts("extension-error", "x"))),
    "second result": lambda: frame(Result(1), b"\\xc0") * 2,
    "second hello": lambda: frame(Hello([1], "0", "3")),
    "second loaded": lambda: frame(Loaded([])),
    "late refusal": lambda: frame(LoadRefused(ErrorParts("load-failed", "x"))),
    "early bye": lambda: frame(Bye()),
    "pickle": lambda: frame(Result(1, 1), pickle.dumps(1)),
    "speaks for its host": lambda: frame(Failure(1, ErrorParts("overloaded", "x", "", "", {"retry_after_s": 9.0}))),
    "own result": lambda: frame(Result(1), b"\\x07"),
    "odd log": lambda: b"".join(frame(Log(t, 2 ** 60, "l", "odd")) for t in (1e300, float("nan"), float("inf"), -1e18)),
}

class Demo(Extension):
    @exported
    async def forge(self, kind: str):
        os.write(channel(), FORGED[kind]())
        time.sleep(60)
    @exported
    async def forge_and_go_on(self, kind: str): os.write(channel(), FORGED[kind]())
    @exported
    async def close_channel(self):
        os.close(channel())
        time.sleep(60)
"""


@pytest.mark.parametrize(
    "kind",
    [
        "junk", "empty envelope", "large envelope", "large body", "no message", "host's message", "unknown result",
        "sequence zero", "unknown failure", "second hello", "second loaded", "late refusal", "early bye", "pickle",
    ],
)  # fmt: skip
async def test_a_guest_that_breaks_the_protocol_is_ended(driver: Driver, kind: str) -> None:
    driven = await driver.start(SOURCE)
    _, outcome = driven.send("forge", kind)
    async with asyncio.timeout(DEADLINE_S):
        gone = await driven.instance.exit
        with pytest.raises(OutcomeUnknown):
            await outcome
    assert gone.kind == "protocol-violation"
    assert "it broke the protocol" in gone.cause
    assert gone.unknown_calls == 1
    status = driven.instance.status()
    assert (status.accepted, status.completed, status.failed, status.unknown) == (1, 0, 0, 1)


async def test_a_call_that_is_answered_twice_keeps_its_first_outcome(driver: Driver) -> None:
    driven = await driver.start(SOURCE)
    assert await driven.call("forge", "second result") is None
    async with asyncio.timeout(DEADLINE_S):
        assert (await driven.instance.exit).kind == "protocol-violation"


async def test_a_guest_cannot_speak_with_its_hosts_errors(driver: Driver) -> None:
    driven = await driver.start(SOURCE)
    with pytest.raises(ExtensionError) as caught:
        await driven.call("forge", "speaks for its host")
    assert caught.value.code == "extension-error"


async def test_a_guest_may_answer_its_own_call_as_it_likes(driver: Driver) -> None:
    driven = await driver.start(SOURCE)
    assert await driven.call("forge", "own result") == 7


async def test_a_log_record_with_impossible_figures_is_written_nevertheless(driver: Driver) -> None:
    driven = await driver.start(SOURCE)
    await driven.call("forge_and_go_on", "odd log")
    await eventually(lambda: sum(record["message"] == "odd" for record in driven.log()) == 4)
    assert not driven.instance.exit.done()


async def test_a_guest_that_closes_its_channel_is_ended(driver: Driver) -> None:
    driven = await driver.start(SOURCE)
    _, outcome = driven.send("close_channel")
    async with asyncio.timeout(DEADLINE_S):
        gone = await driven.instance.exit
        with pytest.raises(OutcomeUnknown):
            await outcome
    assert gone.kind == "crashed"
