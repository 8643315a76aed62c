"""The verbs that plan and change what is installed, on one runtime; each test has extensions of its own."""

from __future__ import annotations

import getpass
import time
from pathlib import Path

from ray_ext.client.runtime import Runtime
from tests.cli.command_line import CREDENTIALS, Cli, states, write_project
from tests.environments.wheels import serve_index, write_wheel


def test_as_many_hosts_are_kept_ready_as_were_asked_for(cli: Cli, runtime: Runtime) -> None:
    give_up = time.monotonic() + 60
    while runtime.status().spare_hosts != 2:
        assert time.monotonic() < give_up
    assert "2 ready" in cli.ok("status")


def test_a_plan_that_was_seen_is_carried_out_and_one_that_is_stale_is_refused(
    cli: Cli, runtime: Runtime, tmp_path: Path
) -> None:
    top = write_project(tmp_path, "top", more='[dependencies]\nbase = ">=1"\n')
    runtime.register(write_project(tmp_path, "base"))
    shown = cli.run("plan", "install", top)
    steps = [" ".join(line.split()[1:4]) for line in shown.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert steps == ["install base 1.0.0", "install top 1.0.0", "load base 1.0.0", "load top 1.0.0"]
    plan = cli.data("plan", "plan", "install", top)
    assert f"--plan {plan['hash'][:12]}" in shown.stderr
    assert (plan["verb"], plan["request"]["id"]) == ("install", "top")
    assert {each["why"] for each in plan["untouched"]} <= {"not involved"}
    assert [f"{step['kind']} {step['extension']} {step['version']}" for step in plan["steps"]] == steps
    assert states(runtime, "base", "top") == ["not installed", "not installed"]

    runtime.register(write_project(tmp_path, "base", "1.1.0"))
    assert "plan-stale" in cli.refused(1, "install", top, "--plan", plan["hash"])
    current = runtime.plan("install", top).hash
    progress = cli.note("install", top, "--plan", current[:12]).splitlines()
    assert progress[0].startswith("[1/4] install base 1.1.0: ")
    assert progress[3].startswith("[4/4] load top 1.0.0: ")
    assert progress[-1] == "Loaded: generation 1, exports version."

    shown = cli.run("plan", "load", "top")
    assert (shown.returncode, "no change" in shown.stdout, shown.stderr) == (0, True, "")


def test_a_dry_run_prints_what_plan_prints_and_changes_nothing(cli: Cli, runtime: Runtime, tmp_path: Path) -> None:
    first, second = (write_project(tmp_path, "dry", version) for version in ("1.0.0", "1.1.0"))
    asked: list[tuple[str, list[str]]] = [("install", [first])]
    asked += [(verb, ["dry"]) for verb in ("load", "unload", "remove")] + [("upgrade", ["dry", second])]
    for verb, arguments in asked:
        before = states(runtime, "dry")
        dry, planned = cli.run(verb, *arguments, "--dry-run"), cli.run("plan", verb, *arguments)
        assert (dry.returncode, dry.stdout, dry.stderr) == (0, planned.stdout, planned.stderr), verb
        assert f"{verb} dry" in " ".join(dry.stdout.split()), verb
        assert states(runtime, "dry") == before
        if verb == "install":
            runtime.install(first, load=False)
        elif verb == "load":
            runtime.load("dry")
    assert runtime.show("dry").version == "1.0.0"
    data = cli.data("plan", "unload", "dry", "--dry-run")
    assert data == cli.data("plan", "plan", "unload", "dry")
    assert states(runtime, "dry") == ["loaded"]


def test_what_others_need_is_unloaded_and_removed_with_them_or_not_at_all(
    cli: Cli, runtime: Runtime, tmp_path: Path
) -> None:
    runtime.register(write_project(tmp_path, "lower"))
    runtime.install(write_project(tmp_path, "upper", more='[dependencies]\nlower = ""\n'))
    assert "unload lower --cascade" in cli.refused(1, "unload", "lower")
    plan = cli.data("plan", "plan", "unload", "lower", "--cascade")
    assert [step["extension"] for step in plan["steps"]] == ["upper", "lower"]
    assert "Unloaded lower" in cli.note("unload", "lower", "--cascade", "--grace", "1")
    assert states(runtime, "lower", "upper") == ["unloaded", "unloaded"]
    assert "[1/2] load lower" in cli.note("load", "upper")
    assert states(runtime, "lower", "upper") == ["loaded", "loaded"]

    plan = cli.data("plan", "plan", "remove", "lower", "--cascade", "--purge")
    assert [step["kind"] for step in plan["steps"]] == ["unload"] * 2 + ["remove"] * 2 + ["purge"] * 2
    assert cli.data("removed", "rm", "lower", "--cascade", "--grace", "1") == ["upper", "lower"]
    assert states(runtime, "lower", "upper") == ["not installed", "not installed"]


def test_every_verb_refuses_a_plan_that_is_not_its_own(cli: Cli, runtime: Runtime, tmp_path: Path) -> None:
    runtime.install(write_project(tmp_path, "steady"), load=False)
    other = runtime.plan("remove", "steady", purge=True).hash
    for verb in ("load", "unload", "remove", "upgrade"):
        assert "plan-stale" in cli.refused(1, verb, "steady", "--plan", other), verb
    assert states(runtime, "steady") == ["unloaded"]


def test_an_upgrade_goes_to_a_version_a_folder_or_the_best_that_fits(
    cli: Cli, runtime: Runtime, tmp_path: Path
) -> None:
    runtime.install(write_project(tmp_path, "moving"))
    assert "No update: 1.0.0 is the best version that fits." in cli.note("upgrade", "moving")
    folder = write_project(tmp_path, "moving", "1.1.0")
    assert "unload moving 1.0.0" in " ".join(cli.ok("plan", "upgrade", "moving", folder).split())
    assert "Upgraded moving from 1.0.0 to 1.1.0." in cli.note("upgrade", "moving", folder, "--grace", "1")
    assert states(runtime, "moving") == ["loaded"]
    assert "No update: moving 1.1.0 is installed already." in cli.note("upgrade", "moving", "1.1.0")

    runtime.register(write_project(tmp_path, "moving", "1.2.0"))
    cli.note("yank", "moving", "1.2.0", "--reason", "loses events")
    assert "loses events" in cli.ok("releases", "moving")
    assert "no change" in runtime.plan("upgrade", "moving").text
    cli.note("yank", "moving", "1.2.0", "--undo")
    assert cli.data("extension", "upgrade", "moving")["version"] == "1.2.0"

    assert "installation-conflict" in cli.refused(1, "forget", "moving", "1.2.0")
    cli.note("forget", "moving", "1.0.0")
    assert [each["version"] for each in cli.data("releases", "releases", "moving")] == ["1.1.0", "1.2.0"]


def test_a_known_release_is_installed_by_id_and_version(cli: Cli, runtime: Runtime, tmp_path: Path) -> None:
    release = cli.data("release", "register", write_project(tmp_path, "known"))
    assert (release["id"], release["version"]) == ("known", "1.0.0")
    assert states(runtime, "known") == ["not installed"]
    assert [each["sha256"] for each in cli.data("releases", "releases", "known")] == [release["sha256"]]
    view = cli.data("extension", "install", "known", "--version", "1.0.0", "--no-load")
    assert (view["sha256"], view["state"]) == (release["sha256"], "unloaded")


def test_configuration_and_grant_stay_unless_others_are_given(cli: Cli, runtime: Runtime, tmp_path: Path) -> None:
    more = '[configuration]\ntype = "object"\nproperties.word.type = "string"\n'
    folder = write_project(tmp_path, "mighty", more='isolation = "trusted"\n' + more)
    cli.note("install", folder, "--no-load", "--grant", "requested", "--config", '{"word": "one"}')
    assert (runtime.show("mighty").configuration, runtime.show("mighty").grant) == ({"word": "one"}, "requested")
    view = cli.data("extension", "install", folder, "--no-load", "--config", '{"word": "two"}')
    assert (view["configuration"], view["grant"]) == ({"word": "two"}, "requested")
    assert "grant-required" in cli.refused(4, "install", folder, "--no-load", "--grant", "none")


def test_packages_come_from_a_folder_and_an_index_with_credentials_and_gc_frees_their_downloads(
    cli: Cli, runtime: Runtime, tmp_path: Path
) -> None:
    for place in ("links", "index"):
        (tmp_path / place).mkdir()
    write_wheel(tmp_path / "links", "nearby", "1.0", {"nearby.py": b""})
    write_wheel(tmp_path / "index", "remote", "2.0", {"remote.py": b""})
    runtime.register(write_project(tmp_path, "helper"))
    more = '[dependencies]\nhelper = ">=1"\n[runtime_env]\npip = ["nearby", "remote"]\n'
    folder = write_project(tmp_path, "hungry", more=more)
    with serve_index(tmp_path / "index", credentials=":".join(CREDENTIALS.values())) as host:
        index = f"http://${{RX_INDEX_NAME}}:${{RX_INDEX_PASSWORD}}@{host}/simple"
        sources = ("--find-links", str(tmp_path / "links"), "--index-url", index)
        assert "environment hungry 1.0.0" in cli.note("install", folder, "--no-load", *sources)
    assert cli.data("freed", "gc")["bytes"] > 0
    assert "Freed 0 B." in cli.note("gc")
    rows = dict(line.split(maxsplit=1) for line in cli.ok("show", "hungry").splitlines() if line)
    assert rows["dependencies"] == "helper >=1"
    assert rows["Python"] == "packages  nearby==1.0, remote==2.0"


def test_remove_keeps_the_data_unless_it_is_purged(cli: Cli, runtime: Runtime, tmp_path: Path) -> None:
    folder = write_project(tmp_path, "leaving")
    data = cli.home.data_dir("leaving")
    runtime.install(folder)
    (data / "kept.txt").write_text("mine")
    assert "Removed leaving." in cli.note("remove", "leaving")
    assert states(runtime, "leaving") == ["not installed"]
    assert (data / "kept.txt").read_text() == "mine"
    runtime.register(folder)
    assert "leaving is not installed: nothing is removed." in cli.note("remove", "leaving")

    runtime.install(folder, load=False)
    assert "give --yes" in cli.refused(2, "remove", "leaving", "--purge")
    assert (states(runtime, "leaving"), data.exists()) == (["unloaded"], True)
    cli.note("rm", "leaving", "--purge", "--yes")
    assert (states(runtime, "leaving"), data.exists()) == (["not installed"], False)


def test_the_audit_trail_says_who_did_what_when_and_how_it_ended(cli: Cli, runtime: Runtime, tmp_path: Path) -> None:
    runtime.install(write_project(tmp_path, "watched"), load=False)
    runtime.remove("watched")
    head, newest, *older = (line.split() for line in cli.ok("audit", "watched").splitlines())
    assert head == ["when", "who", "verb", "extension", "version", "outcome"]
    assert newest[2:5] == ["UTC", getpass.getuser(), "remove"]
    assert newest[-1] == "done"
    assert "install" in [row[4] for row in older]
    assert {row[5] for row in (newest, *older)} == {"watched"}
    entries = cli.data("audit", "audit", "--limit", "2")
    assert [entry["extension"] for entry in entries] == ["watched", "watched"]
