"""The attacks that level L1 must stop, and those that it is known not to; ids are those of the threat list.

A source runs in a guest with ``call`` (a raw system call), ``NR`` (numbers by name), ``channel``, and what the victims
are called. Attacks on the proxy, the protocol, packages and the configuration are other tests' business.
"""

# ruff: noqa: E501 - one attack a line: it reads as a table

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

__all__ = ["ATTACKS", "CLOSED_CALLS", "LEAKS", "Attack"]

SIGSYS = f"exit {-signal.SIGSYS}"


@dataclass(frozen=True)
class Attack:
    id: str
    name: str
    source: str
    stopped: str
    """The outcomes that count as stopped, separated by spaces (``exit -31`` is one)."""
    machine: str = ""

    def __str__(self) -> str:
        return f"{self.id} {self.name}"

    @property
    def applies(self) -> bool:
        return self.machine in ("", os.uname().machine)


_PAIR = "import socket; a, b = socket.socketpair()\n"
_MACHINE_CODE = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex({code!r}))
result = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""
_IN_A_SOCKET = "import socket; socket.socket({})"


def _socket(number: str, name: str, arguments: str) -> Attack:
    return Attack(number, name, _IN_A_SOCKET.format(arguments), "EPERM")


ATTACKS = [
    # files
    Attack("F01", "read a file by its absolute path", "open(SECRET).read()", "EACCES"),
    Attack("F01", "read /etc/passwd", "open('/etc/passwd').read()", "EACCES"),
    Attack("F01", "list the root", "import os; os.listdir('/')", "EACCES"),
    Attack("F01", "list /etc", "import os; os.listdir('/etc')", "EACCES"),
    Attack("F01", "list the private keys beside the certificates", "import os; os.listdir('/etc/ssl/private')", "EACCES ENOENT"),
    Attack("F02", "climb out of the data directory", "import os; open(DATA + '/' + '../' * 20 + SECRET).read()", "EACCES"),
    Attack("F03", "read through a symbolic link", "import os; os.symlink(SECRET, DATA + '/l'); open(DATA + '/l').read()", "EACCES"),
    Attack("F04", "link a foreign file into the data directory", "import os; os.link(SECRET, DATA + '/h')", "EXDEV EACCES"),
    Attack("F04", "link own code into the data directory", "import os; os.link(CODE, DATA + '/h')", "EXDEV EACCES"),
    Attack("F04", "move a foreign file into the data directory", "import os; os.rename(SECRET, DATA + '/h')", "EXDEV EACCES"),
    Attack("F07", "leave a FIFO", "import os; os.mkfifo(DATA + '/fifo')", "EPERM"),
    Attack("F07", "leave a socket", "import os; call(NR['mknodat'], -100, (DATA + '/s').encode(), 0o140600, 0)", "EPERM"),
    Attack("F08", "read the host's environment", "open(f'/proc/{HOST}/environ').read()", "EACCES"),
    Attack("F09", "read the host's memory map", "open(f'/proc/{HOST}/maps').read()", "EACCES"),
    Attack("F09", "open the host's memory", "open(f'/proc/{HOST}/mem', 'rb')", "EACCES"),
    Attack("F10", "list the host's descriptors", "import os; os.listdir(f'/proc/{HOST}/fd')", "EACCES"),
    Attack("F10", "enter the host's root", "open(f'/proc/{HOST}/root' + SECRET).read()", "EACCES"),
    Attack("F11", "write its own memory", "open('/proc/self/mem', 'r+b')", "EACCES"),
    Attack("F11", "read its own environment as started", "open('/proc/self/environ').read()", "EACCES"),
    Attack("F13", "write to cgroups", "open('/sys/fs/cgroup/cgroup.procs', 'w')", "EACCES ENOENT"),
    Attack("F14", "open shared memory", "open(SHARED).read()", "EACCES"),
    Attack("F14", "list shared memory", "import os; os.listdir('/dev/shm')", "EACCES"),
    Attack("F16", "change the layer", "open(LAYER + '/ray_ext/errors.py', 'a')", "EACCES"),
    Attack("F16", "drop a module into the layer", "open(LAYER + '/evil.py', 'w')", "EACCES"),
    Attack("F16", "drop a .pth file into the standard library", "import os; open(os.path.dirname(os.__file__) + '/evil.pth', 'w')", "EACCES"),
    Attack("F17", "change its own code", "open(CODE, 'a')", "EACCES"),
    Attack("F17", "remove its own code", "import os; os.unlink(CODE)", "EACCES"),
    Attack("F22", "truncate a foreign file", "import os; os.truncate(SECRET, 0)", "EACCES"),
    Attack("F22", "truncate its own code", "import os; os.truncate(CODE, 0)", "EACCES"),
    Attack("F22", "truncate by a read-only open", "import os; os.open(CODE, os.O_RDONLY | os.O_TRUNC)", "EACCES"),
    Attack("F23", "chmod a foreign file", "import os; os.chmod(SECRET, 0o777)", "EPERM"),
    Attack("F23", "chmod what it may read", "import os; os.fchmod(os.open(CODE, 0), 0o777)", "EPERM"),
    Attack("F23", "set times of a foreign file", "import os; os.utime(SECRET)", "EPERM"),
    Attack("F23", "set times of what it may read", "import os; os.utime(os.open(CODE, 0))", "EPERM"),
    Attack("F23", "chown", "import os; os.chown(SECRET, 0, 0)", "EPERM"),
    Attack("F23", "set an extended attribute", "import os; os.setxattr(os.open(CODE, 0), 'user.x', b'1')", "EPERM"),
    Attack("F23", "watch a foreign directory", "import os; call(NR['inotify_init1'], 0)", "EPERM"),
    Attack("F25", "make a device", "import os; os.mknod(DATA + '/d', 0o20600, os.makedev(1, 1))", "EPERM"),
    Attack("F27", "make an anonymous executable", "import os; os.memfd_create('x')", "EPERM"),
    Attack("F28", "read a file below the home folder", "import os; os.listdir('/root')", "EACCES ENOENT"),
    Attack("F28", "write to /tmp", "open('/tmp/evil', 'w')", "EACCES"),
    # network
    Attack("N01", "connect to a port of this machine", "import socket; socket.create_connection(('127.0.0.1', PORT))", "EPERM"),
    _socket("N02", "an IPv6 socket", "socket.AF_INET6, socket.SOCK_STREAM"),
    _socket("N05", "MPTCP", "socket.AF_INET, socket.SOCK_STREAM, 262"),
    _socket("N05", "SCTP", "socket.AF_INET, socket.SOCK_STREAM, 132"),
    _socket("N05", "SMC", "43, socket.SOCK_STREAM"),
    _socket("N06", "UDP", "socket.AF_INET, socket.SOCK_DGRAM"),
    _socket("N07", "a raw socket", "socket.AF_INET, socket.SOCK_RAW, 1"),
    _socket("N07", "a packet socket", "socket.AF_PACKET, socket.SOCK_RAW"),
    _socket("N08", "netlink", "16, socket.SOCK_RAW"),
    _socket("N08", "a VM socket", "40, socket.SOCK_STREAM"),
    _socket("N08", "the kernel's cryptography", "38, socket.SOCK_SEQPACKET"),
    _socket("N09", "a Unix socket, for paths such as docker.sock", "socket.AF_UNIX, socket.SOCK_STREAM"),
    Attack("N03", "TCP fast open by sendto", _PAIR + "a.sendto(b'x', 0x20000000, '/x')", "EPERM"),
    Attack("N03", "send to a path", _PAIR + "a.sendto(b'x', SOCKET)", "EPERM"),
    Attack("N04", "TCP fast open by sendmsg", _PAIR + "a.sendmsg([b'x'], [], 0x20000000)", "EPERM"),
    Attack("N10", "a pair of datagram sockets", "import socket; socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)", "EPERM"),
    Attack("N10", "a pair of packet sockets", "import socket; socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)", "EPERM"),
    Attack("N10", "connect a pair's end to a path", _PAIR + "a.connect(SOCKET)", "EPERM"),
    Attack("N10", "connect the channel to a path", "channel.connect(SOCKET)", "EPERM"),
    Attack("N12", "bind", _PAIR + "a.bind(DATA + '/s')", "EPERM"),
    Attack("N12", "listen", _PAIR + "a.listen()", "EPERM"),
    Attack("N12", "accept", _PAIR + "a.accept()", "EPERM"),
    # processes
    Attack("P01", "ptrace the host", "call(NR['ptrace'], 16, HOST, 0, 0)", "EPERM"),
    Attack("P01", "seize the host", "call(NR['ptrace'], 0x4206, HOST, 0, 0)", "EPERM"),
    Attack("P01", "be traced", "call(NR['ptrace'], 0, 0, 0, 0)", "EPERM"),
    Attack("P02", "read the host's memory", "call(NR['process_vm_readv'], HOST, 0, 0, 0, 0, 0)", "EPERM"),
    Attack("P02", "write the host's memory", "call(NR['process_vm_writev'], HOST, 0, 0, 0, 0, 0)", "EPERM"),
    Attack("P03", "kill another process", "import os; os.kill(VICTIM, 9)", "EPERM"),
    Attack("P03", "kill everything", "import os; os.kill(-1, 9)", "EPERM"),
    Attack("P03", "kill a process group", "import os; os.kill(0, 9)", "EPERM"),
    Attack("P03", "tgkill", "call(NR['tgkill'], VICTIM, VICTIM, 9)", "EPERM"),
    Attack("P03", "tkill", "call(NR['tkill'], VICTIM, 9)", "EPERM"),
    Attack("P03", "queue a signal", "call(NR['rt_sigqueueinfo'], VICTIM, 9, bytes(128))", "EPERM"),
    Attack("P03", "have signals sent by a descriptor", "import fcntl; fcntl.fcntl(0, fcntl.F_SETOWN, VICTIM)", "EPERM"),
    Attack("P04", "limit another process", "call(NR['prlimit64'], VICTIM, 0, bytes(16), 0)", "EPERM"),
    Attack("P04", "renice another process", "import os; os.setpriority(os.PRIO_PROCESS, VICTIM, 19)", "EPERM"),
    Attack("P04", "pin another process", "import os; os.sched_setaffinity(VICTIM, {0})", "EPERM"),
    Attack("P05", "open a process", "import os; os.pidfd_open(VICTIM)", "ENOSYS"),
    Attack("P05", "signal by pidfd", "call(NR['pidfd_send_signal'], 0, 9, 0, 0)", "EPERM"),
    Attack("P05", "take a descriptor", "call(NR['pidfd_getfd'], 0, 0, 0)", "EPERM"),
    Attack("P08", "fork", "import os; os.fork()", "EPERM"),
    Attack("P08", "vfork", "call(NR['vfork'])", "EPERM", "x86_64"),
    Attack("P09", "a subprocess", "import subprocess; subprocess.run(['/bin/true'])", "EPERM EACCES"),
    Attack("P09", "posix_spawn", "import os; os.posix_spawn('/bin/true', ['true'], {})", "EPERM EACCES"),
    Attack("P09", "the shell", "import os\nif os.system('true'): raise PermissionError(1, 'denied')", "EPERM"),
    Attack("P09", "exec", "import os; os.execv('/bin/true', ['true'])", "EPERM EACCES"),
    Attack("P09", "exec by descriptor", "call(NR['execveat'], 0, b'', 0, 0, 0x1000)", "EPERM"),
    Attack("P10", "a user namespace", "call(NR['unshare'], 0x10000000)", "EPERM"),
    Attack("P10", "enter a namespace", "call(NR['setns'], 0, 0)", "EPERM"),
    Attack("P10", "a thread in a user namespace", "call(NR['clone'], 0x10010900, 0, 0, 0, 0)", "EPERM"),
    Attack("P10", "clone3", "call(NR['clone3'], bytes(88), 88)", "ENOSYS"),
    Attack("P11", "be dumpable again", "call(NR['prctl'], 4, 1, 0, 0, 0)", "EPERM"),
    Attack("P11", "outlive the host", "call(NR['prctl'], 1, 0, 0, 0, 0)", "EPERM"),
    Attack("P12", "the 32-bit system calls", _MACHINE_CODE.format(code="b814000000cd80c3"), SIGSYS, "x86_64"),
    Attack("P12", "the x32 system calls", "call(0x40000000 | 39)", SIGSYS, "x86_64"),
    Attack("P13", "a system call newer than our table", "call(600)", "ENOSYS"),
    Attack("P13", "openat2", "call(NR['openat2'], -100, b'/etc/passwd', bytes(24), 24)", "ENOSYS"),
    Attack("P14", "type into a terminal", "import fcntl; fcntl.ioctl(0, 0x5412, b'x')", "EPERM"),
    # resources
    Attack("R01", "more private memory than granted", "bytearray(2 << 30)", "MemoryError"),
    Attack("R03", "descriptors without end", "import os\nwhile True: os.dup(0)", "EMFILE"),
    Attack("R04", "a thousand threads", "import threading\ne = threading.Event()\nfor _ in range(1000): threading.Thread(target=e.wait, daemon=True).start()", "RuntimeError"),
    Attack("R05", "a file of 200 MB", "f = open(DATA + '/big', 'wb', buffering=0)\nfor _ in range(200): f.write(bytes(1 << 20))", "EFBIG"),
    Attack("R07", "raise a limit", "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (4096, 4096))", "ValueError EPERM"),
    Attack("R11", "recursion without end", "def f(): f()\nf()", "RecursionError"),
]  # fmt: skip

