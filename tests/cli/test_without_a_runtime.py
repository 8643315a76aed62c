"""What the command line does without a runtime: discovery, and the refusal of wrong usage."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import ray_ext.cli
from tests.cli.command_line import Cli, write_project


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "home")


def test_discover_lists_what_is_valid_and_what_is_not_with_the_reason(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "extensions"
    good = write_project(folder, "good")
    broken = write_project(folder, "broken", more="nonsense = 1\n")
    again = write_project(tmp_path / "more", "good")
    cli.environment["RAY_EXT_PATH"] = f"{folder}:{again}"
    found = {each["source"]: each for each in cli.data("discovered", "discover")}
    assert (found[good]["id"], found[good]["version"], found[good]["is_valid"]) == ("good", "1.0.0", True)
    assert found[broken]["is_valid"] is False
    assert "nonsense" in found[broken]["problems"][0]
    assert found[again]["shadowed_by"] == good

    table = [" ".join(line.split()) for line in cli.ok("discover").splitlines()]
    assert f"good 1.0.0 folder yes {good}" in table
    assert f"good 1.0.0 folder yes {again} shadowed by {good}" in table
    assert [line for line in table if line.startswith(f"folder no {broken} ") and "nonsense" in line]


def test_discover_looks_into_the_state_home_by_default(cli: Cli) -> None:
    write_project(cli.home.extensions, "placed")
    assert "placed" in [each["id"] for each in cli.data("discovered", "discover")]


def test_discover_finds_installed_distributions(cli: Cli, tmp_path: Path) -> None:
    facts = tmp_path / "site" / "bundled-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: bundled\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[ray_ext.extensions]\nbundled = bundled\n")
    (facts / "RECORD").write_text("")
    cli.environment["PYTHONPATH"] = f"{tmp_path / 'site'}:{cli.environment.get('PYTHONPATH', '')}"
    found = [each for each in cli.data("discovered", "discover") if each["kind"] == "distribution"]
    assert [(each["source"], each["is_valid"]) for each in found] == [(str(tmp_path / "site" / "bundled"), False)]


def test_discover_imports_no_ray(cli: Cli) -> None:
    program = (
        "import sys; sys.argv = ['ray-ext', 'discover']\n"
        "from ray_ext.cli.main import main\n"
        "try: main()\n"
        "finally: print(sorted({'ray', 'click'} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=cli.environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "['click']"


def test_no_module_of_the_command_line_imports_ray_or_pydantic() -> None:
    names = [f"ray_ext.cli.{each.name}" for each in pkgutil.iter_modules(ray_ext.cli.__path__)]
    assert "ray_ext.cli.changes" in names
    heavy = {"ray", "pydantic", "sqlalchemy", "click"}
    program = f"import sys, {', '.join(names)}\nprint(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "['click']\n"


@pytest.mark.parametrize(
    "arguments",
    [["plan", "install", "x"], ["rm", "x"], ["ls"], ["yank", "x", "1", "--undo"], ["gc"]],
    ids=" ".join,
)
def test_a_verb_that_needs_a_runtime_says_how_to_start_one(cli: Cli, arguments: list[str]) -> None:
    said = cli.refused(1, *arguments)
    assert "runtime-unreachable" in said
    assert "ray-ext up" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plan"], "install"),
        (["plan", "install"], "Missing argument"),
        (["up", "--spares", "-1"], "--spares"),
        (["install", "x", "--config", "[1]"], "no JSON object"),
        (["install", "x", "--config", "{"], "no JSON"),
        (["install", "x", "--grant", "all"], "--grant"),
        (["install", "x", "--find-links", "nowhere"], "does not exist"),
        (["install", "./x", "--version", "1"], "has its own version"),
        (["load", "x", "--plan", "12ab"], "no hash of a plan"),
        (["load", "x", "--plan", ""], "no hash of a plan"),
        (["remove", "x", "--purge"], "give --yes"),
        (["yank", "x", "1"], "--reason TEXT, or --undo"),
        (["yank", "x", "1", "--reason", "bad", "--undo"], "--reason TEXT, or --undo"),
        (["audit", "--limit", "0"], "--limit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_is_refused_before_a_runtime_is_looked_for(cli: Cli, arguments: list[str], says: str) -> None:
    assert says in cli.refused(2, *arguments)


def test_every_verb_is_listed_with_what_it_does(cli: Cli) -> None:
    verbs = "up down status discover plan install load unload upgrade remove list show call logs register releases"
    lines = [line.split(maxsplit=1) for line in cli.ok("--help").partition("Commands:")[2].splitlines() if line.strip()]
    listed = {line[0]: line[1] for line in lines if len(line) == 2}
    assert {*verbs.split(), "yank", "audit", "gc", "schema"} <= listed.keys()
    assert listed["gc"].startswith("Remove packages")
