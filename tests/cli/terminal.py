"""A terminal: a process on a pty, and what a person would see of it, through a terminal emulator."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import pyte

from tests.cli.command_line import Cli

_COLUMNS, _LINES = 120, 60


class Terminal:
    """Runs ``ray-ext`` on a terminal of 120 columns and 60 lines. ``said`` is every byte, ``screen`` what is seen."""

    def __init__(self, cli: Cli, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, _COLUMNS, 0, 0))
        self._screen = pyte.Screen(_COLUMNS, _LINES)
        self._stream = pyte.ByteStream(self._screen)
        self.said = b""
        self.process = subprocess.Popen(
            cli.command(*arguments),
            env={**cli.environment, "TERM": "xterm-256color", "COLORTERM": "", **(environment or {})},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._controller)

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without what is blank."""
        return [line.rstrip() for line in self._screen.display if line.strip()]

    @property
    def screen(self) -> str:
        return "\n".join(self.lines)

    def type(self, text: str) -> None:
        os.write(self._controller, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal sends it to the process group in its foreground."""
        os.killpg(self.process.pid, signal.SIGINT)

    def await_text(self, text: str, timeout_s: float = 60.0) -> None:
        """Wait until it is on the screen."""
        give_up = time.monotonic() + timeout_s
        while text not in self.screen:
            assert time.monotonic() < give_up, self.screen
            assert self._read(give_up), f"it ended without {text!r}:\n{self.screen}"

    def end(self, timeout_s: float = 60.0) -> int:
        """Wait for the process's end; its exit status."""
        give_up = time.monotonic() + timeout_s
        while self._read(give_up):
            assert time.monotonic() < give_up, self.screen
        return self.process.wait(timeout_s)

    def _read(self, give_up: float) -> bool:
        """More of what is said; False at its end."""
        if not select.select([self._controller], [], [], max(0.0, give_up - time.monotonic()))[0]:
            return True
        try:
            more = os.read(self._controller, 65536)
        except OSError:  # the other side is closed
            return False
        self.said += more
        self._stream.feed(more)
        return bool(more)
