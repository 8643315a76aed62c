"""One problem of a file, in words: where, what was found, what is allowed, and the fix."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

from ray_ext.errors import RayExtError

__all__ = ["SECRET", "Problem", "did_you_mean", "key_path", "raise_problems", "show"]

SECRET = "<secret>"
"""What stands in for the value of a ``writeOnly`` property wherever a value is shown."""

_SHOWN_AT_MOST = 50
"""Problems listed in one error; a reader fixes the first ones and asks again."""

_repr = reprlib.Repr()
_repr.maxstring = 80
_repr.maxother = 80
_repr.maxlevel = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong in one place.

    ``file`` names the file (``extension.toml``, with ``:LINE`` for syntax errors), ``key`` the path in it
    (``resources.memory``; empty for the file as a whole), ``found`` what stands there, ``allowed`` what may stand
    there and ``fix`` what to do.

    >>> print(Problem("extension.toml", "resources.cpus", "-1", "a number from 0 to 1024", "write cpus = 0.1"))
    extension.toml: resources.cpus: found -1; allowed: a number from 0 to 1024; fix: write cpus = 0.1
    """

    file: str
    key: str
    found: str
    allowed: str
    fix: str

    def __str__(self) -> str:
        place = f"{self.file}: {self.key}" if self.key else self.file
        return f"{place}: found {self.found}; allowed: {self.allowed}; fix: {self.fix}"


def show(value: object) -> str:
    """A bounded representation of a value; never longer than about two hundred characters.

    >>> show("x" * 1000)[:10], len(show("x" * 1000)) < 200
    ("'xxxxxxxxx", True)
    """
    try:
        text = _repr.repr(value)
    except ValueError:  # an integer beyond sys.get_int_max_str_digits()
        return "a number with thousands of digits"
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= 200 else f"{text[:197]}..."


def key_path(parts: Iterable[str | int]) -> str:
    """The path of a key as TOML writes it; list positions in brackets.

    >>> key_path(["events", "triage.labelled", "required", 0])
    'events."triage.labelled".required[0]'
    """
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        is_bare = part != "" and part.isascii() and part.replace("-", "_").replace("$", "_").isidentifier()
        name = part if is_bare else f'"{show(part)[1:-1]}"'
        text += f".{name}" if text else name
    return text


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The fix for an unknown name: the nearest known one, or its removal."""
    nearest = get_close_matches(name[:200], known, n=1, cutoff=0.6)
    return f"write {nearest[0]}" if nearest else "remove it"


def raise_problems(error: type[RayExtError], subject: str, problems: Sequence[Problem]) -> NoReturn:
    """Raise ``error`` with all the problems in its text and, one text for each, in ``details["problems"]``."""
    texts = [str(problem) for problem in problems[:_SHOWN_AT_MOST]]
    if len(problems) > _SHOWN_AT_MOST:
        texts.append(f"and {len(problems) - _SHOWN_AT_MOST} more")
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    listed = "\n".join(f"  - {text}" for text in texts)
    raise error(f"{subject} has {count}:\n{listed}", details={"problems": texts})