# Denied whatever their arguments are.
CLOSED_CALLS = """
    acct add_key adjtimex bind bpf capset chroot clock_adjtime clock_settime connect delete_module execve execveat
    fanotify_init fchmod fchmodat fchown fchownat finit_module fsconfig fsetxattr fsmount fsopen fspick getxattr
    init_module inotify_init1 io_setup io_uring_enter io_uring_register io_uring_setup ioprio_set kcmp kexec_load keyctl
    landlock_create_ruleset lsetxattr mbind memfd_create memfd_secret migrate_pages mknodat mlockall mount mount_setattr
    move_mount move_pages mq_open msgget name_to_handle_at open_by_handle_at open_tree perf_event_open pidfd_getfd
    pidfd_send_signal pivot_root process_madvise process_mrelease process_vm_readv process_vm_writev ptrace quotactl
    reboot request_key rt_sigqueueinfo sched_setattr sched_setparam sched_setscheduler seccomp semget setdomainname
    setfsgid setfsuid setgid setgroups sethostname setns setpgid setpriority setregid setresgid setresuid setreuid setsid
    settimeofday setuid setxattr shmat shmget socket swapoff swapon sync syslog tkill umount2 unshare userfaultfd
    utimensat vhangup
"""

# What L1 does not stop (docs: confinement levels). Each must go on succeeding, or this list is out of date.
LEAKS = [
    Attack("F20", "learn a name and a size by stat", "import os; result = os.stat(SECRET).st_size", ""),
    Attack("F20", "learn a name by access", "import os; assert os.access(SECRET, os.F_OK)", ""),
    Attack("F20", "learn a directory by chdir", "import os; os.chdir(os.path.dirname(SECRET))", ""),
    Attack("F20", "hold a directory by O_PATH", "import os; os.open('/etc', os.O_PATH)", ""),
    Attack("R02", "shared memory beyond the grant", "import mmap\nm = mmap.mmap(-1, 256 << 20)\nfor i in range(0, len(m), 4096): m[i] = 1", ""),
    Attack("R06", "many files", "for i in range(500): open(f'{DATA}/{i}', 'w').close()", ""),
]  # fmt: skip
