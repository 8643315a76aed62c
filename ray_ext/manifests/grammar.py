"""The grammars of a manifest's strings, as pure functions: each returns the value or raises :class:`Unfit`."""

from __future__ import annotations

import keyword
import math
import re
import sys

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

__all__ = [
    "RESERVED_MODULES",
    "Unfit",
    "check_entry_point",
    "check_env_name",
    "check_env_value",
    "check_id",
    "check_requirement",
    "check_specifier",
    "check_version",
    "duration_s",
    "size_bytes",
]

RESERVED_MODULES = frozenset(sys.stdlib_module_names) | {
    "ray_ext", "msgspec", "sitecustomize", "usercustomize", "__main__",
}  # fmt: skip
"""Top-level modules that an extension may not bring: they would replace the ones that the guest itself runs on."""

_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_DOTTED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?(B|KiB|MiB|GiB|KB|MB|GB)")
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(ms|s|m|h)")
_SIZE_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

_MEMORY_BOUNDS = (2**20, 2**44)
_DURATION_BOUNDS = (0.001, 7 * 86_400.0)

# What decides how the interpreter and the loader behave belongs to the sandbox, not to the extension.
_ENV_PREFIXES = ("PYTHON", "LD_", "DYLD_", "MALLOC_", "RAY_", "OPENSSL_")
_ENV_NAMES = frozenset({"PATH", "HOME", "GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH", "BASH_ENV", "ENV", "IFS"})


class Unfit(ValueError):
    """A value does not follow its grammar: ``allowed`` says what does, ``fix`` what to write instead.

    ``key`` is set by rules about several fields, and names the one to change.
    """

    def __init__(self, allowed: str, fix: str, *, key: tuple[str | int, ...] = ()) -> None:
        super().__init__(allowed)
        self.allowed = allowed
        self.fix = fix
        self.key = key


def check_id(value: str) -> str:
    """An extension's id: a normalised distribution name (PEP 503), at most 64 characters."""
    if len(value) <= 64 and _ID.fullmatch(value):
        return value
    normal = canonicalize_name(value[:64])
    fix = f'write "{normal}"' if _ID.fullmatch(normal) else 'write a name such as "github-triage"'
    raise Unfit("a normalised distribution name: a-z, 0-9 and single dashes, at most 64 characters", fix)


def check_version(value: str) -> str:
    """A version (PEP 440), at most 100 characters; the text is kept as written."""
    try:
        if len(value) <= 100 and value == value.strip():
            Version(value)
            return value
    except InvalidVersion:
        pass
    raise Unfit("a version by PEP 440, such as 1.2.0 or 2.0rc1", 'write it like "1.2.0"')


def check_specifier(value: str) -> str:
    """A set of version specifiers (PEP 440); empty means any version."""
    try:
        if len(value) <= 200 and value.isprintable():
            SpecifierSet(value)
            return value
    except InvalidSpecifier:
        pass
    raise Unfit("version ranges by PEP 440, separated by commas", 'write it like ">=1.2,<2"')


def check_entry_point(value: str) -> str:
    """``module:Class``, where the module's first part is no module of the standard library or of the runtime."""
    module, colon, name = value.partition(":")
    names = [*module.split("."), name]
    if len(value) > 200 or not (colon and _DOTTED.fullmatch(module) and _DOTTED.fullmatch(name)) or "." in name:
        raise Unfit("module:Class", 'write it like "github_triage:Triage"')
    if any(keyword.iskeyword(part) for part in names):
        raise Unfit("module:Class without Python keywords", "rename the module or class")
    if names[0] in RESERVED_MODULES:
        raise Unfit(
            "a module that is neither the standard library's nor the runtime's", f"rename the package {names[0]}"
        )
    return value


def check_requirement(value: str) -> str:
    """A requirement by PEP 508 without URL, options, paths and environment expansion."""
    allowed = "a requirement by PEP 508 without URL, option, path or environment variable"
    if len(value) > 500 or not value.isprintable() or "$" in value or value.lstrip().startswith("-"):
        raise Unfit(allowed, 'write a name and a version range, such as "pyyaml>=6"')
    try:
        requirement = Requirement(value)
    except (InvalidRequirement, RecursionError):
        raise Unfit(allowed, 'write a name and a version range, such as "pyyaml>=6"') from None
    if requirement.url is not None:
        raise Unfit(allowed, f'write a name and a version range, such as "{requirement.name}>=1"')
    return value


def check_env_name(value: str) -> str:
    """A name that an extension may set in its environment."""
    if not _ENV_NAME.fullmatch(value) or len(value) > 200:
        raise Unfit("letters, digits and underscores, not starting with a digit", "rename the variable")
    if value.startswith(_ENV_PREFIXES) or value in _ENV_NAMES:
        raise Unfit(
            "variables that do not change the interpreter, the loader or Ray "
            "(none of PYTHON*, LD_*, DYLD_*, MALLOC_*, OPENSSL_*, RAY_*, PATH, HOME, GLIBC_TUNABLES, ...)",
            "remove it",
        )
    return value


def check_env_value(value: str) -> str:
    """The value of an environment variable: at most 32 KiB, no NUL."""
    if "\0" in value or len(value) > 32_768:
        raise Unfit("text without NUL, at most 32768 characters", "shorten it, or remove the NUL")
    return value


def size_bytes(value: object) -> int:
    """A size in bytes, from a number of bytes or from a text with a unit (KiB, MiB, GiB, KB, MB, GB, B).

    >>> size_bytes("64MiB"), size_bytes(1_048_576)
    (67108864, 1048576)
    """
    allowed = "bytes as a whole number, or a number with KiB, MiB, GiB, KB, MB or GB; from 1 MiB to 16 TiB"
    size: float | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        number, unit = match.groups()
        size = (int(number) if "." not in number else float(number)) * _SIZE_UNITS[unit]
    if size is None or not _MEMORY_BOUNDS[0] <= size <= _MEMORY_BOUNDS[1]:
        raise Unfit(allowed, 'write it like "64MiB"')
    return int(size)


def duration_s(value: object) -> float:
    """A duration in seconds, from a number of seconds or from a text with a unit (ms, s, m, h).

    >>> duration_s("10s"), duration_s(0.5), duration_s("2m")
    (10.0, 0.5, 120.0)
    """
    seconds: float | None = None
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9:
        seconds = float(value)
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        seconds = float(match[1]) * _DURATION_UNITS[match[2]]
    if seconds is None or math.isnan(seconds) or not _DURATION_BOUNDS[0] <= seconds <= _DURATION_BOUNDS[1]:
        raise Unfit("seconds as a number, or a number with ms, s, m or h; from 1 ms to 7 days", 'write it like "10s"')
    return seconds
