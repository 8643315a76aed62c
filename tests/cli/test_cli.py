"""The command line as a user has it: a process of its own, a state home of its own."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_ext.client.leftovers import processes_of
from ray_ext.runtime_record import read_record
from tests.cli.command_line import Cli


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    home = Path(tempfile.mkdtemp(prefix="rx-"))
    cli = Cli(home)
    yield cli
    cli.run("down")
    assert processes_of(cli.home) == []
    assert not cli.home.ray_temp.exists()
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("greeter")
    (folder / "greeter").mkdir()
    (folder / "greeter" / "__init__.py").write_text(
        "from ray_ext import Extension, exported\n"
        "class Greeter(Extension):\n"
        "    @exported\n"
        "    async def greet(self, name: str) -> str:\n"
        "        print('greeting', name)\n"
        "        return f\"{self.config['word']} {name}\"\n"
    )
    (folder / "pyproject.toml").write_text('[project]\nname = "greeter"\nversion = "1.0.0"\n')
    (folder / "extension.toml").write_text(
        'schema_version = 1\nid = "greeter"\nname = "Greeter"\nversion = "1.0.0"\ncategory = "platform.custom"\n'
        'entry_point = "greeter:Greeter"\n[configuration]\ntype = "object"\n'
        '[configuration.properties]\nword = { type = "string", default = "hello" }\n'
        'token = { type = "string", writeOnly = true }\n'
    )
    return folder


def test_a_first_session_from_up_to_down(cli: Cli, folder: Path) -> None:
    assert "namespace" in cli.ok("up")
    first = read_record(cli.home)
    assert first is not None
    again = cli.run("up")
    assert again.returncode == 0
    assert "already up" in again.stderr
    second = read_record(cli.home)
    assert second is not None
    assert second.pid == first.pid

    cli.ok("install", str(folder), "--config", "-", stdin='{"token": "s3cret"}')
    assert "greeter  1.0.0    loaded" in cli.ok("list")
    listed = json.loads(cli.ok("list", "--json"))
    assert (listed["shape"], listed["data"][0]["state"]) == (1, "loaded")
    shown = cli.ok("show", "greeter")
    assert "<secret>" in shown
    assert "s3cret" not in shown
    assert "confinement    L1" in shown
    assert cli.ok("call", "greeter", "greet", '{"name": "you"}') == '"hello you"\n'
    assert json.loads(cli.ok("call", "greeter", "greet", '["me"]', "--json"))["data"] == "hello me"
    logs = cli.ok("logs", "greeter")
    assert "stdout: greeting you" in logs
    assert "loaded" in cli.ok("status")
    cli.ok("unload", "greeter")
    refused = cli.run("call", "greeter", "greet", '["me"]')
    assert (refused.returncode, "extension-not-loaded" in refused.stderr) == (1, True)
    cli.ok("load", "greeter")


def test_the_schema_is_printed_without_a_runtime(cli: Cli) -> None:
    assert json.loads(cli.ok("schema"))["properties"]["id"]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["nonsense"], 2, "has no verb"),
        (["install"], 2, "Missing argument"),
        (["call", "greeter", "greet", "{"], 2, "no JSON"),
        (["call", "greeter", "greet", "3"], 2, "neither"),
        (["logs", "nobody"], 1, "there is no log"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_says_what_is_wrong(cli: Cli, arguments: list[str], status: int, says: str) -> None:
    done = cli.run(*arguments)
    assert done.returncode == status
    assert says in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_broken_manifest_shows_every_problem(cli: Cli, folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    text = (broken / "extension.toml").read_text()
    (broken / "extension.toml").write_text(text.replace("platform.custom", "platform.custm").replace("name =", "nam ="))
    cli.ok("up")
    done = cli.run("install", str(broken))
    assert done.returncode == 3
    for part in ("category", "platform.custom", "nam", "write name", "manifest-invalid"):
        assert part in done.stderr
