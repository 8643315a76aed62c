"""Starting a keeper and waiting until its runtime is up. Needs no Ray in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ray_ext.client.ending import end_runtime
from ray_ext.client.leftovers import KEEPER
from ray_ext.client.start_options import StartOptions
from ray_ext.errors import RuntimeConflict, RuntimeUnreachable, StoreFailed, error_from_parts
from ray_ext.home import Home
from ray_ext.runtime_record import RuntimeLock, RuntimeRecord, read_record

__all__ = ["END_S", "START_S", "StartingRuntime", "find_runtime", "keeper_log", "start_runtime"]

#: How long a start may take, in seconds.
START_S = 180.0
#: How long what was started may take to end, in seconds.
END_S = 20.0
#: How much of the keeper's log an error shows, in characters.
_TAIL = 2500


class StartingRuntime:
    """A keeper that was started here, and what it has started; to be ended by :meth:`end` unless it comes up."""

    def __init__(self, home: Home, options: StartOptions) -> None:
        try:
            home.ensure()
            (home.logs / "system").mkdir(mode=0o700, exist_ok=True)
            keeper_log(home).touch(mode=0o600)
            output = keeper_log(home).open("wb")
        except OSError as error:
            raise StoreFailed(
                f"the state home cannot be made: {error.strerror or error}",
                where=str(home.root),
                fix="make it writable, or set RAY_EXT_HOME to a folder that is yours",
                details={"home": str(home.root)},
            ) from None
        self._home = home
        self._report, report = os.pipe()
        os.set_blocking(self._report, False)
        self._heard = b""
        with output:
            self._keeper = subprocess.Popen(
                [sys.executable, "-m", KEEPER, str(home.root), options.to_text(), str(report)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Where the command line was called does not matter to it, and may be unmounted.
                cwd=home.root,
                start_new_session=True,
                pass_fds=(report,),
            )
        os.close(report)

    @property
    def pid(self) -> int:
        """The keeper's."""
        return self._keeper.pid

    def await_record(self, on_phase: Callable[[str], None]) -> RuntimeRecord:
        """Wait until it is up; raises what its start failed with, and RuntimeUnreachable."""
        give_up = time.monotonic() + START_S
        while (record := read_record(self._home)) is None or record.pid != self._keeper.pid:
            is_over = self._keeper.poll() is not None
            self._hear(on_phase)
            if is_over:
                raise self._not_up("the runtime did not start: its keeper has ended")
            if time.monotonic() > give_up:
                raise self._not_up(f"the runtime did not start within {START_S:.0f} s")
            time.sleep(0.05)
        return record

    def end(self) -> None:
        """End it, and what it has started."""
        with suppress(ProcessLookupError):
            self._keeper.terminate()
        try:
            self._keeper.wait(END_S)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        if not RuntimeLock(self._home).is_held_elsewhere():
            end_runtime(self._home)

    def _hear(self, on_phase: Callable[[str], None]) -> None:
        """What the keeper has said since; raises the error that it has ended with."""
        with suppress(BlockingIOError):
            while heard := os.read(self._report, 1 << 16):
                self._heard += heard
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "error" in said:
                raise error_from_parts(**said["error"])
            on_phase(said["phase"])

    def _not_up(self, what: str) -> RuntimeUnreachable:
        log = keeper_log(self._home)
        tail = log.read_text(errors="replace").strip()[-_TAIL:]
        return RuntimeUnreachable(
            what + (f". Its log ends with:\n{tail}" if tail else ""),
            where=str(log),
            fix="see the log; what a runtime needs on this machine is checked by: ray-ext doctor",
            details={"home": str(self._home.root)},
        )


def find_runtime(home: Home, on_phase: Callable[[str], None]) -> RuntimeRecord | None:
    """The runtime of this home, once it is up, if anybody else keeps or starts one."""
    give_up = time.monotonic() + START_S
    while RuntimeLock(home).is_held_elsewhere():
        record = read_record(home)
        if record is not None:
            return record
        on_phase("the runtime that another process is starting")
        if time.monotonic() > give_up:
            raise RuntimeUnreachable(
                f"another process has been starting the runtime of this state home for {START_S:.0f} s",
                where=str(keeper_log(home)),
                fix="see the log; end it with: ray-ext down",
                details={"home": str(home.root)},
            )
        time.sleep(0.05)
    return None


def start_runtime(
    home: Home, options: StartOptions, on_phase: Callable[[str], None]
) -> tuple[RuntimeRecord, StartingRuntime | None]:
    """The runtime of this home once it is up; it is started, by the second of the pair, unless somebody else keeps one.

    A start that fails or is interrupted leaves nothing behind but its log.
    """
    while True:
        record = find_runtime(home, on_phase)
        if record is not None:
            return record, None
        options.check()
        starting = StartingRuntime(home, options)
        try:
            return starting.await_record(on_phase), starting
        except BaseException as error:
            starting.end()
            # Somebody else was quicker.
            if not isinstance(error, RuntimeConflict) or not RuntimeLock(home).is_held_elsewhere():
                raise


def keeper_log(home: Home) -> Path:
    """What the keeper says, since its start."""
    return home.logs / "system" / "keeper.log"
