"""What the kernel offers to confine guests: probes, and no promises beyond them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from ray_ext.cli.checking import Finding, Patient, check, fail, ok, skip
from ray_ext.errors import IsolationUnavailable
from ray_ext.sandbox import guarantees
from ray_ext.sandbox.landlock import MINIMUM_ABI
from ray_ext.sandbox.machine import require_confinement

__all__ = ["cgroup_delegation", "confinement", "landlock", "seccomp", "user_namespaces"]

_CLONE_NEWUSER = 0x10000000
_NOT_NEEDED = "not needed for L1, the level that this version confines to"
#: Ends with the error's number, 0 where it could be done.
_UNSHARE = f"""\
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
os._exit(libc.unshare({_CLONE_NEWUSER}) and ctypes.get_errno())
"""


@check("confinement", "Confinement")
def confinement(_: Patient) -> Finding:
    """The level that strict extensions get here."""
    try:
        found = require_confinement()
    except IsolationUnavailable as error:
        return fail(f"L0: {error.what}; strict extensions are refused", error.fix)
    return ok(f"{found.level}: Landlock and seccomp are there, on {found.machine} (found by asking the kernel)")


@check("landlock", "Landlock")
def landlock(_: Patient) -> Finding:
    """The kernel's access rules for files and ports."""
    abi = guarantees().landlock_abi
    if abi >= MINIMUM_ABI:
        return ok(f"ABI {abi} (asked for is {MINIMUM_ABI})")
    fix = "boot Linux 6.2 or newer with lsm=landlock,… and let the container's seccomp profile pass landlock_*"
    return fail(f"ABI {abi or 'none'} (asked for is {MINIMUM_ABI})", fix)


@check("seccomp", "System call filters")
def seccomp(_: Patient) -> Finding:
    """The kernel's filters of system calls."""
    if guarantees().seccomp:
        return ok("filters can kill a process")
    return fail("the kernel takes no filter that kills", "let the container's seccomp profile pass seccomp(2)")


@check("user-namespaces", "User namespaces")
def user_namespaces(_: Patient) -> Finding:
    """Whether this user may make one; tried in a process of its own."""
    tried = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _UNSHARE],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=4,
        check=False,
    )
    if tried.returncode == 0:
        return ok("one was made")
    why = os.strerror(tried.returncode) if tried.returncode in errno.errorcode else f"status {tried.returncode}"
    fix = "sysctl -w user.max_user_namespaces=15000 kernel.apparmor_restrict_unprivileged_userns=0  # as root"
    return skip(f"none can be made ({why}); {_NOT_NEEDED}", fix)


@check("cgroup-delegation", "Delegated cgroup")
def cgroup_delegation(_: Patient) -> Finding:
    """Whether memory limits could be set for guests through cgroup v2."""
    fix = "systemd-run --user --scope -p Delegate=yes ray-ext up"
    own = ""
    with suppress(OSError):
        own = next((line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line[:3] == "0::"), "")
    folder = Path("/sys/fs/cgroup") / own.lstrip("/")
    if not own or not (folder / "cgroup.controllers").is_file():
        return skip(f"cgroup v2 is not mounted where this process could use it; {_NOT_NEEDED}", fix)
    controllers = (folder / "cgroup.controllers").read_text().split()
    lacks = [] if os.access(folder, os.W_OK) else ["it cannot be written"]
    lacks += [] if "memory" in controllers else ["it has no memory controller"]
    if lacks:
        return skip(f"{folder} is not delegated: {' and '.join(lacks)}; {_NOT_NEEDED}", fix)
    return ok(f"{folder}, with {', '.join(controllers)}")
