"""Run uv for environments: resolve and lock requirements, install a lock into a folder, and compile what is there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal

from uv import find_uv_bin

from ray_ext.packages.environment_sources import Sources
from ray_ext.packages.requirement_sets import Lock, lock_of

__all__ = ["FREE_SPACE", "Progress", "Report", "Unbuildable", "Uv", "compile_sources", "ignore"]

_UV_S = 1800
_COMPILE_S = 600
_SHOWN_LINES = 40

# With limits, as unpacking.py compiles extensions: a source may make the compiler take any time and memory. Unchecked
# hashes spare the guest reading sources, whose content the environment's index vouches for.
_COMPILE = f"""
import compileall, py_compile, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
resource.setrlimit(resource.RLIMIT_CPU, ({_COMPILE_S}, {_COMPILE_S}))
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
compileall.compile_dir(sys.argv[1], quiet=2, stripdir=sys.argv[1], invalidation_mode=mode)
"""

Stage = Literal["resolve", "download", "install", "compile", "verify", "done"]

# What uv's configuration may add to its output, and a lock has no room for.
_EMITTED = ("index-url", "find-links", "build-options", "index-annotation")
_DOWNLOADING = ("Downloading ", "Downloaded ", "Prepared ")
_INSTALLING = ("Installed ", "+ ")
# uv's marks have changed: "error:" and "cause:", before that a cross (U+00D7), arrows and lines.
_MARKS = re.compile(r"^(?:[\s\u00d7\u2500-\u25ff]|(?:error|Caused by|cause|hint): )+")

FREE_SPACE = "free space where environments are kept, then try again"
"""What to do about a full disk."""

_FIXES = (
    (r"SIGKILL", f"see whether the machine is out of memory, or why it took more than {_UV_S} s"),
    (r"no space left|file too large|quota exceeded|SIGXFSZ", FREE_SPACE),
    (r"read-only file system|permission denied", "make that folder one that can be written, then try again"),
    (
        r"authentication|\b40[13] (?:unauthorized|forbidden)",
        "give the index's credentials: an index URL such as https://user:${NAME}@index.example.org/simple, and NAME in "
        "the environment",
    ),
    (
        r"no usable wheels|no wheels|building from source",
        "only wheels are installed: ask for a version that has one for this Python and platform, or build one and give "
        "its folder with --find-links",
    ),
    (
        r"failed to fetch|network was disabled|error sending request|timed out",
        "make an index reachable (its URL, the proxy), or give a folder that has all wheels with --find-links",
    ),
    (r"hash mismatch", "the source has other files than were locked: resolve the requirements again"),
    (
        r"no solution|not found",
        "correct the requirements, or give a source that has them: an index URL, or a folder of wheels with "
        "--find-links",
    ),
)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a build is doing: its stage, and a line about it for a terminal, without secrets."""

    stage: Stage
    text: str


Report = Callable[[Progress], None]
"""Called with each step, in the thread that builds; what it raises ends the build."""


def ignore(progress: Progress) -> None:
    """The report of who does not want any."""


class Unbuildable(Exception):  # internal: EnvironmentCache adds what was asked for
    """Requirements cannot be resolved or installed: the ``cause``, and what to do."""

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.fix = fix


class Unreachable(Unbuildable):
    """No index answers."""


