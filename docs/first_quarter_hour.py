"""Write ``docs/first-quarter-hour.md`` from a session that really runs: ``python docs/first_quarter_hour.py``.

``tests/cli/test_first_quarter_hour.py`` runs it again and compares. What differs from run to run or from machine to
machine (process ids, times, hashes, ports, paths) is replaced by an example of its kind, the same each time.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).with_name("first-quarter-hour.md")

_HEAD = """\
# The first quarter of an hour

From nothing to an extension that is written, installed, called, upgraded and removed. The commands and
their output are those of a real session; `docs/first_quarter_hour.py` makes this page, and a test runs it again.
Process ids, times, hashes, ports and paths are examples.
"""


@dataclass(frozen=True)
class Step:
    """Some words, and what is typed after them. ``status`` is the exit status that it ends with; ``is_shown`` False:
    its output depends on the machine, and is left out."""

    words: str
    command: str
    status: int = 0
    is_shown: bool = True


_MANIFEST = """\
cat > greeter/extension.toml <<'END'
schema_version = 1
id = "greeter"
name = "Greeter"
version = "1.0.0"
description = "Greets people"
category = "platform.custom"
entry_point = "greeter:Greeter"

[configuration]
type = "object"
properties.word = { type = "string", default = "Hello" }
properties.token = { type = "string", writeOnly = true }
END"""

_PROJECT = """\
cat > greeter/pyproject.toml <<'END'
[project]
name = "greeter"
version = "1.0.0"
END"""

_CODE = """\
cat > greeter/src/greeter/__init__.py <<'END'
from ray_ext import Extension, exported


class Greeter(Extension):
    @exported
    async def greet(self, name: str) -> str:
        self.logger.info("greeting %s with token %s", name, self.config.get("token"))
        return f"{self.config['word']}, {name}"
END"""

STEPS = (
    Step(
        "Is this machine fit for it? Each check says what it saw, and how to mend it.", "ray-ext doctor", is_shown=False
    ),
    Step("Nothing runs yet, and every command says so.", "ray-ext list", status=5),
    Step("Start the runtime. A second `up` finds the first.", "ray-ext up"),
    Step("Write an extension: what it is,", f"mkdir -p greeter/src/greeter\n{_MANIFEST}"),
    Step("what it is called as a package,", _PROJECT),
    Step("and what it does.", _CODE),
    Step("What would installing it do? Nothing is changed by asking.", "ray-ext plan install ./greeter"),
    Step(
        "A configuration that does not fit is refused before anything happens.",
        "ray-ext install ./greeter --config '{\"word\": 5}'",
        status=3,
    ),
    Step("Each error has a code, and each code a page.", "ray-ext explain configuration-invalid"),
    Step("Now for good.", 'ray-ext install ./greeter --config \'{"token": "s3cr3t-token"}\''),
    Step("", "ray-ext list"),
    Step("Call it: by name,", 'ray-ext call greeter greet \'{"name": "Ada"}\''),
    Step("or by position.", "ray-ext call greeter greet '[\"Grace\"]'"),
    Step(
        "Wrong arguments and wrong names say what is right.", 'ray-ext call greeter greet \'{"nme": "Ada"}\'', status=3
    ),
    Step("", "ray-ext call greeter great '[\"Ada\"]'", status=3),
    Step("", "ray-ext call greter greet '[\"Ada\"]'", status=1),
    Step("What it logged. The secret of its configuration is not in it.", "ray-ext logs greeter --level info"),
    Step(
        "A new version.",
        "sed -i 's/1.0.0/1.1.0/' greeter/extension.toml greeter/pyproject.toml\n"
        "sed -i 's/, {name}/, dear {name}/' greeter/src/greeter/__init__.py\nray-ext upgrade greeter ./greeter",
    ),
    Step("", "ray-ext call greeter greet '[\"Ada\"]'"),
    Step("And back.", "ray-ext upgrade greeter 1.0.0"),
    Step("Who did what?", "ray-ext audit greeter"),
    Step("What should run, what does, and why they differ where they do.", "ray-ext status", is_shown=False),
    Step("Every verb prints JSON for scripts.", "ray-ext list --json"),
    Step("Take it away, and what nothing needs any more.", "ray-ext remove greeter --purge --yes"),
    Step("", "ray-ext gc"),
    Step("Stop the runtime. What is loaded then is loaded again by the next `up`.", "ray-ext down"),
)

#: What differs, and the example that stands for it.
_VOLATILE = (
    (r"\b[0-9a-f]{64}\b", "b2fdb00846cd" + "0" * 52),
    (r"\bsha256 [0-9a-f]{12}\b", "sha256 b2fdb00846cd"),
    (r"\b(plan|--plan) [0-9a-f]{12}\b", r"\1 40e024d6f37d"),
    (r"\bray_ext\.[0-9a-f]{12}\b", "ray_ext.5d41402abc4b"),
    (r"\b(pid|zygote) \d+", r"\1 4711"),
    (r"\bnode agent [0-9a-f]{8}\b", "node agent c5be1139"),
    (r"(?m)^Waiting for .*\n", ""),
    (r"\d{4}-\d\d-\d\d([ T])\d\d:\d\d:\d\d(\.\d+)?", r"2026-11-24\g<1>09:00:00\g<2>"),
    (r"(2026-11-24T09:00:00)\.\d+", r"\1.000"),
    (r'"(created_at|updated_at|ended_at)": [\d.]+', r'"\1": 1795510800.0'),
    (r"\b\d{1,3}(\.\d{1,3}){3}:\d+", "127.0.0.1:8265"),
    (r"\bFreed .*", "Freed 4.2 KiB."),
    (r"\b\d+\.\d+ s\b", "1.0 s"),
)


def transcript() -> str:
    """The page's text, from a session in a state home of its own."""
    root = Path(tempfile.mkdtemp(prefix="rx-"))
    try:
        return _HEAD + "".join(_section(step, root) for step in STEPS)
    finally:
        subprocess.run(["ray-ext", "down"], env=_environment(root), capture_output=True, check=False)
        shutil.rmtree(root)


def _environment(root: Path) -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    # Unbuffered: standard output and standard error come in the order in which they were written.
    return environment | {
        "RAY_EXT_HOME": str(root / "home"),
        "PATH": path,
        "PYTHONUNBUFFERED": "1",
        "USER": "ada",
        "LOGNAME": "ada",
        "COLUMNS": "120",
    }


def _section(step: Step, root: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", step.command],
        cwd=root,
        env=_environment(root),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode != step.status and step.is_shown:
        raise RuntimeError(f"{step.command} ended with {done.returncode}, not {step.status}:\n{done.stdout}")
    words = f"\n{step.words}\n" if step.words else ""
    output = _steady(done.stdout, root) if step.is_shown else "…\n"
    ending = f"(exit status {step.status})\n" if step.status else ""
    return f"{words}\n```console\n$ {step.command}\n{output}{ending}```\n"


def _steady(text: str, root: Path) -> str:
    text = text.replace(str(root / "home"), "~/.local/share/ray_ext").replace(str(root), "~")
    for pattern, example in _VOLATILE:
        text = re.sub(pattern, example, text)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


if __name__ == "__main__":
    PAGE.write_text(transcript(), encoding="utf-8")
