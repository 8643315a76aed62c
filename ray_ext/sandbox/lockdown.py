"""How a guest gives up what it will not need, in order; runs in the guest, before any code of the extension.

Each step relies on those before it: capabilities are dropped while they still allow it, the death signal comes after
the last change of credentials, Landlock and seccomp need no_new_privs, and seccomp, which forbids most of the other
steps, is last but for the proof.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import threading
from collections.abc import Callable
from typing import Final

from ray_ext.sandbox import kernel
from ray_ext.sandbox.handshake import Policy

__all__ = ["STEPS", "StepFailed", "lock_down"]


class StepFailed(Exception):
    """A step did not work; its cause is ``__cause__``."""

    def __init__(self, step: str) -> None:
        super().__init__(step)
        self.step = step


def _require_one_task(policy: Policy) -> None:
    # Landlock restricts a thread, not its siblings: one that an import started would keep all its rights.
    tasks = os.listdir("/proc/self/task")
    if len(tasks) != 1:
        raise RuntimeError(f"{len(tasks)} threads run before the lock-down")


def _reset_signals(policy: Policy) -> None:
    # The thread that spawned us may have blocked signals, and a mask survives exec.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _limit_resources(policy: Policy) -> None:
    threading.stack_size(policy.thread_stack_bytes)
    for name, value in policy.limits.items():
        kind: int = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (lower, lower))


def _drop_capabilities(policy: Policy) -> None:
    if policy.is_privileged:
        kernel.drop_bounding_set()
    kernel.clear_ambient_capabilities()
    if policy.is_privileged:
        kernel.lock_securebits(kernel.ROOT_IS_ORDINARY)
    kernel.clear_capabilities()


def _die_with_parent(policy: Policy) -> None:
    kernel.die_with_parent(signal.SIGKILL)
    if os.getppid() != policy.parent_pid:  # it ended before the line above, so no signal will ever come
        os.kill(os.getpid(), signal.SIGKILL)


def _forbid_dumps(policy: Policy) -> None:
    kernel.forbid_dumps()


def _forbid_new_privileges(policy: Policy) -> None:
    kernel.forbid_new_privileges()


def _restrict_paths(policy: Policy) -> None:
    kernel.restrict_paths(bytes.fromhex(policy.ruleset), [(path, access) for path, access in policy.rules])


def _filter_system_calls(policy: Policy) -> None:
    kernel.install_filter(bytes.fromhex(policy.filter))


def _prove(policy: Policy) -> None:
    # Landlock leaves no trace that a host could read from outside: so try what it must deny.
    for attempt in (lambda: os.listdir("/"), lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)):
        try:
            attempt()
        except PermissionError:
            continue
        raise RuntimeError("something succeeded that the lock-down must deny")


STEPS: Final[tuple[tuple[str, Callable[[Policy], None]], ...]] = (
    ("one task", _require_one_task),
    ("signals", _reset_signals),
    ("resource limits", _limit_resources),
    ("capabilities", _drop_capabilities),
    ("parent", _die_with_parent),
    ("dumps", _forbid_dumps),
    ("no_new_privs", _forbid_new_privileges),
    ("landlock", _restrict_paths),
    ("seccomp", _filter_system_calls),
    ("proof", _prove),
)
"""The steps by name, in their order."""


def lock_down(policy: Policy) -> list[str]:
    """Take every step and return their names; raises :class:`StepFailed` at the first that does not work."""
    for name, step in STEPS:
        try:
            step(policy)
        except Exception as error:
            raise StepFailed(name) from error
    return [name for name, _ in STEPS]
