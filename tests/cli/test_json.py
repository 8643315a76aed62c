"""``--json`` of every verb: one document on standard output with a shape and a kind, and nothing on standard error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

from ray_ext.client.runtime import Runtime
from tests.cli.command_line import Cli, write_project
from tests.cli.test_without_a_runtime import LEAVES


class Use(NamedTuple):
    """How a verb is used here: on an extension that was brought to ``state`` before. In ``arguments`` ``ID`` and
    ``FOLDER`` stand for it."""

    kind: str
    state: Literal["", "folder", "registered", "installed", "loaded"] = ""
    arguments: tuple[str, ...] = ()


USES = {
    "audit": Use("audit", "installed", ("ID",)),
    "call": Use("result", "loaded", ("ID", "version")),
    "completion": Use("completion", "", ("bash",)),
    "discover": Use("discovered"),
    "doctor": Use("doctor"),
    "explain": Use("explanation", "", ("plan-stale",)),
    "forget": Use("forgotten", "registered", ("ID", "1.0.0")),
    "gc": Use("freed"),
    "install": Use("extension", "folder", ("FOLDER",)),
    "list": Use("extensions", "installed"),
    "load": Use("extension", "installed", ("ID",)),
    "operations list": Use("operations", "installed"),
    "plan install": Use("plan", "folder", ("FOLDER",)),
    "plan load": Use("plan", "installed", ("ID",)),
    "plan remove": Use("plan", "installed", ("ID",)),
    "plan unload": Use("plan", "loaded", ("ID",)),
    "plan upgrade": Use("plan", "installed", ("ID",)),
    "register": Use("release", "folder", ("FOLDER",)),
    "releases": Use("releases", "registered", ("ID",)),
    "remove": Use("removed", "installed", ("ID",)),
    "schema": Use("schema"),
    "show": Use("extension", "loaded", ("ID",)),
    "status": Use("status"),
    "unload": Use("extension", "loaded", ("ID",)),
    "up": Use("status"),
    "upgrade": Use("extension", "installed", ("ID",)),
    "yank": Use("yanked", "registered", ("ID", "1.0.0", "--reason", "broken")),
}
#: These are used by tests of their own: with an operation's id, where nothing is up, or because they print many
#: documents, a line each.
ELSEWHERE = {"down", "logs", "operations cancel", "operations show", "operations wait"}


@pytest.mark.parametrize("name", [name for name in LEAVES if name not in ELSEWHERE])
def test_what_a_verb_did_is_one_document(cli: Cli, runtime: Runtime, tmp_path: Path, name: str) -> None:
    use = USES[name]
    extension = f"json{''.join(filter(str.isalpha, name))}"
    folder = write_project(tmp_path, extension)
    if use.state == "registered":
        runtime.register(folder)
    elif use.state in ("installed", "loaded"):
        runtime.install(folder, load=use.state == "loaded")
    words = {"ID": extension, "FOLDER": folder}
    done = cli.run(*name.split(), *(words.get(each, each) for each in use.arguments), "--json")
    # The doctor's status says what it found.
    assert (done.returncode == 0 or name == "doctor", done.stderr) == (True, "")
    document = json.loads(done.stdout)
    assert list(document) == ["shape", "kind", "data"]
    assert (document["shape"], document["kind"]) == (1, use.kind)
    if "ID" in use.arguments or "FOLDER" in use.arguments:
        assert extension in json.dumps(document["data"]) or name == "call"


def test_operations_are_documents_too(cli: Cli, runtime: Runtime, tmp_path: Path) -> None:
    runtime.install(write_project(tmp_path, "jsonop"), load=False)
    newest = cli.data("operations", "operations", "list", "--limit", "1")
    assert [(each["verb"], each["extension"], each["state"]) for each in newest] == [("install", "jsonop", "done")]
    for verb in ("show", "wait", "cancel"):
        assert cli.data("operation", "operations", verb, newest[0]["id"]) == newest[0]
    shown = cli.ok("operations", "show", newest[0]["id"])
    assert next(line.split() for line in shown.splitlines() if line.startswith("step  ")) == ["step", "1/1"]
    assert newest[0]["id"] in cli.ok("operations", "list")


def test_an_error_is_one_document_on_standard_error(cli: Cli, tmp_path: Path) -> None:
    broken = write_project(tmp_path, "broken", more="nonsense = 1\n")
    for status, code, arguments in (
        (1, "extension-not-found", ("show", "nobody")),
        (1, "operation-not-found", ("operations", "wait", "0123456789abcdef")),
        (3, "manifest-invalid", ("install", broken)),
        (2, "usage", ("call", "nobody", "x", "3")),
    ):
        document = json.loads(cli.refused(status, *arguments, "--json"))
        assert (document["shape"], document["kind"], document["data"]["code"]) == (1, "error", code)
        assert set(document["data"]) == {"code", "what", "where", "fix", "details"}
        assert document["data"]["what"]
