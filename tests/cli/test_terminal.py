"""What a person sees: tables, live progress, questions; with and without colours."""

from __future__ import annotations

import re
from pathlib import Path

from ray_ext.client.runtime import Runtime
from tests.cli.command_line import Cli, states, write_project
from tests.cli.terminal import Terminal

#: SGR sequences that choose a colour.
_COLOUR = re.compile(rb"\x1b\[[0-9;]*(3[0-7]|38|9[0-7])[0-9;]*m")

WAITING = """
    async def on_load(self) -> None:
        import asyncio
        (self.data_dir / "here").touch()
        while not (self.data_dir / "go").exists():
            await asyncio.sleep(0.01)
"""


def test_a_table_has_a_rule_and_colours_on_a_terminal_and_plain_lines_in_a_pipe(
    cli: Cli, runtime: Runtime, tmp_path: Path
) -> None:
    runtime.install(write_project(tmp_path, "drawn"))
    with Terminal(cli, "list") as terminal:
        assert terminal.end() == 0
    head, rule, *rows = terminal.lines
    assert head.split() == ["id", "version", "state", "generation", "category", "isolation"]
    assert set(rule) <= set("─ ")
    assert "drawn 1.0.0 loaded 1 platform.custom strict" in [" ".join(row.split()) for row in rows]
    assert _COLOUR.search(terminal.said)

    with Terminal(cli, "list", environment={"NO_COLOR": "1"}) as plain:
        assert plain.end() == 0
    assert plain.lines == terminal.lines
    assert not _COLOUR.search(plain.said)

    piped = cli.ok("list")
    assert "─" not in piped
    assert "\x1b" not in piped


def test_errors_are_red_unless_colours_are_unwanted(cli: Cli) -> None:
    for environment, has_colour in (({}, True), ({"NO_COLOR": "1"}, False)):
        with Terminal(cli, "show", "nobody", environment=environment) as terminal:
            assert terminal.end() == 1
        assert terminal.lines[0].startswith("Error: ")
        assert terminal.screen.replace("\n", "").endswith("[extension-not-found]")
        assert bool(_COLOUR.search(terminal.said)) is has_colour


def test_what_others_wrote_does_not_drive_the_terminal(cli: Cli, runtime: Runtime, tmp_path: Path) -> None:
    runtime.register(write_project(tmp_path, "nasty"))
    runtime.yank("nasty", "1.0.0", "\x1b]0;owned\x07\x1b[2Jbad\r\n")
    for arguments in (("releases", "nasty"), ("releases",)):
        with Terminal(cli, *arguments) as terminal:
            assert terminal.end() == 0
        assert r"\x1b]0;owned\x07\x1b[2Jbad" in terminal.screen.replace("\n", "").replace(" ", "")
        assert b"\x1b]0;" not in terminal.said
    assert "\x1b" not in cli.ok("releases", "nasty")


def test_the_step_at_work_is_live_and_those_done_stay(cli: Cli, tmp_path: Path) -> None:
    data = cli.home.data_dir("slow")
    with Terminal(cli, "install", write_project(tmp_path, "slow", code=WAITING)) as terminal:
        terminal.await_text("[2/2] load slow")
        assert terminal.lines[-2].startswith("✓ [1/2] install slow 1.0.0")
        spinning = terminal.lines[-1]
        assert re.match(r"[⠀-⣿] \[2/2\] load slow 1.0.0", spinning), spinning
        while not (data / "here").exists():
            terminal.await_text("[2/2] load slow")
        (data / "go").touch()
        assert terminal.end() == 0
    first, second, *said = terminal.lines
    assert (first[:7], second[:7]) == ("✓ [1/2]", "✓ [2/2]")
    assert said[-1] == "Loaded: generation 1, exports version."
    assert b"\x1b[?25h" in terminal.said, "the cursor is hidden while it spins, and shown again"


def test_a_step_that_fails_is_marked_and_what_was_done_is_undone(cli: Cli, runtime: Runtime, tmp_path: Path) -> None:
    failing = "async def on_load(self) -> None:\n    raise RuntimeError('no such luck')\n"
    with Terminal(cli, "install", write_project(tmp_path, "luckless", code=failing)) as terminal:
        assert terminal.end() == 1
    assert [line[:1] for line in terminal.lines[:2]] == ["✓", "✗"]
    assert "↩ undone: " in terminal.screen
    assert "no such luck" in terminal.screen
    assert states(runtime, "luckless") == ["not installed"]


def test_remove_shows_the_plan_and_asks(cli: Cli, runtime: Runtime, tmp_path: Path) -> None:
    folder = write_project(tmp_path, "asked")
    data = cli.home.data_dir("asked")
    runtime.install(folder)
    with Terminal(cli, "remove", "asked") as terminal:
        terminal.await_text("Remove it? [y/N]:")
        assert "asked for" in terminal.screen
        terminal.type("n\n")
        assert terminal.end() == 1
    assert "Nothing is removed." in terminal.screen
    assert states(runtime, "asked") == ["loaded"]

    with Terminal(cli, "remove", "asked", "--purge") as terminal:
        terminal.await_text("Delete all this? [y/N]:")
        assert f"Deletes the data in {data}" in terminal.screen
        terminal.type("y\n")
        assert terminal.end() == 0
    assert "Removed asked." in terminal.screen
    assert (states(runtime, "asked"), data.exists()) == (["not installed"], False)


def test_nobody_is_asked_who_does_not_want_to_be(cli: Cli, runtime: Runtime, tmp_path: Path) -> None:
    folder = write_project(tmp_path, "unasked")
    ways: list[tuple[list[str], dict[str, str]]] = [
        (["--yes"], {}),
        (["--no-input"], {}),
        ([], {"RAY_EXT_NO_INPUT": "1"}),
    ]
    for more, environment in ways:
        runtime.install(folder, load=False)
        with Terminal(cli, "remove", "unasked", *more, environment=environment) as terminal:
            assert terminal.end() == 0
        assert "[y/N]" not in terminal.screen
        assert states(runtime, "unasked") == ["not installed"]

    runtime.install(folder, load=False)
    with Terminal(cli, "remove", "unasked", "--purge", "--no-input") as terminal:
        assert terminal.end() == 2
    assert "give --yes" in terminal.screen
    assert states(runtime, "unasked") == ["unloaded"]


def test_a_terminal_that_cannot_draw_gets_plain_lines(cli: Cli, tmp_path: Path) -> None:
    folder = write_project(tmp_path, "plainly")
    with Terminal(cli, "install", folder, "--no-load", environment={"TERM": "dumb"}) as terminal:
        assert terminal.end() == 0
    assert b"\x1b" not in terminal.said
    assert terminal.lines[0].startswith("[1/1] install plainly")
