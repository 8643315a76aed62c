"""Starting a guest: from the zygote or by exec, lock-down, verification.

The kernel kills an executed guest when the *thread* that spawned it ends (PR_SET_PDEATHSIG). So call
:func:`spawn_guest` from a thread that outlives the guest, such as the main thread, and never from a pool's.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ray_ext.errors import IsolationUnavailable, LoadFailed
from ray_ext.sandbox import handshake, landlock
from ray_ext.sandbox.guest import ConfinementReport, Guest
from ray_ext.sandbox.limits import THREAD_STACK_BYTES, resource_limits
from ray_ext.sandbox.machine import Confinement, can_empty_bounding_set, require_confinement
from ray_ext.sandbox.process import ExecutedProcess, ForkedProcess, Process, ZygoteUnavailable
from ray_ext.sandbox.seccomp import compile_filter
from ray_ext.sandbox.verify import verify_confinement
from ray_ext.wire.pulse import PULSE_SIZE

__all__ = ["START_TIMEOUT_S", "Guest", "GuestSpec", "spawn_guest"]

START_TIMEOUT_S: Final = 10.0
"""A guest starts in some 60 ms; one that takes this long hangs, or its machine does."""

_log = logging.getLogger(__name__)
_STDERR_TAIL_BYTES: Final = 4096

# What would change how the interpreter, the dynamic loader or malloc behave in the trusted part of a guest's life.
_FORBIDDEN_ENVIRONMENT: Final = ("PYTHON", "LD_", "GLIBC_TUNABLES", "GCONV_PATH", "MALLOC_", "OPENSSL_")


@dataclass(frozen=True, kw_only=True)
class GuestSpec:
    """What a guest is given.

    ``layer`` comes from :func:`ray_ext.sandbox.guest_layer`. ``code_paths`` can be read by the guest; putting them on
    ``sys.path`` is up to its main loop. ``data_dir`` can be read and written; it is created when missing, and must not
    overlap anything readable. ``env`` is for our own variables: the extension's come after the lock-down.
    """

    extension: str
    layer: Path
    code_paths: tuple[Path, ...]
    data_dir: Path
    memory_bytes: int
    env: Mapping[str, str] = field(default_factory=dict)


def spawn_guest(spec: GuestSpec, *, zygote: Path | None = None, timeout_s: float = START_TIMEOUT_S) -> Guest:
    """Start a guest and return it verified, before any code of the extension has run.

    Blocks for some 10 ms with the ``zygote`` that listens at that address, some 60 ms without one: then, and when the
    zygote does not answer, the guest is executed. Raises IsolationUnavailable when it could not be confined, LoadFailed
    (``details["step"] == "spawn"``) when it did not start, ValueError when the spec is wrong. No process is left behind
    by any of these.
    """
    if zygote is not None:
        try:
            return _spawn_guest(spec, zygote, timeout_s)
        except ZygoteUnavailable as error:
            _log.warning("%s is started by exec, for there is no zygote: %s", spec.extension, error)
    return _spawn_guest(spec, None, timeout_s)


def _spawn_guest(spec: GuestSpec, zygote: Path | None, timeout_s: float) -> Guest:
    started = time.monotonic()
    confinement = require_confinement()
    environment = _environment(spec)
    spec.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    rules = landlock.path_rules(
        confinement.landlock_abi, readable=(spec.layer, *spec.code_paths), data_dir=spec.data_dir
    )
    (spec.data_dir / "tmp").mkdir(exist_ok=True, mode=0o700)
    with ExitStack() as undo:
        birth = _Birth(spec, environment, zygote, undo)
        policy = _policy(spec, confinement, rules, birth.process)
        deadline = started + timeout_s
        report = birth.lock_down(policy, deadline)
        verified = verify_confinement(birth.process, extension=spec.extension, is_privileged=policy.is_privileged)
        birth.go()
        undo.pop_all()
    return birth.guest(
        ConfinementReport(
            level=confinement.level,
            landlock_abi=confinement.landlock_abi,
            steps=tuple(report.steps),
            verified=verified,
            readable=tuple(path for path, _ in rules if path != os.fspath(spec.data_dir.resolve())),
            writable=os.fspath(spec.data_dir.resolve()),
            limits=policy.limits,
            start_s=time.monotonic() - started,
            is_forked=zygote is not None,
        )
    )


def _environment(spec: GuestSpec) -> dict[str, str]:
    refused = sorted(name for name in spec.env if name.startswith(_FORBIDDEN_ENVIRONMENT))
    if refused:
        raise ValueError(f"a guest's environment must not hold {', '.join(refused)}")
    base = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": os.fspath(spec.data_dir),
        "TMPDIR": os.fspath(spec.data_dir / "tmp"),
        "USER": "guest",  # getpass.getuser would look into /etc/passwd
        "MALLOC_ARENA_MAX": "1",
    }
    if "TZ" in os.environ:
        base["TZ"] = os.environ["TZ"]
    return base | dict(spec.env)


def _policy(
    spec: GuestSpec, confinement: Confinement, rules: list[tuple[str, int]], process: Process
) -> handshake.Policy:
    return handshake.Policy(
        extension=spec.extension,
        parent_pid=process.parent_pid,
        is_privileged=can_empty_bounding_set(),
        limits=resource_limits(spec.memory_bytes),
        thread_stack_bytes=THREAD_STACK_BYTES,
        ruleset=landlock.ruleset(confinement.landlock_abi).hex(),
        rules=rules,
        filter=compile_filter(confinement.machine, pid=process.pid).hex(),
    )


class _Birth:
    """A guest on its way: its process, and everything that must go again if it does not arrive."""

    def __init__(self, spec: GuestSpec, environment: Mapping[str, str], zygote: Path | None, undo: ExitStack) -> None:
        self._extension = spec.extension
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        undo.callback(self._channel.close)
        with ExitStack() as guests_ends:
            guests_ends.callback(theirs.close)
            memory = os.memfd_create("ray_ext-pulse", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            guests_ends.callback(os.close, memory)
            os.truncate(memory, PULSE_SIZE)
            # A guest that could shrink the page would have the host's next read end in SIGBUS.
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self._pulse = mmap.mmap(memory, PULSE_SIZE)
            undo.callback(self._pulse.close)
            self._stdout, their_stdout = _pipe(undo, guests_ends)
            self._stderr, their_stderr = _pipe(undo, guests_ends)
            descriptors = (theirs.fileno(), memory, their_stdout, their_stderr)
            self.process: Process = (
                ExecutedProcess(spec.layer, spec.extension, environment, *descriptors)
                if zygote is None
                else ForkedProcess(zygote, environment, *descriptors)
            )
            undo.callback(self._end_process)

    def _end_process(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.close()

    def lock_down(self, policy: handshake.Policy, deadline: float) -> handshake.Report:
        """Have the guest lock itself down; ``deadline`` is on the monotonic clock."""
        try:
            self._channel.settimeout(max(deadline - time.monotonic(), 0.001))
            handshake.send_policy(self._channel, policy)
            self._channel.settimeout(max(deadline - time.monotonic(), 0.001))
            answer = handshake.receive_answer(self._channel)
        except TimeoutError:
            raise self._load_failed("it did not answer in time") from None
        except (EOFError, OSError, ValueError) as error:
            raise self._load_failed(f"{error} ({self._end()})") from error
        if isinstance(answer, handshake.Report):
            return answer
        if answer.is_isolation:
            raise IsolationUnavailable(
                f"the guest of {self._extension} could not lock itself down: step {answer.step}: {answer.cause}",
                where=self._extension,
                fix='use a kernel with Landlock (5.19 or later) and seccomp, or grant isolation = "trusted"',
                details={"missing": [answer.step]},
            )
        raise self._load_failed(f"step {answer.step}: {answer.cause}")

    def go(self) -> None:
        """Let the guest's main loop begin."""
        try:
            handshake.send_go(self._channel)
        except OSError as error:
            raise self._load_failed(f"{error} ({self._end()})") from error
        self._channel.setblocking(False)

    def guest(self, report: ConfinementReport) -> Guest:
        """The guest, which now owns all of it."""
        return Guest(
            process=self.process,
            channel=self._channel,
            pulse=self._pulse,
            stdout=self._stdout,
            stderr=self._stderr,
            report=report,
        )

    def _load_failed(self, cause: str) -> LoadFailed:
        try:
            tail = os.read(self._stderr, _STDERR_TAIL_BYTES).decode("utf-8", "backslashreplace")
        except BlockingIOError:
            tail = ""
        return LoadFailed(
            f"the guest of {self._extension} did not start: {cause}",
            where=self._extension,
            details={"step": "spawn", "cause": cause, "traceback": tail},
        )

    def _end(self) -> str:
        try:
            return f"exit status {self.process.wait(1.0)}"
        except TimeoutError:
            return "it still runs"


def _pipe(undo: ExitStack, guests_ends: ExitStack) -> tuple[int, int]:
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    undo.callback(os.close, ours)
    guests_ends.callback(os.close, theirs)
    os.set_blocking(ours, False)
    return ours, theirs
