"""The command line as a user has it, and projects to install with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray_ext.client.runtime import Runtime
from ray_ext.home import Home

#: Of the index of Python packages; the runtime has them in its environment.
CREDENTIALS = {"RX_INDEX_NAME": "me", "RX_INDEX_PASSWORD": "s3cret"}


class Cli:
    """Runs ``ray-ext`` with one state home, and without Ray's variables of this process."""

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None) -> None:
        self.home = Home(home)
        self._started: list[subprocess.Popen[str]] = []
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        self.environment |= {"RAY_EXT_HOME": str(home), **(environment or {})}

    @staticmethod
    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "ray_ext.cli.main", *arguments]

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def ok(self, *arguments: str, stdin: str = "") -> str:
        """Standard output of what must succeed."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def note(self, *arguments: str) -> str:
        """Standard error of what must succeed and has no data."""
        done = self.run(*arguments)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        return done.stderr

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A process in a group of its own, to which signals go as a terminal sends them."""
        process = subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def end_started(self) -> None:
        """Kill what was started and is still there, as after a test that failed."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.communicate()
        self._started.clear()

    def data(self, kind: str, *arguments: str) -> Any:
        """The data of what must succeed and print JSON of this kind."""
        document = json.loads(self.ok(*arguments, "--json"))
        assert (document["shape"], document["kind"]) == (1, kind)
        return document["data"]

    def refused(self, status: int, *arguments: str) -> str:
        """Standard error of what must end with this status and print no data."""
        done = self.run(*arguments)
        assert (done.returncode, done.stdout) == (status, ""), done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr


def write_project(folder: Path, extension: str, version: str = "1.0.0", more: str = "", code: str = "") -> str:
    """The path of a project folder; ``more`` is appended to its manifest, ``code`` to its class."""
    project = folder / f"{extension}-{version}"
    package = project / extension
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from ray_ext import Extension, exported\n"
        "class Example(Extension):\n"
        "    @exported\n"
        "    async def version(self) -> str:\n"
        f"        return {version!r}\n{textwrap.indent(textwrap.dedent(code), '    ')}"
    )
    (project / "pyproject.toml").write_text(f'[project]\nname = "{extension}"\nversion = "{version}"\n')
    (project / "extension.toml").write_text(
        f'schema_version = 1\nid = "{extension}"\nname = "{extension}"\nversion = "{version}"\n'
        f'category = "platform.custom"\nentry_point = "{extension}:Example"\n{more}'
    )
    return str(project)


def states(runtime: Runtime, *extensions: str) -> list[str]:
    """The states of these extensions."""
    found = {view.id: view.state for view in runtime.list()}
    return [found.get(each, "not installed") for each in extensions]


def await_true(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Wait until it holds."""
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)
