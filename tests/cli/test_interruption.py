"""Ctrl-C: what is at work is cancelled, and what is left is said."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_ext.client.runtime import Runtime
from ray_ext.control.remote import RemoteRuntime, remote_runtime
from tests.cli.command_line import Cli, await_true, states, write_project
from tests.cli.terminal import Terminal
from tests.cli.test_terminal import WAITING


@pytest.fixture(autouse=True)
def nothing_left(cli: Cli) -> Iterator[None]:
    yield
    cli.end_started()


def interrupt(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGINT)


def installing(cli: Cli, folder: Path, extension: str, *more: str) -> subprocess.Popen[str]:
    """An install at work: its extension waits, in ``on_load``, for a file ``go`` in its data directory."""
    process = cli.start("install", write_project(folder, extension, code=WAITING), *more)
    await_true(lambda: (cli.home.data_dir(extension) / "here").exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return process


def test_the_first_cancels_the_operation_and_says_what_was_undone(cli: Cli, runtime: Runtime, tmp_path: Path) -> None:
    process = installing(cli, tmp_path, "stopped")
    interrupt(process)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), said
    assert re.search(r"^Cancelled: undone: .*install stopped", said.splitlines()[-1]), said
    assert "Traceback" not in said
    assert states(runtime, "stopped") == ["not installed"]


def test_with_json_it_is_one_document(cli: Cli, runtime: Runtime, tmp_path: Path) -> None:
    process = installing(cli, tmp_path, "stopped2", "--json")
    interrupt(process)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    document = json.loads(said)
    assert (document["kind"], document["data"]["code"]) == ("error", "operation-cancelled")
    assert document["data"]["details"]["undone"]
    assert states(runtime, "stopped2") == ["not installed"]


def test_on_a_terminal_the_step_is_marked_and_the_cursor_is_back(cli: Cli, tmp_path: Path) -> None:
    folder = write_project(tmp_path, "stopped3", code=WAITING)
    with Terminal(cli, "install", folder) as terminal:
        terminal.await_text("[2/2] load stopped3")
        terminal.interrupt()
        assert terminal.end() == 130
    assert "✗ [2/2] load stopped3" in terminal.screen
    assert terminal.lines[-1].startswith("Cancelled: undone: ")
    assert terminal.said.rindex(b"\x1b[?25h") > terminal.said.rindex(b"\x1b[?25l")


def test_a_second_leaves_at_once_and_says_how_to_see_the_end(cli: Cli, tmp_path: Path) -> None:
    process = installing(cli, tmp_path, "left")
    with remote_runtime_of(cli) as remote:
        control = remote.control().pid
    os.kill(control, signal.SIGSTOP)
    try:
        interrupt(process)
        assert process.stderr is not None
        while "Ctrl-C again" not in process.stderr.readline():
            assert process.poll() is None
        interrupt(process)
        _, said = process.communicate(timeout=20)
    finally:
        os.kill(control, signal.SIGCONT)
    assert process.returncode == 130
    found = re.search(r"ray-ext operations wait ([0-9a-f]+)", said)
    assert found, said
    (cli.home.data_dir("left") / "go").touch()
    assert cli.run("operations", "wait", found[1]).returncode in (0, 1)
    assert cli.data("operation", "operations", "show", found[1])["state"] in ("done", "failed")


def test_a_call_is_cancelled_in_the_extension(cli: Cli, runtime: Runtime, tmp_path: Path) -> None:
    code = """
        @exported
        async def stay(self) -> None:
            import asyncio
            (self.data_dir / "called").touch()
            try:
                await asyncio.Event().wait()
            finally:
                (self.data_dir / "ended").touch()
    """
    runtime.install(write_project(tmp_path, "staying", code=code))
    data = cli.home.data_dir("staying")
    process = cli.start("call", "staying", "stay")
    await_true(lambda: (data / "called").exists() or process.poll() is not None)
    interrupt(process)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out, said) == (130, "", "Cancelled: the call of staying.stay.\n")
    await_true((data / "ended").exists)


def test_who_waits_for_an_operation_may_stop_waiting_and_another_may_cancel_it(
    cli: Cli, runtime: Runtime, tmp_path: Path
) -> None:
    process = installing(cli, tmp_path, "waited")
    running = [each for each in cli.data("operations", "operations", "list") if each["state"] == "running"]
    operation = running[0]["id"]
    assert (running[0]["verb"], running[0]["extension"]) == ("install", "waited")

    waiting = cli.start("operations", "wait", operation)
    assert waiting.stderr is not None
    assert "install waited" in waiting.stderr.readline()
    interrupt(waiting)
    _, said = waiting.communicate(timeout=60)
    assert (waiting.returncode, f"ray-ext operations wait {operation}" in said) == (130, True), said
    assert cli.data("operation", "operations", "show", operation)["state"] == "running"

    assert "Cancelled: undone: " in cli.note("operations", "cancel", operation)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, "operation-cancelled" in said) == (1, True), said
    assert "operation-cancelled" in cli.refused(1, "operations", "wait", operation)
    assert "is over (failed)" in cli.note("operations", "cancel", operation)
    assert states(runtime, "waited") == ["not installed"]


def remote_runtime_of(cli: Cli) -> RemoteRuntime:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_EXT_HOME", str(cli.home.root))
        return remote_runtime()
