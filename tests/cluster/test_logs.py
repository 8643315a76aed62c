"""What extensions and the runtime's own actors log, with a real runtime; and that no secret is in it."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ray_ext import errors
from ray_ext.client.runtime import Runtime
from ray_ext.control.log_reading import LogQuery, LogReader, LogRecord
from ray_ext.home import Home

from .conftest import MakeExtension

DEADLINE_S = 30.0

TOKEN = 'gh"p_\\t0ken/ü+with=everything'
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG\n9w0BAQEFAASCBKcwggSj\n-----END PRIVATE KEY-----\n"
PIN = 90_417_355
CONFIGURATION: dict[str, Any] = {
    "token": TOKEN, "pin": PIN, "accounts": [{"name": "ann", "password": "ann's password"}],
    "key": KEY, "is_failing": False,
}  # fmt: skip
#: What no file may hold. The parts are those that every way of writing leaves as they are.
SECRETS = ("t0ken", "with=everything", str(PIN), "s password", "MIIEvQIBADANBgkqhkiG", "9w0BAQEFAASCBKcwggSj")

MANIFEST = """
[configuration]
type = "object"
[configuration.properties]
token = { type = "string", writeOnly = true }
pin = { type = "integer", writeOnly = true }
key = { type = "string", writeOnly = true }
is_failing = { type = "boolean" }
[configuration.properties.accounts]
type = "array"
[configuration.properties.accounts.items]
type = "object"
properties = { name = { type = "string" }, password = { type = "string", writeOnly = true } }
"""

CODE = """
import json
import logging
import os
import sys
import textwrap
import threading

from ray_ext import Extension, exported


class Probe(Extension):
    async def on_load(self):
        self.logger.info("loading with %s", dict(self.config))
        if self.config["is_failing"]:
            raise RuntimeError(f"refused with {self.config['token']} and {self.config['key']}")

    @exported
    async def leak(self):
        config = self.config
        token, key = config["token"], config["key"]
        for stream in (sys.stdout, sys.stderr):
            print(token, key, config["pin"], config["accounts"][0]["password"], file=stream)
            print(json.dumps(dict(config), default=list), repr(dict(config)), token.encode(), file=stream)
        os.write(1, token.encode() + b"\\n")
        logging.getLogger("client." + token).warning("%r", token)
        self.logger.error("wrapped:\\n%s", "\\n    ".join(textwrap.wrap(token, 7)))
        self.logger.error("indented:\\n%s", textwrap.indent(key, "    "))
        try:
            try:
                raise KeyError(token)
            except KeyError as error:
                raise ValueError(key) from error
        except ValueError:
            self.logger.exception("failed")
        threading.Thread(target=lambda: int(token), name=token).start()

    @exported
    async def crash(self):
        print("the last words are", self.config["token"], flush=True)
        sys.stderr.write("Fatal: " + self.config["key"])
        os._exit(7)
"""


@pytest.fixture(scope="module")
def leaky(runtime: Runtime, make_extension: MakeExtension) -> str:
    folder = make_extension("probe-leaky", code=CODE, manifest=MANIFEST)
    return runtime.install(folder, config=CONFIGURATION).id


def records(runtime: Runtime, **query: Any) -> list[LogRecord]:
    reader = LogReader(Home(runtime.home), LogQuery(**query))
    found = list(reader.past())
    assert reader.damaged == 0
    reader.close()
    return found


def logged(runtime: Runtime, is_it: Callable[[LogRecord], bool], **query: Any) -> list[LogRecord]:
    """The records up to the one that is waited for."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        found = records(runtime, **query)
        if any(map(is_it, found)):
            return found
        time.sleep(0.05)
    raise AssertionError(f"not logged: {[record.message for record in found][-20:]}")


def assert_no_secret(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        content = path.read_text(errors="replace")
        assert [secret for secret in SECRETS if secret in content] == [], path


async def test_no_secret_is_in_any_log_however_it_was_printed_or_logged(runtime: Runtime, leaky: str) -> None:
    await runtime.extension(leaky).leak()
    found = logged(runtime, lambda record: "invalid literal" in record.message, extensions=(leaky,))
    said = [record.message for record in found]
    assert "wrapped:\n<secret>" in said
    assert any(message.startswith("loading with") and "<secret>" in message for message in said)
    assert [record.logger for record in found if record.level == "WARNING"] == ["client.<secret>"]
    (failed,) = [record for record in found if record.message == "failed"]
    assert failed.traceback.count("<secret>") >= 2
    assert_no_secret(runtime.home / "logs")


async def test_the_end_of_a_crashed_instance_is_logged_on_both_sides_without_a_secret(
    runtime: Runtime, leaky: str
) -> None:
    before = runtime.show(leaky).generation
    assert before is not None
    with pytest.raises(errors.RayExtError):
        await runtime.extension(leaky).crash()
    assert await runtime.extension(leaky).leak() is None
    after = runtime.show(leaky).generation
    assert after is not None
    assert after > before
    mine = [record.message for record in records(runtime, extensions=(leaky,))]
    assert f"generation {before} ended: crashed (exit status 7)" in mine
    assert "the last words are <secret>" in mine
    system = logged(
        runtime, lambda record: record.message == f"{leaky} 1.0.0 is loaded as generation {after}", has_system=True
    )
    (gone,) = [r for r in system if r.message.startswith(f"{leaky} generation {before} is gone: crashed")]
    assert gone.level == "WARNING"
    assert_no_secret(runtime.home / "logs")


async def test_a_load_that_fails_with_a_secret_tells_nobody_the_secret(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    folder = make_extension("probe-refusing", code=CODE, manifest=MANIFEST)
    with pytest.raises(errors.LoadFailed, match="refused with <secret> and <secret>") as caught:
        runtime.install(folder, config={**CONFIGURATION, "is_failing": True})
    for text in (
        str(caught.value),
        json.dumps(caught.value.details),
        json.dumps([str(each) for each in runtime.audit()]),
    ):
        assert [secret for secret in SECRETS if secret in text] == []
    system = logged(runtime, lambda record: "failed and is undone" in record.message, has_system=True)
    (failed,) = [record for record in system if "probe-refusing" in record.message and "is undone" in record.message]
    assert "LoadFailed" in failed.traceback
    assert_no_secret(runtime.home / "logs")


async def test_operations_and_actors_are_in_the_systems_log(runtime: Runtime, leaky: str) -> None:
    runtime.unload(leaky)
    runtime.load(leaky)
    system = logged(runtime, lambda record: f"load {leaky}, has begun" in record.message, has_system=True)
    said = [(record.source, record.message) for record in system]
    assert any(source == "registry" and "with writer epoch" in message for source, message in said)
    assert any(source == "node-agent" and "has started" in message for source, message in said)
    begun = [message.split()[1].rstrip(",") for _, message in said if f"unload {leaky}, has begun" in message]
    assert begun
    assert ("registry", f"operation {begun[-1]} is done") in said


async def test_a_killed_registry_goes_on_in_the_same_log(runtime: Runtime) -> None:
    before = runtime.status()
    os.kill(before.registry_pid, signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE_S
    while (after := runtime.status()).registry_pid == before.registry_pid:
        assert time.monotonic() < deadline
    assert after.writer_epoch > before.writer_epoch
    started = f"process {after.registry_pid} with writer epoch {after.writer_epoch}"
    assert any(started in record.message for record in records(runtime, has_system=True))


async def test_logs_are_for_their_owner_alone(runtime: Runtime, leaky: str) -> None:
    for path in [runtime.home / "logs", *(runtime.home / "logs").rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
