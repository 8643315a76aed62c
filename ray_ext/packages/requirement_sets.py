"""Sets of Python requirements: normalised as they are asked for, and locked to versions and hashes once resolved."""

from __future__ import annotations

import hashlib
import re
import sys
import sysconfig
from collections.abc import Sequence

from msgspec import Struct
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ray_ext.errors import EnvironmentFailed
from ray_ext.manifests.grammar import Unfit, check_requirement
from ray_ext.manifests.problems import show

__all__ = ["Lock", "lock_of", "normalised"]

_LAYOUT = 1
"""Part of every digest: grows when an environment built from the same lock would look different."""

_LINE = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)==[a-z0-9.!+]+(?: --hash=sha256:[0-9a-f]{64})+")
_PYTHON = str(sys.implementation.cache_tag)
_PLATFORM = sysconfig.get_platform()


class Lock(Struct, frozen=True, kw_only=True):
    """A resolved set of requirements for one kind of Python: every package, its version and its files' hashes.

    ``requirements`` has one line ``name==version --hash=sha256:...`` for each package, in order; it names no index and
    no place. ``python`` is a tag such as ``cpython-311``, ``platform`` one such as ``linux-x86_64``. Plain data for
    JSON; raises ValueError for any other text, so that a stored lock can carry no options.
    """

    requirements: str
    python: str
    platform: str

    def __post_init__(self) -> None:
        lines = self.requirements.splitlines()
        names = [line.partition("==")[0] for line in lines]
        if names != sorted(set(names)) or self.requirements != "".join(f"{line}\n" for line in lines):
            raise ValueError("a lock names each package once, in order, a line each")
        for line in lines:
            if not _LINE.fullmatch(line):
                raise ValueError(f"a lock's lines are name==version --hash=sha256:..., not {show(line)}")

    @property
    def digest(self) -> str:
        """The lock's identity, a sha256 in hexadecimal."""
        return hashlib.sha256(f"{_LAYOUT}\0{self.python}\0{self.platform}\0{self.requirements}".encode()).hexdigest()

    @property
    def packages(self) -> tuple[str, ...]:
        """``name==version`` of each package, in order."""
        return tuple(line.partition(" ")[0] for line in self.requirements.splitlines())

    @property
    def is_for_this_python(self) -> bool:
        """Whether this interpreter's guests can use it."""
        return (self.python, self.platform) == (_PYTHON, _PLATFORM)


def lock_of(compiled: str) -> Lock:
    """The lock in a requirements file with hashes, as uv writes it for this Python; raises ValueError."""
    lines = []
    for line in compiled.replace("\\\n", " ").splitlines():
        pinned, *hashes = line.split()
        lines.append(" ".join([pinned, *sorted(set(hashes))]))
    lines.sort(key=lambda line: line.partition("==")[0])
    return Lock(requirements="".join(f"{line}\n" for line in lines), python=_PYTHON, platform=_PLATFORM)


def normalised(requirements: Sequence[str]) -> tuple[str, ...]:
    """The requirements in one spelling, in order, each once.

    Raises EnvironmentFailed, naming all that are no plain requirements by PEP 508 (URLs, paths, options, ``===``).
    """
    normal, problems = set(), []
    for text in requirements:
        try:
            normal.add(_normalised(text))
        except Unfit as error:
            problems.append(f"found {show(text)}; allowed: {error.allowed}; fix: {error.fix}")
    if problems:
        raise EnvironmentFailed(
            f"these are no requirements: {'; '.join(problems)}",
            fix="correct runtime_env.pip",
            details={"requirements": [show(text)[1:-1] for text in requirements], "cause": "\n".join(problems)},
        )
    return tuple(sorted(normal))


def _normalised(text: str) -> str:
    requirement = Requirement(check_requirement(text))
    if any(specifier.operator == "===" for specifier in requirement.specifier):
        raise Unfit("versions by PEP 440, compared with ==, !=, ~=, <, <=, > or >=", "write == in place of ===")
    # uv would take a name such as x.whl for a file.
    requirement.name = canonicalize_name(requirement.name)
    requirement.extras = {canonicalize_name(extra) for extra in requirement.extras}
    return str(requirement)
