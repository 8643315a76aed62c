"""Completion as a real bash does it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ray_ext.cli.completing import PATIENCE_S
from ray_ext.cli.group import verb_names
from ray_ext.client.runtime import Runtime
from ray_ext.control.socket_file import bind_socket
from ray_ext.explanations import explanations
from ray_ext.home import Home
from ray_ext.runtime_record import RuntimeLock
from tests.cli.command_line import Cli, write_project

#: What bash does at the tab key, for a cursor behind the last word.
_TAB = """
eval "$(ray-ext completion bash)"
complete -p ray-ext >/dev/null || exit 9
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_ray_ext_completion ray-ext
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(cli: Cli, *words: str) -> list[str]:
    """What is offered for the last of the words."""
    environment = cli.environment | {"PATH": f"{Path(sys.executable).parent}:{cli.environment['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", _TAB, "bash", "ray-ext", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.fixture
def offline(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "home")


def test_verbs_options_and_what_is_known_without_a_runtime_complete(offline: Cli) -> None:
    assert completed(offline, "expl") == ["explain"]
    assert sorted(completed(offline, "")) == sorted(verb_names())
    assert completed(offline, "explain", "plan-") == ["plan-stale"]
    assert completed(offline, "explain", "") == list(explanations())
    assert completed(offline, "doctor", "store", "home-r") == ["home-rights"]
    assert completed(offline, "completion", "") == ["bash", "zsh", "fish"]
    assert "--json" in completed(offline, "list", "--")
    assert set(completed(offline, "plan", "l")) == {"load"}


def test_without_a_runtime_there_is_nothing_to_complete_and_nothing_to_say(offline: Cli) -> None:
    assert completed(offline, "show", "") == []
    assert not offline.home.root.exists()


def test_a_runtime_that_does_not_answer_is_not_waited_for(offline: Cli) -> None:
    assert PATIENCE_S < 0.5
    home = Home(offline.home.root)
    home.ensure()
    lock = RuntimeLock(home)
    assert lock.acquire()
    # Accepts connections, and never says a word: without the limit the shell would hang for half a minute.
    with bind_socket(home.run):
        environment = offline.environment | {"_RAY_EXT_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
        done = subprocess.run(
            offline.command(),
            env=environment | {"COMP_WORDS": "ray-ext show "},
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    lock.release()
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_says_how_to_install_it(offline: Cli, shell: str) -> None:
    script = offline.ok("completion", shell)
    assert f"ray-ext completion {shell}" in script
    assert f"{shell}_complete" in script
    # zsh finds its own mark in the first line only.
    assert script.startswith("#compdef ray-ext\n") == (shell == "zsh")
    assert offline.data("completion", "completion", shell)["script"] == script.removesuffix("\n")


def test_ids_methods_and_versions_of_what_is_installed_complete(cli: Cli, runtime: Runtime, tmp_path: Path) -> None:
    runtime.install(write_project(tmp_path, "tabbed"))
    runtime.install(write_project(tmp_path, "tabby"), load=False)
    for verb in ("show", "load", "unload", "upgrade", "remove", "call", "logs", "yank", "forget", "releases", "audit"):
        assert completed(cli, verb, "tab") == ["tabbed", "tabby"], verb
        assert completed(cli, verb, "tabbe") == ["tabbed"], verb
    assert completed(cli, "plan", "load", "tabby") == ["tabby"]
    assert completed(cli, "rm", "tabbe") == ["tabbed"]
    assert completed(cli, "call", "tabbed", "ver") == ["version"]
    assert completed(cli, "call", "nobody", "") == []
    assert completed(cli, "yank", "tabby", "") == ["1.0.0"]
    runtime.remove("tabbed")
    assert completed(cli, "show", "tab") == ["tabby"]
