"""Named places where a test ends the process with SIGKILL: before and after every commit of the store."""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Literal, get_args

__all__ = ["VARIABLE", "Point", "Verb", "names", "reach"]

#: The environment variable that names the failpoint to die at: ``install.before-commit``, or with ``:3`` appended to
#: die there the third time. Unset, failpoints do nothing.
VARIABLE = "RAY_EXT_FAILPOINT"

#: Every kind of write; ``back-up`` is the file's copy that a migration makes first.
Verb = Literal[
    "open",
    "back-up",
    "migrate",
    "register",
    "yank",
    "unyank",
    "forget-release",
    "install",
    "remove",
    "set-desired",
    "next-generation",
    "next-epoch",
    "put-route",
    "retire",
    "begin-operation",
    "advance-operation",
    "finish-operation",
    "restore",
    "record",
]
Point = Literal["before-commit", "after-commit"]

_reached: Counter[str] = Counter()


def names() -> list[str]:
    """Every failpoint."""
    return [f"{verb}.{point}" for verb in get_args(Verb) for point in get_args(Point)]


def reach(verb: Verb, point: Point) -> None:
    """End this process here and now, if the environment says so."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    name, _, count = wanted.partition(":")
    if name == f"{verb}.{point}":
        _reached[name] += 1
        if _reached[name] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)
