"""What the command line does without a runtime: discovery, and the refusal of wrong usage."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest

import ray_ext.cli
from ray_ext.cli import verbs
from ray_ext.cli.group import verb_names
from ray_ext.cli.verb import Verb, VerbGroup
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
        "from ray_ext.cli.main import run\n"
        "run()\n"
        "print(sorted({'ray', 'click'} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=cli.environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "['click']"


def heavy_ones(modules: Sequence[str], heavy: set[str]) -> set[str]:
    """Which of the heavy modules come along with these."""
    program = f"import sys, {', '.join(modules)}\nprint(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_no_module_of_the_command_line_imports_ray_and_no_verb_what_it_may_not_need() -> None:
    modules = [f"ray_ext.cli.{each.name}" for each in pkgutil.iter_modules(ray_ext.cli.__path__)]
    assert "ray_ext.cli.progress" in modules
    assert heavy_ones(modules, {"ray", "pydantic", "sqlalchemy", "rich", "asyncio", "click"}) == {"click"}

    modules = [f"ray_ext.cli.verbs.{each.name}" for each in pkgutil.iter_modules(verbs.__path__)]
    assert "ray_ext.cli.verbs.list" in modules
    heavy = {"ray", "pydantic", "sqlalchemy", "rich", "asyncio", "packaging", "msgspec", "json", "click"}
    assert heavy_ones(["ray_ext.cli.group", *modules], heavy) == {"click"}


def test_a_call_imports_neither_msgspec_nor_a_library_for_http(cli: Cli) -> None:
    cli.home.ensure()
    program = (
        "import sys; sys.argv = ['ray-ext', 'call', 'x', 'y']\n"
        "from ray_ext.cli.main import run\n"
        "assert run() == 5\n"
        "print(*{'msgspec', 'http.client', 'rich', 'asyncio', 'ssl', 'tempfile', 'secrets'} & sys.modules.keys())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=cli.environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "\n"


def test_a_verb_is_found_without_importing_the_others() -> None:
    program = (
        "import sys; sys.argv = ['ray-ext', 'call', '-h']\n"
        "from ray_ext.cli.main import run\n"
        "run()\n"
        "print([each for each in sys.modules if each.startswith('ray_ext.cli.verbs.')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "['ray_ext.cli.verbs.call']"


def test_a_file_is_all_that_a_new_verb_needs(tmp_path: Path) -> None:
    (tmp_path / "wave_twice.py").write_text(
        "from ray_ext.cli.output import answer\n"
        "from ray_ext.cli.verb import verb\n"
        "@verb(section='Look', aliases=('wv',), examples=('ray-ext wave-twice',))\n"
        "def command() -> None:\n"
        "    'Wave to everybody.'\n"
        "    answer('waved', {'times': 2}, lambda: print('waving'))\n"
    )
    program = (
        f"import sys, ray_ext.cli.verbs as verbs; verbs.__path__.append({str(tmp_path)!r})\n"
        "from ray_ext.cli.main import main\n"
        "main()"
    )

    def run(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, timeout=60
        )
        return done.returncode, done.stdout, done.stderr

    assert run("wave-twice") == run("wv") == (0, "waving\n", "")
    assert json.loads(run("wave-twice", "--json")[1]) == {"shape": 1, "kind": "waved", "data": {"times": 2}}
    assert "wave-twice, wv" in run("--help")[1]
    assert "did you mean wave-twice?" in run("wave-twic")[2]
    assert run("wave_twice")[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "install", "x", "--version", "1"],
        ["rm", "x"],
        ["ls"],
        ["yank", "x", "1", "--undo"],
        ["gc"],
        ["call", "x", "y"],
        ["operations", "list"],
        ["install", "x", "--version", "1"],
    ],
    ids=" ".join,
)
def test_a_verb_that_needs_a_runtime_says_how_to_start_one(cli: Cli, arguments: list[str]) -> None:
    said = cli.refused(5, *arguments)
    assert "runtime-unreachable" in said
    assert "ray-ext up" in said
    document = json.loads(cli.refused(5, *arguments, "--json"))
    assert (document["shape"], document["kind"]) == (1, "error")
    assert document["data"]["code"] == "runtime-unreachable"
    assert "ray-ext up" in document["data"]["fix"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plan"], "install"),
        (["plan", "install"], "Missing argument"),
        (["instal"], "did you mean install"),
        (["upgrad", "x"], "did you mean upgrade"),
        (["plan", "lod"], "did you mean load"),
        (["_load"], "has no verb"),
        (["verbs.load"], "has no verb"),
        (["list", "--jsn"], "--jsn"),
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
    if arguments != ["plan"]:
        document = json.loads(cli.refused(2, *arguments, "--json"))
        assert (document["shape"], document["kind"], document["data"]["code"]) == (1, "error", "usage")
        assert says in document["data"]["what"]


def leaves() -> Iterator[tuple[str, Verb]]:
    """Every verb that does something, by what is typed for it."""
    for name in verb_names():
        command = importlib.import_module(f"ray_ext.cli.verbs.{name.replace('-', '_')}").command
        if isinstance(command, VerbGroup):
            yield from ((f"{name} {each}", sub) for each, sub in command.commands.items() if isinstance(sub, Verb))
        else:
            yield name, command


LEAVES = dict(leaves())


def test_every_verb_is_listed_with_its_aliases_and_what_it_does(cli: Cli) -> None:
    lines = [line.strip() for line in cli.ok("--help").splitlines()]
    for name in verb_names():
        assert [line for line in lines if re.match(rf"{name}(, \w+)*( |$)", line)], name
    assert [line for line in lines if re.match(r"(list, ls|remove, rm)  +\w", line)] != []
    assert [line for line in lines if line in ("Change:", "Look:", "Releases:")] == ["Change:", "Look:", "Releases:"]


@pytest.mark.parametrize("name", LEAVES)
def test_the_help_of_every_verb_says_what_it_does_and_ends_with_examples(name: str) -> None:
    verb = LEAVES[name]
    text = verb.get_help(click.Context(verb, info_name=f"ray-ext {name}"))
    assert (verb.help or "").strip()
    options, _, examples = text.partition("Examples:\n")
    assert f"ray-ext {name.split()[0]}" in examples
    assert "--json" in options
    assert "--no-input" in options
    assert [each.opts for each in verb.params if isinstance(each, click.Option) and not each.help] == []


@pytest.mark.parametrize("name", LEAVES)
def test_every_example_of_a_verb_can_be_parsed(name: str) -> None:
    parsed = 0
    for example in LEAVES[name].examples:
        words = shlex.split(example.split(" > ")[0].split(" | ")[0])
        if "ray-ext" not in words:
            continue
        typed = words[words.index("ray-ext") + 1 :]
        if typed[: len(name.split())] == name.split() and not any("@" in word or "$(" in word for word in typed):
            wanted = [word for word in typed[len(name.split()) :] if word not in ("-h", "--help")]
            LEAVES[name].make_context(name, wanted, parent=click.Context(LEAVES[name]))
            parsed += 1
    assert parsed, LEAVES[name].examples


def test_h_is_help(cli: Cli) -> None:
    for arguments in ((), ("load",), ("plan", "load")):
        assert cli.ok(*arguments, "-h") == cli.ok(*arguments, "--help")


def test_a_reader_that_goes_away_is_no_error(cli: Cli) -> None:
    process = cli.start("schema")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def test_output_that_cannot_be_written_is_a_failure_in_a_line(cli: Cli) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            cli.command("schema"),
            env=cli.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "Error: standard output: No space left on device\n")
