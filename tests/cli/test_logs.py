"""``ray-ext logs``, on files without a runtime."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from ray_ext.actors import rotating_file
from ray_ext.actors.logbook import Logbook
from ray_ext.home import Home
from tests.cli.command_line import Cli
from tests.control.watching import free_port

DEADLINE_S = 30.0


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    home = tmp_path / "home"
    Home(home).ensure()
    return Cli(home, {"NO_COLOR": ""})


def book(cli: Cli, extension: str, generation: int = 1) -> Logbook:
    return Logbook.of_instance(str(cli.home.log_file(extension)), extension, generation)


def write(cli: Cli, extension: str, message: str, *, at: float = 0.0, level: int = 20, trace: str = "") -> None:
    book(cli, extension).write(at, level, "mine", message, trace)


def actor(cli: Cli, name: str, message: str, at: float = 0.0) -> None:
    Logbook(str(cli.home.system_log_file(name)), {"actor": name}).write(at, 20, "ray_ext", message, "")


# ---- once


def test_everything_is_printed_in_the_order_of_time_with_who_said_it(cli: Cli) -> None:
    write(cli, "alpha", "first", at=1.0)
    actor(cli, "registry", "second", at=2.0)
    write(cli, "beta", "third", at=3.25, level=40, trace="Trace\n  line\nValueError: x")
    assert cli.ok("logs").splitlines() == [
        "1970-01-01T00:00:01.000Z INFO    alpha#1 mine: first",
        "1970-01-01T00:00:02.000Z INFO    registry ray_ext: second",
        "1970-01-01T00:00:03.250Z ERROR   beta#1 mine: third",
        "    Trace",
        "      line",
        "    ValueError: x",
    ]
    assert cli.ok("logs", "beta", "alpha", "--level", "info", "-n", "1").startswith("1970-01-01T00:00:03.250Z")
    assert cli.ok("logs", "--system").splitlines() == ["1970-01-01T00:00:02.000Z INFO    registry ray_ext: second"]
    assert len(cli.ok("logs", "--system", "alpha").splitlines()) == 2


def test_json_is_a_record_a_line_that_says_its_shape(cli: Cli) -> None:
    write(cli, "alpha", "line\nü\x9b", at=1.0, trace="trace")
    actor(cli, "registry", "hello", at=2.0)
    printed = cli.ok("logs", "--json")
    assert printed.isascii()
    assert [json.loads(line) for line in printed.splitlines()] == [
        {
            "shape": 1, "time": "1970-01-01T00:00:01.000+00:00", "level": "INFO", "extension": "alpha", "generation": 1,
            "logger": "mine", "message": "line\nü\x9b", "traceback": "trace",
        },
        {
            "shape": 1, "time": "1970-01-01T00:00:02.000+00:00", "level": "INFO", "actor": "registry",
            "logger": "ray_ext", "message": "hello",
        },
    ]  # fmt: skip


def test_since_is_a_duration_or_a_time(cli: Cli) -> None:
    now = time.time()
    for minutes in (90, 7, 3):
        write(cli, "alpha", f"{minutes} minutes ago", at=now - 60 * minutes)
    for since, count in (("5m", 1), ("10m", 2), ("1h", 2), ("2h", 3), ("1h31m", 3), ("90s", 0), ("2001-01-01", 3)):
        assert len(cli.ok("logs", "--since", since).splitlines()) == count, since


def test_the_last_hundred_are_printed_unless_one_says_how_many_or_since_when(cli: Cli) -> None:
    alpha = book(cli, "alpha")
    for number in range(150):
        alpha.write(1.0 + number, 20, "mine", str(number), "")
    assert len(cli.ok("logs").splitlines()) == 100
    assert len(cli.ok("logs", "-n", "120").splitlines()) == 120
    assert len(cli.ok("logs", "--since", "1970-01-01T00:00:11Z").splitlines()) == 140
    assert len(cli.ok("logs", "--since", "1970-01-01T00:00:11Z", "-n", "3").splitlines()) == 3


def test_nothing_that_is_logged_drives_the_terminal_or_looks_like_another_record(cli: Cli) -> None:
    hostile = "\x1b[2J\x1b]0;title\x07\x9b31m\u202e\u2066\u200b\r\b\x00\x7f"
    write(cli, "alpha", hostile + "\n1970-01-01T00:00:01.000Z ERROR   registry x: forged", trace=hostile)
    path = cli.home.log_file("alpha")
    # One that was written by something else.
    raw = path.read_text().replace("\\u202e", "\u202e").replace('"mine"', '"\u2067mine"')
    path.write_text(raw)
    printed = cli.ok("logs")
    assert all(c.isprintable() for c in printed.replace("\n", ""))
    first, forged, trace = printed.splitlines()
    assert first.endswith(r"\u2067mine: \x1b[2J\x1b]0;title\x07\x9b31m\u202e\u2066\u200b\r\x08\x00\x7f")
    assert forged == "    1970-01-01T00:00:01.000Z ERROR   registry x: forged"
    assert trace.startswith(r"    \x1b[2J")
    assert cli.ok("logs", "--json").isascii()


def test_damaged_lines_are_left_out_and_told_of_beside_the_data(cli: Cli) -> None:
    write(cli, "alpha", "fine")
    with cli.home.log_file("alpha").open("a") as file:
        file.write("{\n")
    done = cli.run("logs")
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "1 damaged line was left out\n")


def test_an_extension_that_has_no_log_is_an_error_that_lists_those_that_have(cli: Cli) -> None:
    assert "no extension was loaded in this state home yet" in cli.refused(1, "logs", "nobody")
    write(cli, "alpha", "x")
    write(cli, "beta", "x")
    for arguments in (["nobody"], ["alpha", "nobody"], ["../alpha"], ["-f", "nobody"]):
        said = cli.refused(1, "logs", *arguments)
        assert "there is no log of" in said
        assert "there are logs of: alpha, beta" in said
        assert "extension-not-found" in said


@pytest.mark.parametrize(
    "arguments",
    [["--since", "soon"], ["--since", ""], ["--since", "5"], ["--level", "loud"], ["-n", "-1"]],
    ids=" ".join,
)
def test_wrong_usage_is_refused(cli: Cli, arguments: list[str]) -> None:
    assert arguments[0] in cli.refused(2, "logs", *arguments)


@pytest.mark.parametrize(("no_color", "is_coloured"), [("", True), ("1", False)])
def test_levels_have_colours_on_a_terminal_unless_the_user_wants_none(
    cli: Cli, no_color: str, is_coloured: bool
) -> None:
    write(cli, "alpha", "hello", level=40)
    ours, theirs = pty.openpty()
    environment = {**cli.environment, "NO_COLOR": no_color, "TERM": "xterm"}
    with subprocess.Popen(cli.command("logs"), env=environment, stdout=theirs):
        os.close(theirs)
        printed = b""
        while b"hello" not in printed:
            printed += os.read(ours, 4096)
    os.close(ours)
    assert (b"\x1b[31mERROR" in printed) is is_coloured
    assert (b"\x1b" in printed) is is_coloured
    assert "\x1b" not in cli.ok("logs")


# ---- following


@contextmanager
def following(cli: Cli, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        cli.command("logs", "-f", *arguments),
        env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def out(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def test_following_prints_what_was_and_what_comes_across_rotations_until_ctrl_c(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotating_file, "_FILE_BYTES", 20_000)
    write(cli, "alpha", "before")
    with following(cli, "alpha", "--json") as process:
        assert json.loads(out(process).readline())["message"] == "before"
        alpha = book(cli, "alpha", 2)
        for burst in range(20):
            for number in range(100):
                alpha.note(20, f"{burst} {number}")
            # It follows in steps of 0.2 s: no further than three files may be written meanwhile.
            said = [json.loads(out(process).readline())["message"] for _ in range(100)]
            assert said == [f"{burst} {number}" for number in range(100)]
        assert cli.home.log_file("alpha").with_name("log.jsonl.3").exists()
        process.send_signal(signal.SIGINT)
        rest, said_beside = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, rest, said_beside) == (130, "", "")


def test_following_everything_finds_logs_that_are_new(cli: Cli) -> None:
    with following(cli) as process:
        write(cli, "alpha", "hello")
        assert out(process).readline().endswith("alpha#1 mine: hello\n")
        actor(cli, "registry", "here")
        assert out(process).readline().endswith("registry ray_ext: here\n")


def test_following_ends_when_nobody_reads_any_more(cli: Cli) -> None:
    write(cli, "alpha", "hello")
    with following(cli) as process:
        assert "hello" in out(process).readline()
        out(process).close()
        assert process.wait(timeout=DEADLINE_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_reader_that_has_enough_is_no_error(cli: Cli) -> None:
    alpha = book(cli, "alpha")
    for _ in range(5_000):
        alpha.note(20, "x" * 200)
    with subprocess.Popen(
        cli.command("logs", "-n", "5000"), env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=DEADLINE_S) == 0


# ---- of a runtime elsewhere

#: What the control actor serves, without Ray.
SERVING = """
import sys
from pathlib import Path
from ray_ext.actors.control import Control
from ray_ext.control.listening import parse_listen
from ray_ext.home import Home

