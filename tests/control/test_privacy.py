"""Another user of the machine reads nothing of a runtime, and asks nothing of it, whatever the umask at its start."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ray_ext.client.runtime import Runtime
from ray_ext.control.socket_file import socket_path
from ray_ext.home import Home
from tests.control.conftest import Api, PackExtension
from tests.control.watching import free_port, until, write_wheel

REPOSITORY = Path(__file__).parents[2]


class Lax(NamedTuple):
    """A runtime that was started with umask 000, in folders that it had to make, and listens on TCP, too."""

    home: Home
    port: int
    top: Path


@pytest.fixture(scope="module")
def lax(pack_extension: PackExtension) -> Iterator[Lax]:
    top = Path(tempfile.mkdtemp(prefix="rx-"))
    top.chmod(0o755)  # others may look so far
    home = Home(top / ("a" * 60) / ("b" * 60) / "home")
    port = free_port()
    keeper = subprocess.Popen(
        [sys.executable, "-m", "tests.control.keep_runtime", home.root, "000", f"127.0.0.1:{port}",
         write_wheel(top, "private", pack_extension("private"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
    )  # fmt: skip
    try:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "up\n"
        until(lambda: Api(home.run).ask("GET", "/v1/control").json["listen"])
        yield Lax(home, port, top)
    finally:
        keeper.communicate()
        shutil.rmtree(top)
    assert keeper.returncode == 0
    assert not home.ray_temp.exists()


@pytest.fixture(params=["strict umask", "umask 000"])
def home(
    request: pytest.FixtureRequest, runtime: Runtime, api: Api, pack_extension: PackExtension, tmp_path: Path
) -> Home:
    """The state home of a runtime that is up, has an extension, and has logged."""
    if request.param == "umask 000":
        lax: Lax = request.getfixturevalue("lax")
        return lax.home
    if "private" not in {view.id for view in runtime.list()}:
        runtime.install(write_wheel(tmp_path, "private", pack_extension("private")))
    return Home(runtime.home)


def _below(*folders: Path) -> list[Path]:
    return [each for folder in folders for each in (folder, *folder.rglob("*")) if not each.is_symlink()]


def _reachable(paths: list[Path]) -> list[str]:
    probe = subprocess.run(
        [sys.executable, "-m", "tests.control.another_user"],
        input="".join(f"{path}\n" for path in paths), capture_output=True, text=True, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    if probe.returncode == 3:
        pytest.skip("only root can become another user")
    assert probe.returncode == 0, probe.stderr
    return probe.stdout.splitlines()


def test_another_user_can_open_list_and_connect_to_nothing(home: Home) -> None:
    paths = _below(home.root, home.ray_temp)
    shown = {str(path.relative_to(home.root)) for path in paths if path.is_relative_to(home.root)}
    assert {"run/control.sock", "run/ray-token", "run/runtime.json", "store.db", "store.db-wal", "run"} <= shown
    assert any(name.startswith("logs/") for name in shown)
    assert any(name.startswith("packages/") and name.endswith(".whl") for name in shown)
    assert any(path.name == "plasma_store" for path in paths), "Ray's sockets are among them"
    assert _reachable(paths) == []


def test_the_probe_sees_what_is_open(tmp_path: Path) -> None:
    (tmp_path / "open").write_text("")
    opened = Path(tempfile.mkdtemp(prefix="rx-"))
    try:
        opened.chmod(0o755)
        (opened / "file").write_text("")
        (opened / "file").chmod(0o644)
        (opened / "private").mkdir(mode=0o700)
        (opened / "private" / "file").write_text("")
        assert _reachable(_below(opened)) == [str(opened), str(opened / "file")]
    finally:
        shutil.rmtree(opened)


def test_what_is_secret_is_private_by_its_own_rights_too(home: Home) -> None:
    secret = [
        home.root, home.ray_temp, home.run, home.logs, home.packages, home.data, socket_path(home.run),
        *home.run.glob("*"), *home.root.glob("store.db*"), *home.logs.rglob("*"),
    ]  # fmt: skip
    assert [str(path) for path in secret if stat.S_IMODE(path.lstat().st_mode) & 0o077] == []
    assert stat.S_IMODE(socket_path(home.run).stat().st_mode) == 0o600


def test_others_cannot_put_another_home_in_place_of_one(lax: Lax) -> None:
    made = [parent for parent in lax.home.root.parents if parent.is_relative_to(lax.top) and parent != lax.top]
    assert len(made) == 2
    assert [parent for parent in made if parent.stat().st_mode & 0o022] == []


def test_tcp_is_for_bearers_of_the_token_which_is_the_same_after_control_was_killed(lax: Lax) -> None:
    tcp = ("127.0.0.1", lax.port)
    token_file = lax.home.run / "control-token"
    token = token_file.read_text()
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    assert len(token) == 64
    for wrong in ("", "x", token[:-1], token + "0", token.upper() + "x"):
        answer = Api(tcp, wrong).ask("GET", "/v1/extensions")
        assert (answer.status, answer.json["code"]) == (401, "unauthorised"), wrong
    bearer = Api(tcp, token)
    answer = bearer.ask("GET", "/v1/extensions")
    assert [each["id"] for each in answer.json] == ["private"]
    view = bearer.ask("GET", "/v1/control").json
    assert view["listen"] == f"http://127.0.0.1:{lax.port}"
    os.kill(view["pid"], signal.SIGKILL)
    until(lambda: bearer.ask("GET", "/v1/control").json["pid"] != view["pid"])
    assert token_file.read_text() == token
    assert Api(tcp).ask("GET", "/v1/control").status == 401


def test_what_was_asked_over_one_door_is_seen_through_the_other(lax: Lax) -> None:
    token = (lax.home.run / "control-token").read_text()
    bearer, local = Api(("127.0.0.1", lax.port), token), Api(lax.home.run)
    operation = "0123456789abcdef"
    asked = bearer.ask("PUT", f"/v1/operations/{operation}", {"verb": "unload", "extension": "private"})
    assert asked.status == 202
    until(lambda: local.ask("GET", f"/v1/operations/{operation}").json["state"] == "done")
    assert local.ask("PUT", f"/v1/operations/{operation}", {"verb": "unload", "extension": "private"}).status == 200


def test_a_folder_that_somebody_put_in_the_way_of_rays_is_not_used() -> None:
    top = Path(tempfile.mkdtemp(prefix="rx-"))
    home = Home(top / "home")
    elsewhere = top / "elsewhere"
    elsewhere.mkdir()
    home.ray_temp.symlink_to(elsewhere)
    try:
        refused = subprocess.run(
            [sys.executable, "-m", "tests.control.keep_runtime", home.root, "022", "127.0.0.1:0"],
            input="", capture_output=True, text=True, check=False, cwd=REPOSITORY,
            env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        )  # fmt: skip
        assert refused.returncode != 0
        assert "[runtime-conflict]" in refused.stderr
        assert list(elsewhere.iterdir()) == []
    finally:
        home.ray_temp.unlink()
        shutil.rmtree(top)
