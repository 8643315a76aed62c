"""The system calls that a guest may make, as data, and the compiler that turns them into a seccomp filter.

The rules are an allow-list. What is not on it gets EPERM; what this file has never heard of gets ENOSYS, as do the
calls whose callers know how to do without them. A foreign architecture or the x32 ABI kills the process: the numbers
mean other calls there.

Level L1 has no namespaces, and Landlock mediates neither ``chmod`` nor ``utime`` nor extended attributes: so all of
these are denied, the variants on an open file too, because a guest owns what its user owns, and may read it.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Final

from ray_ext.sandbox import bpf
from ray_ext.sandbox.bpf import Argument
from ray_ext.sandbox.syscalls import SYSCALLS

__all__ = ["ALLOW", "DENY", "KILL", "UNKNOWN", "compile_filter", "is_supported"]

ALLOW: Final = 0x7FFF0000  # SECCOMP_RET_ALLOW
KILL: Final = 0x80000000  # SECCOMP_RET_KILL_PROCESS
DENY: Final = 0x00050000 | errno.EPERM  # SECCOMP_RET_ERRNO
UNKNOWN: Final = 0x00050000 | errno.ENOSYS

# linux/audit.h: the ELF machine, plus __AUDIT_ARCH_64BIT and __AUDIT_ARCH_LE.
_AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT: Final = 0x40000000  # __X32_SYSCALL_BIT: x86_64's second table hides behind the same AUDIT_ARCH

_ALWAYS: Final = """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range dup dup2 dup3
    flock fsync fdatasync ftruncate truncate fallocate copy_file_range sendfile splice tee sync_file_range fadvise64
    readahead open openat creat access faccessat faccessat2 stat fstat lstat newfstatat statx readlink readlinkat
    getdents getdents64 getcwd chdir fchdir mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat
    symlink symlinkat umask statfs fstatfs
    mmap munmap mprotect mremap madvise brk mincore msync mlock munlock membarrier pkey_alloc pkey_free pkey_mprotect
    get_mempolicy
    futex futex_waitv futex_wake futex_wait futex_requeue set_robust_list get_robust_list rseq set_tid_address gettid
    sched_yield sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min
    sched_rr_get_interval getpriority getcpu
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack pause alarm
    setitimer getitimer restart_syscall signalfd signalfd4 timer_create timer_settime timer_gettime timer_getoverrun
    timer_delete clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times timerfd_create
    timerfd_settime timerfd_gettime
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd
    eventfd2 pipe pipe2
    recvfrom recvmsg recvmmsg shutdown getsockname getpeername getsockopt setsockopt
    exit exit_group wait4 waitid getpid getppid getuid geteuid getgid getegid getgroups getresuid getresgid getpgrp
    getpgid getsid uname sysinfo getrusage getrlimit setrlimit capget arch_prctl getrandom
"""

# Their callers fall back (glibc to clone and openat), or probe for them; EPERM would be taken for a refusal.
_AS_IF_MISSING: Final = "clone3 openat2 fchmodat2 pidfd_open statmount listmount cachestat mseal rt_tgsigqueueinfo"

_SOCKET_TYPE: Final = 0xFFFFFFFF & ~0x80800  # without SOCK_CLOEXEC and SOCK_NONBLOCK
_MSG_FASTOPEN: Final = 0x20000000
_CLONE_THREAD: Final = 0x10900  # CLONE_THREAD | CLONE_SIGHAND | CLONE_VM
_CLONE_FORBIDDEN: Final = 0x7E022000  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET} and CLONE_PTRACE

_PRCTL: Final = (
    3,  # PR_GET_DUMPABLE
    15,  # PR_SET_NAME
    16,  # PR_GET_NAME
    21,  # PR_GET_SECCOMP
    23,  # PR_CAPBSET_READ
    30,  # PR_GET_TIMERSLACK
    39,  # PR_GET_NO_NEW_PRIVS
    0x53564D41,  # PR_SET_VMA: glibc names its heaps
)
_IOCTL: Final = (
    0x5401,  # TCGETS: isatty
    0x5413,  # TIOCGWINSZ
    0x541B,  # FIONREAD
    0x5421,  # FIONBIO
    0x5450,  # FIONCLEX
    0x5451,  # FIOCLEX
)
# F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW, the three of open file descriptions,
# F_DUPFD_CLOEXEC F_GETPIPE_SZ F_GET_SEALS; not F_SETOWN, F_SETSIG (signals to others), F_SETLEASE, F_NOTIFY.
_FCNTL: Final = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032, 1034)


def _conditional(pid: int) -> dict[str, tuple[Argument, ...]]:
    """The calls that are allowed for some arguments only; ``pid`` is the guest's own."""
    return {
        # A pair of datagram sockets could send to, or connect, any path; a stream pair cannot.
        "socketpair": (Argument(0, (1,)), Argument(1, (1,), _SOCKET_TYPE), Argument(2, (0,))),
        "sendto": (Argument(4, (0,), is_pointer=True),),
        "sendmsg": (Argument(2, (0,), _MSG_FASTOPEN),),
        "sendmmsg": (Argument(3, (0,), _MSG_FASTOPEN),),
        "clone": (Argument(0, (_CLONE_THREAD,), _CLONE_THREAD | _CLONE_FORBIDDEN),),
        "kill": (Argument(0, (pid,)),),
        "tgkill": (Argument(0, (pid,)),),
        "prlimit64": (Argument(0, (0, pid)),),
        "prctl": (Argument(0, _PRCTL),),
        "ioctl": (Argument(1, _IOCTL),),
        "fcntl": (Argument(1, _FCNTL),),
        "sched_setaffinity": (Argument(0, (0, pid)),),
        "personality": (Argument(0, (0xFFFFFFFF,)),),
    }


def is_supported(machine: str) -> bool:
    """Whether there is a filter for this machine (as ``os.uname().machine`` spells it)."""
    return machine in SYSCALLS


def compile_filter(machine: str, *, pid: int) -> bytes:
    """The filter of a level L1 guest with this process id, as the bytes of ``struct sock_filter[]``.

    The search is by number, eight comparisons deep. What needs no argument is answered by the kernel's own cache of
    constant verdicts (Linux 5.11), so nothing is gained by asking for the frequent calls first.
    """
    numbers = SYSCALLS[machine]
    decided = {numbers[name]: block for name, block in _blocks(pid).items() if name in numbers}
    known = set(numbers.values())
    by_number = [
        (number, decided.get(number, [bpf.give(DENY if number in known else UNKNOWN)]))
        for number in range(max(known) + 2)
    ]
    if machine == "x86_64":
        by_number.append((_X32_BIT, [bpf.give(KILL)]))
    search = bpf.dispatch(by_number)
    native_only = [bpf.load(bpf.ARCHITECTURE), bpf.skip_if_equal(_AUDIT_ARCH[machine]), bpf.give(KILL)]
    return bpf.assemble([*native_only, bpf.load(bpf.SYSCALL), *search])


def _blocks(pid: int) -> Mapping[str, list[bpf.Instruction]]:
    blocks = {name: [bpf.give(ALLOW)] for name in _ALWAYS.split()}
    blocks |= {name: [bpf.give(UNKNOWN)] for name in _AS_IF_MISSING.split()}
    blocks |= {name: bpf.match_arguments(rule, ALLOW, DENY) for name, rule in _conditional(pid).items()}
    return blocks
