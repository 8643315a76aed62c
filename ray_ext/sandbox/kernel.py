"""The few kernel interfaces of confinement that Python's standard library lacks, each as one function.

Runs in hosts and guests. Constants are those of ``linux/prctl.h``, ``linux/landlock.h`` and ``linux/seccomp.h``.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from typing import Final

__all__ = [
    "ROOT_IS_ORDINARY",
    "clear_ambient_capabilities",
    "clear_capabilities",
    "die_with_parent",
    "drop_bounding_set",
    "forbid_dumps",
    "forbid_new_privileges",
    "fork_bare",
    "install_filter",
    "landlock_abi",
    "lock_securebits",
    "restrict_paths",
    "seccomp_kills",
    "set_task_name",
    "trim_heap",
]

_libc = ctypes.CDLL(None, use_errno=True)
_fork = ctypes.PyDLL(None).fork
_libc.syscall.restype = ctypes.c_long

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NAME: Final = 15
_PR_CAPBSET_DROP: Final = 24
_PR_SET_SECUREBITS: Final = 28
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

_CAPABILITY_VERSION: Final = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
ROOT_IS_ORDINARY: Final = 0x2F
"""Securebits: NOROOT and NO_SETUID_FIXUP, both locked, and KEEP_CAPS locked off: uid 0 gains nothing by being 0."""

_LANDLOCK_CREATE_RULESET: Final = 444  # one number on every architecture
_LANDLOCK_ADD_RULE: Final = 445
_LANDLOCK_RESTRICT_SELF: Final = 446
_LANDLOCK_VERSION: Final = 1
_LANDLOCK_RULE_PATH_BENEATH: Final = 1

_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}
_SECCOMP_SET_MODE_FILTER: Final = 1
_SECCOMP_GET_ACTION_AVAIL: Final = 2
_SECCOMP_FILTER_TSYNC: Final = 1
_SECCOMP_KILL_PROCESS: Final = 0x80000000


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _syscall(what: str, number: int, *arguments: int | ctypes.Array[ctypes.c_char]) -> int:
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *words)
    return _checked(result, what)


def _prctl(what: str, option: int, first: int | bytes = 0, second: int = 0) -> int:
    word = ctypes.c_char_p(first) if isinstance(first, bytes) else ctypes.c_ulong(first)
    result: int = _libc.prctl(option, word, ctypes.c_ulong(second), ctypes.c_ulong(0), ctypes.c_ulong(0))
    return _checked(result, what)


def _buffer(content: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(content, len(content))


# ---- process attributes


def set_task_name(name: str) -> None:
    """The name in ``/proc/PID/comm``; the kernel keeps 15 bytes."""
    _prctl("PR_SET_NAME", _PR_SET_NAME, name.encode()[:15])


def die_with_parent(signal_number: int) -> None:
    """Send this process a signal when the *thread* that started it ends. Any change of credentials clears it."""
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, signal_number)


def forbid_dumps() -> None:
    """No core dump (a core handler behind a pipe ignores RLIMIT_CORE), and no ptrace by others of the same user."""
    _prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, 0)


def forbid_new_privileges() -> None:
    """Executing a file never again grants anything; Landlock and seccomp ask for it. Cannot be undone."""
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


def fork_bare() -> int:
    """``fork(2)`` without what Python does after it in the child, which copies some 600 KiB of shared pages.

    For a process with one thread, and a child that runs a few lines of its own: locks, random numbers and the names of
    threads stay as they were.
    """
    return _checked(_fork(), "fork")


def trim_heap() -> None:
    """Give free memory back to the kernel, where the C library can (``malloc_trim(3)``, glibc)."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)


# ---- capabilities


def drop_bounding_set() -> None:
    """Empty the bounding set; needs CAP_SETPCAP."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    for capability in range(last + 1):
        _prctl("PR_CAPBSET_DROP", _PR_CAPBSET_DROP, capability)


def clear_ambient_capabilities() -> None:
    """Empty the ambient set."""
    _prctl("PR_CAP_AMBIENT", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)


def lock_securebits(bits: int) -> None:
    """Set the securebits; needs CAP_SETPCAP."""
    _prctl("PR_SET_SECUREBITS", _PR_SET_SECUREBITS, bits)


def clear_capabilities() -> None:
    """Empty the effective, permitted and inheritable sets."""
    result: int = _libc.capset(_buffer(struct.pack("=Ii", _CAPABILITY_VERSION, 0)), _buffer(bytes(24)))
    _checked(result, "capset")


# ---- Landlock


def landlock_abi() -> int:
    """The kernel's Landlock ABI; 0 where there is none, or it is switched off."""
    try:
        return _syscall("landlock version", _LANDLOCK_CREATE_RULESET, 0, 0, _LANDLOCK_VERSION)
    except OSError:
        return 0


def restrict_paths(ruleset: bytes, rules: Iterable[tuple[str, int]]) -> None:
    """Restrict this thread to what ``rules`` allow of what ``ruleset`` (``struct landlock_ruleset_attr``) handles."""
    handle = _syscall("landlock_create_ruleset", _LANDLOCK_CREATE_RULESET, _buffer(ruleset), len(ruleset), 0)
    try:
        for path, access in rules:
            _allow_beneath(handle, path, access)
        _syscall("landlock_restrict_self", _LANDLOCK_RESTRICT_SELF, handle, 0)
    finally:
        os.close(handle)


def _allow_beneath(handle: int, path: str, access: int) -> None:
    parent = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        rule = _buffer(struct.pack("=Qi", access, parent))
        _syscall(f"landlock_add_rule {path}", _LANDLOCK_ADD_RULE, handle, _LANDLOCK_RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(parent)


# ---- seccomp


def seccomp_kills() -> bool:
    """Whether the kernel has seccomp filters, with the verdict that kills a process (Linux 4.14)."""
    number = _SECCOMP.get(os.uname().machine)
    if number is None:
        return False
    try:
        action = _buffer(struct.pack("=I", _SECCOMP_KILL_PROCESS))
        _syscall("seccomp", number, _SECCOMP_GET_ACTION_AVAIL, 0, action)
    except OSError:
        return False
    return True


def install_filter(program: bytes) -> None:
    """Put every thread of this process behind this filter (``struct sock_filter[]``). Cannot be undone."""
    instructions = _buffer(program)
    header = _buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions)))
    number = _SECCOMP[os.uname().machine]
    result = _syscall("seccomp", number, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_TSYNC, header)
    if result:
        raise OSError(f"seccomp: thread {result} could not be put behind the filter")
