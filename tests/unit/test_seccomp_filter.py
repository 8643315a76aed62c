"""The compiled filter, run by an interpreter of classic BPF: both architectures, whatever this machine is."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from ray_ext.sandbox import seccomp
from ray_ext.sandbox.seccomp import ALLOW, DENY, KILL, UNKNOWN, compile_filter
from ray_ext.sandbox.syscalls import SYSCALLS

PID = 4321
OTHER = 1234
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
I386 = 0x40000003
MACHINES = sorted(SYSCALLS)
HIGH = 1 << 32

FILTERS = {machine: compile_filter(machine, pid=PID) for machine in MACHINES}


def run(program: bytes, number: int, arguments: Sequence[int] = (), architecture: int = 0) -> tuple[int, int]:
    """The verdict, and how many instructions it took (Linux ``Documentation/networking/filter.rst``)."""
    six = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=iIQ6Q", number, architecture, 0, *(a & 0xFFFFFFFFFFFFFFFF for a in six))
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator, position, steps = 0, 0, 0
    while True:
        code, if_true, if_false, operand = instructions[position]
        position, steps = position + 1, steps + 1
        if code == 0x20:
            assert operand % 4 == 0
            (accumulator,) = struct.unpack_from("=I", data, operand)
        elif code == 0x54:
            accumulator &= operand
        elif code == 0x05:
            position += operand
        elif code == 0x15:
            position += if_true if accumulator == operand else if_false
        elif code == 0x35:
            position += if_true if accumulator >= operand else if_false
        else:
            assert code == 0x06
            return operand, steps


def verdict(machine: str, name: str, *arguments: int) -> int:
    return run(FILTERS[machine], SYSCALLS[machine][name], arguments, AUDIT_ARCH[machine])[0]


CASES: list[tuple[str, tuple[int, ...], int]] = [
    ("read", (), ALLOW),
    ("futex", (), ALLOW),
    ("openat", (), ALLOW),
    ("exit_group", (), ALLOW),
    ("socket", (1, 1, 0), DENY),
    ("socket", (2, 1, 6), DENY),
    ("socketpair", (1, 1, 0), ALLOW),
    ("socketpair", (1, 1 | 0x80800, 0), ALLOW),
    ("socketpair", (1, 2, 0), DENY),
    ("socketpair", (1, 5, 0), DENY),
    ("socketpair", (1, 1 | 0x10000, 0), DENY),
    ("socketpair", (2, 1, 0), DENY),
    ("socketpair", (1, 1, 6), DENY),
    ("sendto", (3, 1, 1, 0, 0, 0), ALLOW),
    ("sendto", (3, 1, 1, 0, 0x1000, 16), DENY),
    ("sendto", (3, 1, 1, 0, HIGH, 16), DENY),
    ("sendmsg", (3, 1, 0x4000), ALLOW),
    ("sendmsg", (3, 1, 0x20000000), DENY),
    ("sendmsg", (3, 1, 0x20004000), DENY),
    ("sendmmsg", (3, 1, 1, 0), ALLOW),
    ("sendmmsg", (3, 1, 1, 0x20000000), DENY),
    ("clone", (0x3D0F00,), ALLOW),  # glibc's pthread_create
    ("clone", (0x7D0F00,), ALLOW),  # musl's
    ("clone", (0x11,), DENY),  # fork
    ("clone", (0x4111,), DENY),  # vfork
    ("clone", (0x10900,), ALLOW),
    ("clone", (0x10000,), DENY),
    ("clone", (0x3D0F00 | 0x10000000,), DENY),
    ("clone", (0x3D0F00 | 0x00020000,), DENY),
    ("clone", (0x3D0F00 | 0x2000,), DENY),
    ("kill", (PID, 15), ALLOW),
    ("kill", (OTHER, 15), DENY),
    ("kill", (0, 15), DENY),
    ("kill", (-1, 15), DENY),
    ("tgkill", (PID, OTHER, 6), ALLOW),
    ("tgkill", (OTHER, PID, 6), DENY),
    ("tkill", (PID, 6), DENY),
    ("prlimit64", (0, 7), ALLOW),
    ("prlimit64", (PID, 7), ALLOW),
    ("prlimit64", (OTHER, 7), DENY),
    ("prctl", (15,), ALLOW),
    ("prctl", (0x53564D41,), ALLOW),
    ("prctl", (1,), DENY),  # PR_SET_PDEATHSIG
    ("prctl", (4,), DENY),  # PR_SET_DUMPABLE
    ("prctl", (22,), DENY),  # PR_SET_SECCOMP
    ("prctl", (23,), ALLOW),
    ("prctl", (24,), DENY),
    ("ioctl", (1, 0x5401), ALLOW),
    ("ioctl", (1, 0x5451), ALLOW),
    ("ioctl", (1, 0x5412), DENY),  # TIOCSTI
    ("fcntl", (1, 1030), ALLOW),
    ("fcntl", (1, 8), DENY),  # F_SETOWN
    ("fcntl", (1, 1024), DENY),  # F_SETLEASE
    ("fcntl", (1, 1031), DENY),  # F_SETPIPE_SZ
    ("personality", (0xFFFFFFFF,), ALLOW),
    ("personality", (0x0040000,), DENY),
    ("sched_setaffinity", (0,), ALLOW),
    ("sched_setaffinity", (OTHER,), DENY),
    ("execve", (), DENY),
    ("execveat", (), DENY),
    ("memfd_create", (), DENY),
    ("ptrace", (), DENY),
    ("fchmod", (), DENY),
    ("fchmodat", (), DENY),
    ("utimensat", (), DENY),
    ("seccomp", (), DENY),
    ("bpf", (), DENY),
    ("io_uring_setup", (), DENY),
    ("clone3", (), UNKNOWN),
    ("openat2", (), UNKNOWN),
    ("pidfd_open", (), UNKNOWN),
    ("fchmodat2", (), UNKNOWN),
]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("name", "arguments", "expected"), CASES)
def test_verdict(machine: str, name: str, arguments: tuple[int, ...], expected: int) -> None:
    assert verdict(machine, name, *arguments) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_only_the_listed_calls_are_allowed(machine: str) -> None:
    conditional = seccomp._conditional(PID)
    listed = {*seccomp._ALWAYS.split(), *conditional}
    allowed = {name for name in SYSCALLS[machine] if verdict(machine, name, PID, *[0] * 5) == ALLOW}
    assert allowed <= listed
    assert allowed >= set(seccomp._ALWAYS.split()) & set(SYSCALLS[machine])


def test_every_listed_name_is_a_system_call_of_some_machine() -> None:
    known = {name for numbers in SYSCALLS.values() for name in numbers}
    listed = {*seccomp._ALWAYS.split(), *seccomp._AS_IF_MISSING.split(), *seccomp._conditional(PID)}
    assert listed - known == set()


@pytest.mark.parametrize("machine", MACHINES)
def test_unknown_numbers_answer_as_an_older_kernel_would(machine: str) -> None:
    known = set(SYSCALLS[machine].values())
    for number in [n for n in range(1200) if n not in known]:
        assert run(FILTERS[machine], number, (), AUDIT_ARCH[machine])[0] == UNKNOWN


@pytest.mark.parametrize("machine", MACHINES)
def test_a_foreign_architecture_is_killed(machine: str) -> None:
    others = {I386, *AUDIT_ARCH.values()} - {AUDIT_ARCH[machine]}
    assert {run(FILTERS[machine], 0, (), other)[0] for other in others} == {KILL}


def test_the_x32_table_is_killed() -> None:
    for number in (0x40000000, 0x40000000 | 39, 0x40000000 | 520, 0xFFFFFFFF):
        assert (
            run(FILTERS["x86_64"], struct.unpack("=i", struct.pack("=I", number))[0], (), AUDIT_ARCH["x86_64"])[0]
            == KILL
        )


@pytest.mark.parametrize("machine", MACHINES)
def test_the_search_is_short_and_the_program_fits(machine: str) -> None:
    program = FILTERS[machine]
    assert len(program) // 8 <= 4096  # BPF_MAXINSNS
    hot = ("read", "write", "futex", "epoll_ctl", "recvfrom", "openat", "close", "mmap")
    assert max(run(program, SYSCALLS[machine][n], (), AUDIT_ARCH[machine])[1] for n in hot) <= 16


@pytest.mark.parametrize(
    ("machine", "header", "prefix"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "#define __NR_"),
        ("aarch64", "/usr/include/asm-generic/unistd.h", "#define __NR_"),
    ],
)
def test_the_table_agrees_with_the_kernels_headers(machine: str, header: str, prefix: str) -> None:
    if not Path(header).exists():
        pytest.skip(f"no {header} here")
    defined = {}
    for line in Path(header).read_text().splitlines():
        name, _, number = line.removeprefix(prefix).partition(" ")
        if line.startswith(prefix) and number.isdigit():
            defined[name] = int(number)
    ours = SYSCALLS[machine]
    common = defined.keys() & ours.keys()
    assert len(common) > 250
    assert {name: ours[name] for name in common} == {name: defined[name] for name in common}