home = Home(Path(sys.argv[1]))
control = Control(str(home.root), home.namespace, parse_listen(sys.argv[2]))
sys.stdin.read()
"""


@pytest.fixture
def elsewhere(cli: Cli, tmp_path: Path) -> Iterator[Cli]:
    """A command line with another state home, that is told where the runtime of the first one listens."""
    port = free_port()
    served = subprocess.Popen(
        [sys.executable, "-c", SERVING, cli.home.root, f"127.0.0.1:{port}"], stdin=subprocess.PIPE, env=cli.environment
    )
    token = cli.home.run / "control-token"
    far = Cli(tmp_path / "far", {"RAY_EXT_CONTROL": f"http://127.0.0.1:{port}", "RAY_EXT_TOKEN_FILE": str(token)})
    give_up = time.monotonic() + DEADLINE_S
    while far.run("logs").returncode:
        assert time.monotonic() < give_up
    yield far
    served.communicate()


def test_logs_of_a_runtime_elsewhere_are_printed_and_followed_alike(cli: Cli, elsewhere: Cli) -> None:
    for number in range(3):
        for extension in ("alpha", "beta"):
            write(cli, extension, str(number), at=1e10 + number)
        actor(cli, "registry", str(number), at=1e10 + number)
    for arguments in (
        ["-n", "3"], ["alpha"], ["alpha", "-n", "1", "--json"], ["--system", "-n", "2", "--since", "2200-01-01"],
        ["alpha", "beta", "-n", "4"], ["alpha", "--system", "-n", "5", "--since", "2200-01-01"],
    ):  # fmt: skip
        assert elsewhere.ok("logs", *arguments) == cli.ok("logs", *arguments), arguments
    with following(elsewhere, "alpha", "-n", "1") as process:
        assert out(process).readline().endswith("alpha#1 mine: 2\n")
        write(cli, "alpha", "more", at=2e10)
        assert out(process).readline().endswith("alpha#1 mine: more\n")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=DEADLINE_S) == ("", "")
        assert process.returncode == 130