class Uv:
    """uv with one cache of downloads, its packages from some sources.

    Every process that it starts holds the descriptors ``held`` open: when the builder is killed, its locks last until
    the orphan has ended, too.
    """

    def __init__(self, cache: Path, sources: Sources, held: Sequence[int]) -> None:
        self._cache = cache
        self._sources = sources
        self._held = held

    def lock(self, requirements: Sequence[str], report: Report) -> Lock:
        """Resolve normalised requirements for this Python; raises Unbuildable."""
        report(Progress("resolve", ", ".join(requirements)))
        plain = ("--no-header", "--no-annotate", "--no-universal", *(f"--no-emit-{what}" for what in _EMITTED))
        compiled = self._run(["compile", "-", "--generate-hashes", *plain], "\n".join(requirements), report)
        try:
            return lock_of(compiled)
        except ValueError as error:
            raise Unbuildable(
                f"uv's answer is no lock: {self._sources.redacted(str(error))}",
                "remove options from uv's configuration that change its output",
            ) from None

    def install(self, lock: Lock, folder: Path, report: Report) -> None:
        """Install exactly the locked packages into a folder, as copies; raises Unbuildable."""
        report(Progress("download", f"packages: {len(lock.packages)}"))
        # Copies: what is linked to the cache changes with it, and its permissions are shared.
        how = ("--require-hashes", "--no-deps", "--link-mode", "copy", "--no-compile-bytecode")
        self._run(["install", "-r", "-", "--target", str(folder), *how], lock.requirements, report)

    def forget(self, lock: Lock) -> None:
        """Remove the locked packages from the cache of downloads; raises Unbuildable."""
        names = [package.partition("==")[0] for package in lock.packages]
        self._uv(["cache", "clean", "--cache-dir", str(self._cache), *names], "", ignore)

    def _run(self, arguments: Sequence[str], text: str, report: Report) -> str:
        for folder in self._sources.find_links:
            if not folder.is_dir():
                raise Unbuildable(f"{folder} is no folder", "give --find-links an existing folder of wheels")
        options = ["--only-binary", ":all:", "--python", _interpreter(), "--cache-dir", str(self._cache)]
        command = ["pip", *arguments, *options]
        try:
            return self._uv([*command, *self._sources.uv_options()], text, report)
        except Unreachable:
            if not self._sources.find_links:
                raise
            # uv asks the index for everything, also for what lies in a folder.
            report(Progress("download", "no index is within reach: looking into the folders of wheels alone"))
            with suppress(Unbuildable):
                return self._uv([*command, *replace(self._sources, is_offline=True).uv_options()], text, report)
            raise

    def _uv(self, arguments: Sequence[str], text: str, report: Report) -> str:
        """The output of a uv command, ``text`` on its input; its lines are reported as they come."""
        lines: deque[str] = deque(maxlen=_SHOWN_LINES)
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
            given.write(text.encode())
            given.seek(0)
            process = self._start([*arguments, "--color", "never", "--no-progress"], given, output)
            timer = threading.Timer(_UV_S, process.kill)
            with process:
                timer.start()
                try:
                    for line in process.stderr or ():
                        lines.append(self._sources.redacted(line.rstrip()))
                        _tell(lines[-1].strip(), report)
                except BaseException:
                    process.kill()
                    raise
                finally:
                    timer.cancel()
            if process.returncode:
                raise _failure(list(lines), process.returncode)
            output.seek(0)
            return output.read().decode()

    def _start(self, arguments: Sequence[str], given: IO[bytes], output: IO[bytes]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [find_uv_bin(), *arguments],
            stdin=given,
            stdout=output,
            stderr=subprocess.PIPE,
            pass_fds=self._held,
            env=self._sources.uv_environment(),
            cwd="/",  # uv takes the uv.toml or pyproject.toml of a project that it is run in
            encoding="utf-8",
            errors="replace",
        )


def compile_sources(folder: Path, held: Sequence[int], report: Report) -> None:
    """Compile every source below a folder that can be; what cannot is compiled by each guest that imports it."""
    report(Progress("compile", "bytecode"))
    command = [_interpreter(), "-I", "-S", "-B", "-c", _COMPILE, str(folder)]
    quiet = subprocess.DEVNULL
    try:
        done = subprocess.run(
            command, check=False, timeout=_COMPILE_S, stdin=quiet, stdout=quiet, stderr=quiet, env={}, pass_fds=held
        )
        is_whole = done.returncode == 0
    except subprocess.TimeoutExpired:
        is_whole = False
    if not is_whole:
        report(Progress("compile", "the compiler was stopped by a source; first imports will be slower"))


def _interpreter() -> str:
    """The interpreter that guests run."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def _tell(line: str, report: Report) -> None:
    if line.startswith(_DOWNLOADING):
        report(Progress("download", line))
    elif line.startswith(_INSTALLING):
        report(Progress("install", line))


def _failure(lines: list[str], status: int) -> Unbuildable:
    """What uv says is wrong: from its first error on, without its marks."""
    starts = [index for index, line in enumerate(lines) if line.startswith(("error:", "  \u00d7"))]
    said = [text for line in lines[starts[0] if starts else 0 :] if (text := _MARKS.sub("", line))]
    cause = "; ".join(said) or "uv said nothing"
    if status < 0:
        cause = f"uv was ended by {signal.Signals(-status).name}; {cause}"
    kind = Unreachable if re.search("error sending request|timed out", cause) else Unbuildable
    for pattern, fix in _FIXES:
        if re.search(pattern, cause, re.IGNORECASE):
            return kind(cause, fix)
    return Unbuildable(cause, "remove the cause, then try again")
