"""Python, and the packages that the runtime itself runs with."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from importlib.machinery import BYTECODE_SUFFIXES
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ray_ext.cli.checking import Finding, Patient, check, command_line, fail, ok, skip, warn

__all__ = ["dependencies", "python_version", "ray_bytecode", "ray_version", "virtual_environment"]

_US = "ray-ext"
#: A version of Ray may bring files that are templates, which no compiler takes; of 2.60's 2,458 none is one.
_UNCOMPILED_SHARE = 0.05


@check("python-version", "Python")
def python_version(_: Patient) -> Finding:
    """The version that we ask for."""
    wanted = SpecifierSet(distribution(_US).metadata["Requires-Python"] or "")
    found = ".".join(map(str, sys.version_info[:3]))
    seen = f"Python {found} ({sys.executable})"
    if wanted.contains(found, prereleases=True):
        return ok(seen)
    return fail(f"{seen}; asked for is {wanted}", f"uv venv --python '{wanted}' && uv pip install ray-ext")


@check("virtual-environment", "Virtual environment")
def virtual_environment(_: Patient) -> Finding:
    """Packages of ours that nothing else changes."""
    if sys.prefix != sys.base_prefix:
        return ok(sys.prefix)
    return warn(
        f"{sys.prefix} is no virtual environment: other installations may change Ray's packages",
        "python3 -m venv .venv && .venv/bin/pip install ray-ext",
    )


@check("ray-version", "Ray's version")
def ray_version(_: Patient) -> Finding:
    """The Ray that we ask for; found without importing it."""
    wanted = next(each for each in _requirements() if each.name == "ray")
    problem = _problem(wanted)
    return fail(problem, _install(wanted)) if problem else ok(f"ray {version('ray')} (asked for is {wanted})")


@check("ray-bytecode", "Ray's bytecode")
def ray_bytecode(_: Patient) -> Finding:
    """Compiled: otherwise the first import in each place takes seconds, and 25 MB more memory."""
    # Does not import it: that would take a second.
    spec = importlib.util.find_spec("ray")
    if spec is None or not spec.submodule_search_locations:
        return skip("Ray is not installed")
    folder = Path(spec.submodule_search_locations[0])
    sources = compiled = 0
    suffix = f".{sys.implementation.cache_tag}{BYTECODE_SUFFIXES[0]}"
    for parent, folders, files in os.walk(folder):
        if os.path.basename(parent) == "__pycache__":
            compiled += sum(name.endswith(suffix) for name in files)
        sources += sum(name.endswith(".py") for name in files)
        # What Ray brings along for others is not imported.
        folders[:] = [name for name in folders if name not in ("thirdparty_files", "tests", "node_modules")]
    seen = f"{compiled} of {sources} modules compiled in {folder}"
    if compiled >= sources * (1 - _UNCOMPILED_SHARE):
        return ok(seen)
    return warn(seen, command_line(sys.executable, "-m", "compileall", "-q", "-j", "0", folder))


@check("dependencies", "Dependencies")
def dependencies(_: Patient) -> Finding:
    """Every package that we ask for, in a version that fits."""
    wanted = list(_requirements())
    problems = {each: problem for each in wanted if (problem := _problem(each))}
    if not problems:
        return ok(f"{len(wanted)} packages are there")
    return fail("; ".join(problems.values()), _install(*problems))


def _requirements() -> Iterator[Requirement]:
    for text in distribution(_US).requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def _problem(wanted: Requirement) -> str:
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return f"{wanted.name} is missing"
    return "" if wanted.specifier.contains(found, prereleases=True) else f"{wanted.name} is {found}, asked for {wanted}"


def _install(*wanted: Requirement) -> str:
    return command_line(sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable, *wanted)
