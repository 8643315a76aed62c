"""The runtime over the control API is the runtime: same results, same errors, and nothing lost when control is."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ray_ext.client.runtime import Runtime
from ray_ext.control.remote import RemoteRuntime, remote_runtime
from ray_ext.errors import (
    ExtensionNotFound,
    OperationCancelled,
    OperationNotFound,
    RayExtError,
    Unauthorised,
)

_DEADLINE_S = 60.0
_numbers = itertools.count(1)

CODE = """
import asyncio
from ray_ext import Extension, exported

class Echo(Extension):
    async def on_load(self):
        self.logger.warning("echo is loaded")
        if self.config.get("is_patient"):
            (self.data_dir / "started").touch()
            while not (self.data_dir / "go").exists():
                await asyncio.sleep(0.02)

    @exported
    async def echo(self, value):
        return value

    @exported
    async def fail(self):
        raise ValueError("no")

    @exported
    async def wait(self, name: str):
        try:
            (self.data_dir / name).touch()
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            (self.data_dir / f"{name}-cancelled").touch()
            raise
"""


def _extension(folder: Path, extension: str, version: str = "1.0.0", more: str = "") -> Path:
    place = folder / f"{extension}-{version}"
    package = extension.replace("-", "_")
    (place / package).mkdir(parents=True)
    (place / package / "__init__.py").write_text(CODE)
    (place / "pyproject.toml").write_text(f'[project]\nname = "{extension}"\nversion = "{version}"\n')
    (place / "extension.toml").write_text(
        f'schema_version = 1\nid = "{extension}"\nname = "Echo"\nversion = "{version}"\ndescription = "Echoes"\n'
        f'author = "The ray_ext developers"\ncategory = "platform.custom"\nentry_point = "{package}:Echo"\n'
        f'{more}[configuration]\ntype = "object"\nproperties.is_patient = {{ type = "boolean", default = false }}\n'
    )
    return place


def _until(is_so: Callable[[], object]) -> None:
    give_up = time.monotonic() + _DEADLINE_S
    while not is_so():
        assert time.monotonic() < give_up, "it did not come true"
        time.sleep(0.02)


@pytest.fixture
def remote(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteRuntime]:
    monkeypatch.setenv("RAY_EXT_HOME", str(runtime.home))
    monkeypatch.delenv("RAY_EXT_CONTROL", raising=False)
    with remote_runtime() as remote:
        yield remote


@pytest.fixture
def extension(runtime: Runtime) -> Iterator[str]:
    """An id of its own; what has it goes at the end."""
    extension = f"remote-{next(_numbers)}"
    yield extension
    with suppress(ExtensionNotFound):
        runtime.remove(extension, purge=True, grace_s=0)


def _same(remote: Any, local: Any) -> None:
    assert remote == local
    assert type(remote) is type(local)


def test_every_method_answers_what_the_runtime_answers(
    remote: RemoteRuntime, runtime: Runtime, extension: str, tmp_path: Path
) -> None:
    first, second = _extension(tmp_path, extension), _extension(tmp_path, extension, "2.0.0")
    begun: list[str] = []
    told: list[str] = []
    _same(remote.plan("install", first), runtime.plan("install", first))
    view = remote.install(first, config={"is_patient": False}, on_progress=told.append, on_begin=begun.append)
    assert (view.state, view.version) == ("loaded", "1.0.0")
    _same(view, next(each for each in runtime.list() if each.id == extension))
    assert told
    assert [each for each in told if each.startswith("[")], "the steps are told"
    done = remote.operation(begun[0])
    assert (done.state, done.extension, done.error) == ("done", extension, None)
    assert done in remote.operations(50)
    assert remote.follow(begun[0]) == done
    assert remote.cancel(begun[0]) == done, "what is over stays as it is"

    _same(remote.list(), runtime.list())
    shown, local = remote.show(extension), runtime.show(extension)
    assert shown.instance is not None
    assert local.instance is not None
    assert (shown.instance.guest_pid, shown.methods) == (local.instance.guest_pid, local.methods)
    status, known = remote.status(), runtime.status()
    assert status.runtime is not None
    assert (status.runtime.registry_pid, status.home) == (known.registry_pid, str(runtime.home))
    assert remote.control() == status.control

    _same(remote.register(second), runtime.releases(extension)[-1])
    _same(remote.releases(extension), runtime.releases(extension))
    remote.yank(extension, "2.0.0", "it löses events")
    _same(remote.releases(extension), runtime.releases(extension))
    assert [each.yanked for each in remote.releases(extension)] == ["", "it löses events"]
    remote.yank(extension, "2.0.0", None)
    assert [each.yanked for each in remote.releases(extension)] == ["", ""]
    assert remote.upgrade(extension).version == "2.0.0"
    remote.forget(extension, "1.0.0")
    assert [each.version for each in remote.releases(extension)] == ["2.0.0"]
    assert remote.unload(extension, grace_s=1).state == "unloaded"
    assert remote.load(extension).state == "loaded"
    assert json.loads(remote.call(extension, "echo", [{"ä": [1, 2.5, None]}])) == {"ä": [1, 2.5, None]}
    assert json.loads(remote.call(extension, "echo", kwargs={"value": "x"}, timeout_s=20)) == "x"
    records = [json.loads(each) for each in remote.logs(extension, level="warning", lines=2)]
    assert [each["message"] for each in records] == ["echo is loaded", "echo is loaded"]
    assert {json.loads(each)["extension"] for each in remote.logs(extension)} == {extension}
    assert remote.discover() == runtime.discover()
    assert isinstance(remote.collect(), int)
    remote.remove(extension, purge=True)
    assert extension not in {each.id for each in remote.list()}
    _same(remote.audit(extension), runtime.audit(extension))
    assert [each.verb for each in remote.audit(extension, limit=2)] == [
        each.verb for each in runtime.audit(extension, limit=2)
    ]


def _error_of(act: Callable[[], object]) -> RayExtError:
    with pytest.raises(RayExtError) as raised:
        act()
    return raised.value


@pytest.mark.parametrize(
    "act",
    [
        lambda runtime, _: runtime.show("not-there"),
        lambda runtime, _: runtime.show("./No such/id"),
        lambda runtime, _: runtime.load("not-there"),
        lambda runtime, _: runtime.load("No Such Id"),
        lambda runtime, _: runtime.install("no-such-id", version="1.0"),
        lambda runtime, folder: runtime.install(folder / "no-such-folder"),
        lambda runtime, folder: runtime.install(_extension(folder, "asks", more='isolation = "trusted"\n')),
        lambda runtime, folder: runtime.install(_extension(folder, "configured"), config={"is_patient": 1}),
        lambda runtime, folder: runtime.install(_extension(folder, "needs", more='[dependencies]\nnothing = ">=1"\n')),
        lambda runtime, folder: runtime.plan("install", _extension(folder, "planned"), plan="0" * 64),
        lambda runtime, folder: runtime.install(_extension(folder, "stale"), plan="0" * 64),
        lambda runtime, _: runtime.yank("not-there", "1.0.0", "why"),
    ],
    ids=str,
)
def test_errors_are_those_of_the_runtime(
    remote: RemoteRuntime, runtime: Runtime, tmp_path: Path, act: Callable[[Any, Path], object]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ours = _error_of(lambda: act(remote, tmp_path / "a"))
    theirs = _error_of(lambda: act(runtime, tmp_path / "b"))
    assert type(ours) is type(theirs)
    assert str(ours).replace("/a/", "/b/") == str(theirs)
    assert json.loads(json.dumps(ours.details).replace("/a/", "/b/")) == json.loads(json.dumps(theirs.details))


def test_the_errors_of_calls_are_those_of_a_handle(
    remote: RemoteRuntime, runtime: Runtime, extension: str, tmp_path: Path
) -> None:
    runtime.install(_extension(tmp_path, extension))

    async def local(target: str, method: str, args: list[object], timeout_s: float | None) -> object:
        return await getattr(runtime.extension(target), method).options(timeout_s=timeout_s)(*args)

    calls: list[tuple[str, str, list[object], float | None]] = [
        (extension, "fail", [], None),
        (extension, "echo", [1, 2], None),
        (extension, "nothing", [], None),
        (extension, "wait", ["late"], 0.2),
        ("not-there", "echo", [], None),
    ]
    for target, method, args, timeout_s in calls:
        ours = _error_of(lambda: remote.call(target, method, args, timeout_s=timeout_s))  # noqa: B023 - called at once
        theirs = _error_of(lambda: asyncio.run(local(target, method, args, timeout_s)))  # noqa: B023 - called at once
        assert (ours.code, str(ours)) == (theirs.code, str(theirs))
    assert _error_of(lambda: remote.call(extension, "no method")).code == "not-exported"
    assert _error_of(lambda: remote.call(extension, "echo", [object()])).code == "argument-not-serialisable"
    assert _error_of(lambda: remote.call(extension, "echo", [float("nan")])).code == "argument-not-serialisable"


def test_leaving_a_call_cancels_it(remote: RemoteRuntime, runtime: Runtime, extension: str, tmp_path: Path) -> None:
    runtime.install(_extension(tmp_path, extension))
    data = runtime.home / "data" / extension

    def interrupt() -> None:
        _until((data / "left").exists)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        remote.call(extension, "wait", ["left"])
    thread.join()
    _until((data / "left-cancelled").exists)


class _Patient:
    """An install that loads when somebody says so, on a thread of its own."""

    def __init__(self, remote: RemoteRuntime, runtime: Runtime, extension: str, folder: Path) -> None:
        self.data = runtime.home / "data" / extension
        self.told: list[str] = []
        self.operation = ""
        self.outcome: Any = None
        self._remote = remote
        self._folder = _extension(folder, extension)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        _until((self.data / "started").exists)

    def _begin(self, operation: str) -> None:
        self.operation = operation

    def _run(self) -> None:
        try:
            self.outcome = self._remote.install(
                self._folder, config={"is_patient": True}, on_progress=self.told.append, on_begin=self._begin
            )
        except RayExtError as error:
            self.outcome = error

    def end(self) -> Any:
        (self.data / "go").touch()
        self._thread.join(_DEADLINE_S)
        assert not self._thread.is_alive(), "it did not end"
        return self.outcome


def _kill_control(remote: RemoteRuntime) -> None:
    """Kill it, and wait for its successor, which is what a request does by itself."""
    before = remote.control().pid
    os.kill(before, signal.SIGKILL)
    assert remote.control().pid != before


def test_an_install_is_joined_again_when_control_is_killed_and_its_news_are_told_once(
    remote: RemoteRuntime, runtime: Runtime, extension: str, tmp_path: Path
) -> None:
    patient = _Patient(remote, runtime, extension, tmp_path)
    _until(lambda: patient.told)
    for _ in range(2):
        _kill_control(remote)
    view = patient.end()
    assert not isinstance(view, RayExtError), view
    assert view.state == "loaded"
    told: list[str] = []
    assert remote.follow(patient.operation, told.append).state == "done"
    assert patient.told == told
    assert len({*told}) == len(told)


def test_an_install_goes_on_when_control_and_registry_are_killed(
    remote: RemoteRuntime, runtime: Runtime, extension: str, tmp_path: Path
) -> None:
    patient = _Patient(remote, runtime, extension, tmp_path)
    control, registry = remote.control().pid, runtime.status().registry_pid
    os.kill(control, signal.SIGKILL)
    os.kill(registry, signal.SIGKILL)
    view = patient.end()
    assert not isinstance(view, RayExtError), view
    assert view.state == "loaded"
    assert [each.state for each in remote.operations(100) if each.id == patient.operation] == ["done"]


def test_a_cancelled_install_ends_with_that_error(
    remote: RemoteRuntime, runtime: Runtime, extension: str, tmp_path: Path
) -> None:
    patient = _Patient(remote, runtime, extension, tmp_path)
    remote.cancel(patient.operation)
    view = remote.follow(patient.operation)
    assert (view.state, view.error and view.error.code) == ("failed", "operation-cancelled")
    assert isinstance(patient.end(), OperationCancelled)
    assert extension not in {each.id for each in remote.list()}


def test_what_is_no_operation_is_not_found(remote: RemoteRuntime) -> None:
    for operation in ("0123456789abcdef", "what?"):
        for act in (remote.operation, remote.follow, remote.cancel):
            with pytest.raises(OperationNotFound):
                act(operation)


def test_logs_are_followed_over_the_loss_of_control(
    remote: RemoteRuntime, runtime: Runtime, extension: str, tmp_path: Path
) -> None:
    runtime.install(_extension(tmp_path, extension))
    logs = remote.logs(extension, level="warning", is_following=True)
    assert json.loads(next(logs))["message"] == "echo is loaded"
    _kill_control(remote)
    runtime.unload(extension)
    generation = runtime.load(extension).generation
    record = json.loads(next(logs))
    assert (record["message"], record["generation"]) == ("echo is loaded", generation)


def test_over_tcp_the_token_opens_it_and_nothing_else_does(
    remote: RemoteRuntime, runtime: Runtime, extension: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _extension(tmp_path, extension)
    (folder / extension.replace("-", "_") / "noise.bin").write_bytes(os.urandom(4 << 20))
    _until(lambda: remote.control().listen)
    monkeypatch.setenv("RAY_EXT_CONTROL", remote.control().listen)
    monkeypatch.setenv("RAY_EXT_TOKEN", "wrong")
    with remote_runtime() as refused:
        for act in (refused.list, refused.collect, lambda: refused.install(folder), lambda: refused.register(folder)):
            with pytest.raises(Unauthorised):
                act()
    monkeypatch.setenv("RAY_EXT_TOKEN_FILE", str(runtime.home / "run" / "control-token"))
    told: list[str] = []
    with remote_runtime() as allowed:
        assert allowed.install(folder, on_progress=told.append) == next(
            each for each in runtime.list() if each.id == extension
        )
        assert allowed.call(extension, "echo", [1]) == b"1"
    assert told
