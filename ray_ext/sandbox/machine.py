"""What this machine can promise: probes of the kernel, without spawning anything."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ray_ext.errors import IsolationUnavailable
from ray_ext.sandbox import kernel, landlock, seccomp

__all__ = ["Confinement", "can_empty_bounding_set", "guarantees", "require_confinement"]

_CAP_SETPCAP: Final = 8


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """The isolation level that this machine reaches, and what is missing for the next.

    ``level`` is ``L1`` (Landlock and seccomp) or ``L0`` (strict extensions are refused).
    """

    level: str
    landlock_abi: int
    seccomp: bool
    machine: str
    missing: tuple[str, ...]


def guarantees() -> Confinement:
    """Probe this machine; costs microseconds, and changes nothing."""
    machine = os.uname().machine
    abi = kernel.landlock_abi()
    has_seccomp = kernel.seccomp_kills()
    missing = []
    if not seccomp.is_supported(machine):
        missing.append(f"system call table for {machine}")
    if abi < landlock.MINIMUM_ABI:
        missing.append(f"Landlock ABI {landlock.MINIMUM_ABI} (found {abi or 'none'})")
    if not has_seccomp:
        missing.append("seccomp filters")
    return Confinement(
        level="L0" if missing else "L1",
        landlock_abi=abi,
        seccomp=has_seccomp,
        machine=machine,
        missing=tuple(missing),
    )


def require_confinement() -> Confinement:
    """The same, or IsolationUnavailable that names what is missing."""
    found = guarantees()
    if found.missing:
        raise IsolationUnavailable(
            f"this machine cannot confine an extension: it lacks {', '.join(found.missing)}",
            where=f"{os.uname().sysname} {os.uname().release}, {found.machine}",
            fix="run on Linux 6.2 or newer with Landlock enabled (boot option lsm=landlock,...), and in a container"
            ' whose seccomp profile allows landlock_* and seccomp; or grant isolation = "trusted"',
            details={"missing": list(found.missing), "level": found.level},
        )
    return found


def can_empty_bounding_set() -> bool:
    """Whether this thread holds CAP_SETPCAP, which emptying the bounding set and setting securebits take."""
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> _CAP_SETPCAP & 1)
    return False
