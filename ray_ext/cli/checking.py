"""Checks of a machine and its state home: what one is, how it is run, and which there are."""

from __future__ import annotations

import importlib
import pkgutil
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ray_ext.home import Home
    from ray_ext.runtime_record import RuntimeRecord

__all__ = [
    "Check",
    "Finding",
    "Patient",
    "Status",
    "check",
    "checks",
    "command_line",
    "fail",
    "ok",
    "run",
    "skip",
    "warn",
]

#: ``skip``: there is nothing to check here.
Status = Literal["ok", "warn", "fail", "skip"]

#: Groups, in the order in which they are run.
_GROUPS = ("python", "machine", "confinement", "home", "store", "runtime")
#: What a check gets unless it says otherwise, in seconds.
_LIMIT_S = 5.0
#: What reads files hangs where a file system does.
_LATE_FIX = "ps -eo pid,stat,wchan:32,args | grep ' D'  # what hangs, perhaps in a file system that does not answer"


class Patient:
    """What is examined: a state home, and the runtime that keeps it, if one is up."""

    def __init__(self, home: Home) -> None:
        self.home = home

    @cached_property
    def record(self) -> RuntimeRecord | None:
        """Of the runtime that is up; None where none is."""
        from ray_ext.runtime_record import read_record

        return read_record(self.home)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check saw. ``fix`` is a command for a shell that mends it, or advice where no command can."""

    status: Status
    evidence: str
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A check and its finding, as ``--json`` prints it."""

    id: str
    title: str
    status: Status
    evidence: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check. Its ``id`` is stable; what it raises becomes its finding, and so does that it does not end within
    ``limit_s``; ``late_fix`` is what to do then."""

    id: str
    title: str
    examine: Callable[[Patient], Finding]
    limit_s: float
    late_fix: str


def check(
    name: str, title: str, *, limit_s: float = _LIMIT_S, late_fix: str = _LATE_FIX
) -> Callable[[Callable[[Patient], Finding]], Check]:
    """Make the function the check with the id ``name``."""

    def decorate(function: Callable[[Patient], Finding]) -> Check:
        return Check(id=name, title=title, examine=function, limit_s=limit_s, late_fix=late_fix)

    return decorate


def ok(evidence: str) -> Finding:
    """All is well."""
    return Finding(status="ok", evidence=evidence)


def skip(evidence: str, fix: str = "") -> Finding:
    """There is nothing to check."""
    return Finding(status="skip", evidence=evidence, fix=fix)


def warn(evidence: str, fix: str) -> Finding:
    """It works, but not as well as it could, or not for long."""
    return Finding(status="warn", evidence=evidence, fix=fix)


def fail(evidence: str, fix: str) -> Finding:
    """Something does not work."""
    return Finding(status="fail", evidence=evidence, fix=fix)


def command_line(*words: object) -> str:
    """A command, to be pasted into a shell."""
    return shlex.join(map(str, words))


def checks() -> list[Check]:
    """All of them, in the order in which they make sense."""
    package = importlib.import_module("ray_ext.cli.checks")
    names = {each.name for each in pkgutil.iter_modules(package.__path__)}
    ordered = [name for name in _GROUPS if name in names] + sorted(names - set(_GROUPS))
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in ordered]
    return [each for module in modules for each in vars(module).values() if isinstance(each, Check)]


def run(patient: Patient, which: Iterable[Check]) -> Iterator[Result]:
    """The results as they come. A check that raises, or does not end in time, has failed; the others go on."""
    for each in which:
        finding = _examine(each, patient)
        yield Result(id=each.id, title=each.title, status=finding.status, evidence=finding.evidence, fix=finding.fix)


def _examine(each: Check, patient: Patient) -> Finding:
    found: list[Finding] = []

    def work() -> None:
        try:
            found.append(each.examine(patient))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the machine is the check's finding
            told = f"the check itself failed: {type(error).__name__}: {error}"
            found.append(fail(told, "see whether the evidence says why; if it does not, report it with this line"))

    began = time.monotonic()
    # A thread that hangs in a dead file system cannot be ended, only left.
    thread = threading.Thread(target=work, name=f"check-{each.id}", daemon=True)
    thread.start()
    thread.join(each.limit_s)
    if found:
        return found[0]
    return fail(f"no answer within {time.monotonic() - began:.0f} s", each.late_fix)
