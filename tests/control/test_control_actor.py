"""The control actor: what it tells, and what becomes of operations when it is killed."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ray_ext.client.runtime import Runtime
from ray_ext.control.requests import new_operation
from ray_ext.control.socket_file import bind_socket, socket_path
from ray_ext.home import Home
from tests.control.conftest import Api, PackExtension
from tests.control.watching import Watch, until, write_wheel
from tests.patient_extension import PATIENT


class _Install:
    """The installation of an extension that loads when somebody says so, asked for over the API."""

    def __init__(self, api: Api, runtime: Runtime, extension: str, wheel: bytes) -> None:
        self.extension = extension
        self.operation = new_operation()
        self._api = api
        self._data = runtime.home / "data" / extension
        self._wheel = wheel

    def put(self) -> int:
        """Upload and ask for it; the status."""
        sha256 = hashlib.sha256(self._wheel).hexdigest()
        uploaded = self._api.ask("PUT", f"/v1/packages/{sha256}", self._wheel)
        assert uploaded.status in {200, 201}, uploaded
        answer = self._api.ask(
            "PUT",
            f"/v1/operations/{self.operation}",
            {"verb": "install", "package": sha256, "source": "a test"},
        )
        return answer.status

    def until_loading(self) -> None:
        until((self._data / "started").exists)

    def forget_start(self) -> None:
        (self._data / "started").unlink()

    def let_load(self) -> None:
        (self._data / "go").touch()

    def view(self) -> Any:
        answer = self._api.ask("GET", f"/v1/operations/{self.operation}")
        return answer.json if answer.status == 200 else None


@pytest.fixture
def install(
    api: Api, runtime: Runtime, pack_extension: PackExtension, request: pytest.FixtureRequest
) -> Iterator[_Install]:
    extension = f"patient-{abs(hash(request.node.name)) % 10**8}"
    yield _Install(api, runtime, extension, pack_extension(extension, code=PATIENT))
    if extension in {view.id for view in runtime.list()}:
        runtime.remove(extension, purge=True, grace_s=0)


def _control_pid(api: Api) -> int:
    pid: int = api.ask("GET", "/v1/control").json["pid"]
    return pid


def _kill_control(api: Api) -> Callable[[], None]:
    """Kill it; returns what waits for its successor."""
    killed = _control_pid(api)
    os.kill(killed, signal.SIGKILL)
    return lambda: until(lambda: _control_pid(api) != killed)


def test_it_lists_what_is_installed(api: Api, runtime: Runtime, pack_extension: PackExtension, tmp_path: Path) -> None:
    runtime.install(write_wheel(tmp_path, "listed", pack_extension("listed")))
    answer = api.ask("GET", "/v1/extensions")
    assert answer.status == 200
    assert {each["id"]: each["state"] for each in answer.json}["listed"] == "loaded"
    called = api.ask("POST", "/v1/extensions/listed/methods/echo", {"args": ["hello"], "kwargs": {}})
    assert (called.status, called.json) == (200, {"result": "hello"})
    missing = api.ask("GET", "/v1/extensions/not-there")
    assert (missing.status, missing.json["code"]) == (404, "extension-not-found")


def test_an_operation_goes_on_while_control_is_killed_and_is_rejoined_where_it_was(api: Api, install: _Install) -> None:
    assert install.put() == 202
    install.until_loading()
    watch = Watch(api, install.operation)
    until(lambda: len(watch.events) == 2)
    came_back = _kill_control(api)
    before = watch.join()
    assert [name for _, name, _ in before] == ["progress", "progress"], "it was followed to where control died"
    came_back()
    assert install.view()["state"] == "running"
    assert install.put() == 200, "what is sent again is known"
    rest = Watch(api, install.operation, before[0][0])
    install.let_load()
    events = rest.join()
    assert events[0] == before[1], "it was re-joined after the news that was seen last"
    assert events[-1][1] == "end"
    assert (events[-1][2]["state"], events[-1][2]["step"]) == ("done", 2)


def test_control_and_registry_killed_together_leave_the_operation_undone_until_it_is_sent_again(
    api: Api, runtime: Runtime, install: _Install
) -> None:
    assert install.put() == 202
    install.until_loading()
    install.forget_start()
    registry = runtime.status().registry_pid
    came_back = _kill_control(api)
    os.kill(registry, signal.SIGKILL)
    came_back()
    until(lambda: install.view()["state"] != "running")
    assert install.view()["state"] == "interrupted"
    assert install.extension not in {view.id for view in runtime.list()}
    assert runtime.releases(install.extension) == []
    assert install.put() == 202
    install.until_loading()
    install.let_load()
    events = Watch(api, install.operation).join()
    assert (events[-1][1], events[-1][2]["state"]) == ("end", "done")
    assert runtime.show(install.extension).state == "loaded"
    rows = [each for each in api.ask("GET", "/v1/operations").json if each["id"] == install.operation]
    assert [each["state"] for each in rows] == ["done"]


def test_the_registry_killed_alone_is_followed_through_to_the_end(
    api: Api, runtime: Runtime, install: _Install
) -> None:
    assert install.put() == 202
    install.until_loading()
    watch = Watch(api, install.operation)
    until(lambda: len(watch.events) == 2)
    install.forget_start()
    os.kill(runtime.status().registry_pid, signal.SIGKILL)
    install.until_loading()
    install.let_load()
    events = watch.join()
    assert (events[-1][1], events[-1][2]["state"]) == ("end", "done")
    epochs = [identity.partition("-")[0] for identity, name, _ in events if name == "progress"]
    assert len(set(epochs)) == 2, "it was begun anew, and told anew"
    assert len({identity for identity, name, _ in events if name == "progress"}) == len(epochs)


def test_cancelling_over_the_api_undoes_it(api: Api, runtime: Runtime, install: _Install) -> None:
    assert install.put() == 202
    install.until_loading()
    cancelled = api.ask("POST", f"/v1/operations/{install.operation}/cancel", headers={"Operation-Id": new_operation()})
    assert cancelled.status == 200, cancelled
    until(lambda: install.view()["state"] == "failed")
    assert install.view()["error"]["code"] == "operation-cancelled"
    assert install.extension not in {view.id for view in runtime.list()}


def test_a_killed_control_is_reached_again_and_a_stale_socket_is_replaced(api: Api, runtime: Runtime) -> None:
    run = Home(runtime.home).run
    before = socket_path(run).stat()
    came_back = _kill_control(api)
    bind_socket(run).close()  # somebody's, who is gone as well
    came_back()
    after = socket_path(run).stat()
    # A new file may get the number of the one before.
    assert (after.st_ino, after.st_ctime_ns) != (before.st_ino, before.st_ctime_ns)
    assert api.ask("GET", "/v1/extensions").status == 200
    assert [each.name for each in run.iterdir() if "control.sock" in each.name] == ["control.sock"]


def test_status_names_every_part_and_what_is_away(api: Api, runtime: Runtime) -> None:
    status = api.ask("GET", "/v1/status").json
    names = [each["name"].split(" ")[0] for each in status["actors"]]
    assert names == ["keeper", "registry", "node", "control"]
    assert all(each["pid"] and each["state"] == "answers" for each in status["actors"])
    assert (status["kind"], status["home"], status["namespace"]) == (
        "embedded", str(runtime.home), runtime.namespace,
    )  # fmt: skip
    assert status["runtime"]["registry_pid"] == runtime.status().registry_pid
    assert status["actors"][0]["pid"] == os.getpid()


def test_status_answers_in_seconds_while_the_registry_does_not(api: Api, runtime: Runtime) -> None:
    registry = runtime.status().registry_pid
    os.kill(registry, signal.SIGSTOP)
    try:
        status = api.ask("GET", "/v1/status").json
    finally:
        os.kill(registry, signal.SIGCONT)
    assert status["runtime"] is None
    assert any(line.startswith("registry is away") for line in status["differences"])
    until(lambda: api.ask("GET", "/v1/status").json["runtime"] is not None)
    assert runtime.status().registry_pid == registry


def test_status_tells_why_an_extension_is_not_as_it_should_be(
    api: Api, runtime: Runtime, pack_extension: PackExtension, tmp_path: Path
) -> None:
    runtime.install(write_wheel(tmp_path, "falls-over", pack_extension("falls-over")))
    instance = runtime.show("falls-over").instance
    assert instance is not None
    (runtime.home / "packages").rename(runtime.home / "packages-gone")
    try:
        os.kill(instance.guest_pid or 0, signal.SIGKILL)
        until(
            lambda: any(
                line.startswith("falls-over is ") and "should be loaded" in line
                for line in api.ask("GET", "/v1/status").json["differences"]
            )
        )
    finally:
        (runtime.home / "packages-gone").rename(runtime.home / "packages")
    until(lambda: not api.ask("GET", "/v1/status").json["differences"])
    runtime.remove("falls-over", purge=True)
