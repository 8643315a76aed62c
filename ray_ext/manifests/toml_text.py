"""TOML that nobody vouches for, parsed within bounds and with problems in words."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import re2

from ray_ext.manifests.problems import Problem, show

__all__ = ["TOML_BYTES", "parse_toml"]

TOML_BYTES = 256 * 1024
"""The size limit of a TOML file."""

_PARTS = 32
"""The limit of parts in a dotted key. The time tomllib takes grows with their square: 128,000 take hours."""

# RE2, because it takes linear time on every text. The strings' grammar is TOML 1.0's; a multi-line string may end in up
# to five quotes, the first of which belong to it.
_STRINGS_AND_COMMENTS = re2.compile(
    r'(?s)"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\[^\n])*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*"
)
_LONG_KEY = re2.compile(rf"(?:[A-Za-z0-9_-]+[ \t]*\.[ \t]*){{{_PARTS}}}")
_POSITION = re.compile(r"\(at line (\d+), column \d+\)$")


def parse_toml(data: bytes, file: str) -> dict[str, Any] | Problem:
    """The document, or the one problem that keeps it from being read; never raises."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = show(data[error.start : error.start + 1])
        return Problem(f"{file}:{line}", "", f"the byte {byte}", "TOML 1.0 in UTF-8", "save the file as UTF-8")
    if text.startswith("\ufeff"):
        return Problem(f"{file}:1", "", "a byte order mark", "TOML 1.0 in UTF-8", "save it without byte order mark")
    if _LONG_KEY.search(_STRINGS_AND_COMMENTS.sub("s", text)):
        allowed = f"dotted keys of at most {_PARTS} parts"
        return Problem(file, "", "a longer dotted key", allowed, "use fewer levels")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return _syntax_problem(str(error), file, last_line=text.rstrip().count("\n") + 1)
    except RecursionError:
        return Problem(file, "", "arrays or tables nested too deeply", "a few levels", "use fewer levels")
    except ValueError as error:  # dates that no calendar has, and numbers beyond Python's digit limit
        return Problem(file, "", show(str(error)), "TOML 1.0 in UTF-8", "correct this value")


def _syntax_problem(message: str, file: str, *, last_line: int) -> Problem:
    position = _POSITION.search(message)
    reason = _POSITION.sub("", message).replace("(at end of document)", "at the end of the file").strip()
    line = int(position[1]) if position else last_line
    return Problem(f"{file}:{line}", "", f"a syntax error: {show(reason)[1:-1]}", "TOML 1.0", "correct this line")
