"""The host's own look at a guest that says it is locked down: the kernel's word, not the guest's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ray_ext.errors import IsolationUnavailable
from ray_ext.sandbox.process import Process

__all__ = ["verify_confinement"]

_NO_CAPABILITIES: Final = f"{0:016x}"
_FILTER: Final = "2"  # SECCOMP_MODE_FILTER


def verify_confinement(process: Process, *, extension: str, is_privileged: bool) -> Mapping[str, str]:
    """What ``/proc/PID/status`` says of a confined guest (``proc(5)``), by its names there.

    ``is_privileged``: the host could empty the bounding set, so it must be empty. Raises IsolationUnavailable that
    names each fact that is not as it must be. Landlock shows nowhere in ``/proc``: the guest's own proof stands for it.
    """
    expected = {
        "PPid": str(process.parent_pid),
        "Threads": "1",
        "NoNewPrivs": "1",
        "Seccomp": _FILTER,
        "CapInh": _NO_CAPABILITIES,
        "CapPrm": _NO_CAPABILITIES,
        "CapEff": _NO_CAPABILITIES,
        "CapAmb": _NO_CAPABILITIES,
    }
    if is_privileged:
        expected["CapBnd"] = _NO_CAPABILITIES
    found = _status(process.pid)
    wrong = [
        f"{name} is {found.get(name, 'absent')}, must be {value}"
        for name, value in expected.items()
        if found.get(name) != value
    ]
    if wrong:
        raise IsolationUnavailable(
            f"the guest of {extension} is not confined: {'; '.join(wrong)}",
            where=f"/proc/{process.pid}/status",
            fix="report this: the guest said that it was locked down",
            details={"missing": wrong},
        )
    return {name: found[name] for name in expected}


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it died, or /proc is mounted with hidepid: either way nothing is verified
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
