"""An operation has an id: it is applied once, seen while it runs and after, and can be cancelled."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ray_ext.client.runtime import Runtime
from ray_ext.control.requests import make_command, new_operation
from ray_ext.control.views import News, OperationView
from ray_ext.errors import OperationCancelled, OperationConflict, RayExtError
from tests.cluster.conftest import MakeExtension
from tests.patient_extension import PATIENT


def _until(is_so: Callable[[], bool], limit_s: float = 60.0) -> None:
    give_up = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < give_up, "it did not come true"
        time.sleep(0.02)


class _Client:
    """What asks the registry, with ids of its own choice."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._registry = runtime._client()

    def ask(self, method: str, *args: object) -> Any:
        return self._registry.call(method, *args)

    def begin(self, verb: Any, target: Any, operation: str, **options: Any) -> asyncio.Task[Any]:
        """Perform it in the background."""
        return asyncio.ensure_future(
            asyncio.to_thread(self.ask, "perform", make_command(verb, target, **options), operation)
        )

    def view(self, operation: str) -> OperationView | None:
        view: OperationView | None = self.ask("operation", operation)
        return view

    async def until_loading(self, extension: str) -> None:
        await asyncio.to_thread(_until, (self._runtime.home / "data" / extension / "started").exists)


@pytest.fixture
def client(runtime: Runtime) -> _Client:
    return _Client(runtime)


@pytest.fixture
def patient(runtime: Runtime, make_extension: MakeExtension, request: pytest.FixtureRequest) -> Iterator[Path]:
    name = f"patient-{abs(hash(request.node.name)) % 10**8}"
    yield make_extension(name, code=PATIENT)
    installed = {view.id for view in runtime.list()}
    if name in installed:
        runtime.remove(name, purge=True, grace_s=0)


def _id(folder: Path) -> str:
    (line,) = [line for line in (folder / "extension.toml").read_text().splitlines() if line.startswith("id = ")]
    return line.split('"')[1]


def _let_load(runtime: Runtime, extension: str) -> None:
    folder = runtime.home / "data" / extension
    folder.mkdir(exist_ok=True)
    (folder / "go").touch()


async def test_an_operation_is_seen_from_its_first_step_to_its_end(
    runtime: Runtime, client: _Client, patient: Path
) -> None:
    extension, operation = _id(patient), new_operation()
    assert client.view(operation) is None
    performing = client.begin("install", patient, operation)
    await client.until_loading(extension)
    view = client.view(operation)
    assert view is not None
    assert (view.verb, view.extension, view.state, view.step) == ("install", extension, "running", 1)
    assert view.steps == [f"install {extension} 1.0.0", f"load {extension} 1.0.0"]
    news, is_over = client.ask("news", operation, "", 5.0)
    epoch = runtime.status().writer_epoch
    assert [each.id for each in news] == [f"{epoch}-1", f"{epoch}-2"]
    assert not is_over
    assert client.ask("news", operation, news[0].id, 5.0) == (news[1:], False)
    assert client.ask("news", operation, f"{epoch + 1}-2", 5.0) == (news, False)
    _let_load(runtime, extension)
    await performing
    ended = client.view(operation)
    assert ended is not None
    assert (ended.state, ended.step, ended.error, ended.created_at) == ("done", 2, None, view.created_at)
    assert client.ask("news", operation, news[1].id, 5.0) == ([], True)
    listed = client.ask("list_operations", 5)
    assert listed[0] == ended
    assert len(client.ask("list_operations", 1)) == 1
    assert runtime.audit(extension)[0].operation == operation


async def test_cancelling_an_operation_at_work_undoes_it_and_it_stays_cancelled(
    runtime: Runtime, client: _Client, patient: Path
) -> None:
    extension, operation = _id(patient), new_operation()
    command = make_command("install", patient)
    performing = asyncio.ensure_future(asyncio.to_thread(client.ask, "perform", command, operation))
    await client.until_loading(extension)
    assert client.ask("cancel", operation) is True
    with pytest.raises(OperationCancelled) as caught:
        await performing
    assert caught.value.details["step"] == f"load {extension} 1.0.0"
    assert f"undone: install {extension} 1.0.0" in str(caught.value.details["undone"])
    view = client.view(operation)
    assert view is not None
    assert (view.state, view.error.code if view.error else "") == ("failed", "operation-cancelled")
    assert extension not in {each.id for each in runtime.list()}
    assert runtime.releases(extension) == []
    assert client.ask("cancel", operation) is True, "asked again, the answer is the same"
    with pytest.raises(OperationCancelled):
        client.ask("perform", command, operation)
    assert extension not in {each.id for each in runtime.list()}


async def test_one_that_waits_for_its_turn_is_cancelled_with_nothing_done_also_after_a_restart_of_the_registry(
    runtime: Runtime, client: _Client, patient: Path, strict: str
) -> None:
    extension, first, waiting = _id(patient), new_operation(), new_operation()
    performing = client.begin("install", patient, first)
    await client.until_loading(extension)
    parked = client.begin("unload", strict, waiting)
    await asyncio.to_thread(_until, lambda: client.view(waiting) is not None)
    assert client.ask("cancel", waiting) is True
    with pytest.raises(OperationCancelled):
        await parked
    _let_load(runtime, extension)
    await performing
    assert runtime.show(strict).state == "loaded"
    os.kill(runtime.status().registry_pid, signal.SIGKILL)
    with pytest.raises(OperationCancelled):
        client.ask("perform", make_command("unload", strict), waiting)
    view = client.view(waiting)
    assert view is not None
    assert (view.state, view.verb, view.extension) == ("failed", "unload", strict)
    assert runtime.show(strict).desired == "loaded"
    assert client.ask("cancel", first) is False
    assert client.ask("cancel", new_operation()) is False


async def test_an_interrupted_operation_is_over_if_nobody_sends_it_again_and_goes_on_if_somebody_does(
    runtime: Runtime, client: _Client, patient: Path
) -> None:
    extension, operation = _id(patient), new_operation()
    command = make_command("install", patient)
    # Nobody waits for it, so nobody sends it again.
    client._registry.submit("perform", command, operation)
    await client.until_loading(extension)
    (seen, _) = client.ask("news", operation, "", 5.0)
    (runtime.home / "data" / extension / "started").unlink()
    os.kill(runtime.status().registry_pid, signal.SIGKILL)
    view = client.view(operation)
    assert view is not None
    assert view.state == "interrupted"
    assert client.ask("news", operation, seen[-1].id, 0.1) == ([], True)
    performing = asyncio.ensure_future(asyncio.to_thread(client.ask, "perform", command, operation))
    await client.until_loading(extension)
    news, is_over = client.ask("news", operation, seen[-1].id, 5.0)
    assert ([each.text for each in news], is_over) == ([each.text for each in seen], False)
    assert not {each.id for each in news} & {each.id for each in seen}
    _let_load(runtime, extension)
    await performing
    assert [each.state for each in client.ask("list_operations", 100) if each.id == operation] == ["done"]


async def test_an_interrupted_operation_that_is_cancelled_is_not_carried_out_when_it_is_sent_again(
    runtime: Runtime, client: _Client, patient: Path
) -> None:
    extension, operation = _id(patient), new_operation()
    command = make_command("install", patient)
    client._registry.submit("perform", command, operation)
    await client.until_loading(extension)
    os.kill(runtime.status().registry_pid, signal.SIGKILL)
    assert client.ask("cancel", operation) is True
    with pytest.raises(OperationCancelled):
        client.ask("perform", command, operation)
    assert extension not in {each.id for each in runtime.list()}


def _refuse(client: _Client, method: str, *args: object) -> None:
    with pytest.raises(OperationConflict, match="known already"):
        client.ask(method, *args)


async def test_an_id_stands_for_one_operation_whatever_is_asked_with_it(
    runtime: Runtime, client: _Client, patient: Path, strict: str
) -> None:
    extension, running, yanked = _id(patient), new_operation(), new_operation()
    performing = client.begin("install", patient, running)
    await client.until_loading(extension)
    _refuse(client, "perform", make_command("load", extension), running)
    _let_load(runtime, extension)
    await performing
    for command in (make_command("load", extension), make_command("install", strict, to="1.0.0")):
        _refuse(client, "perform", command, running)
    assert client.ask("perform", make_command("install", patient), running).id == extension
    _refuse(client, "yank", extension, "1.0.0", "why", "me", running)
    client.ask("yank", extension, "1.0.0", "why", "me", yanked)
    _refuse(client, "yank", extension, "1.0.0", None, "me", yanked)
    _refuse(client, "yank", strict, "1.0.0", "why", "me", yanked)
    _refuse(client, "forget", extension, "1.0.0", "me", yanked)
    _refuse(client, "perform", make_command("load", extension), yanked)
    await asyncio.to_thread(_until, lambda: client.view(yanked) is None)


def test_what_changes_no_installation_is_applied_once_also_by_the_next_registry(
    runtime: Runtime, client: _Client, make_extension: MakeExtension
) -> None:
    from ray_ext.control.requests import package_of

    wheel, source = package_of(make_extension("once"))
    register, yank, forget, collect = (new_operation() for _ in range(4))
    registered = client.ask("register", wheel, source, "me", register)
    client.ask("yank", "once", "1.0.0", "bad", "me", yank)
    runtime.yank("once", "1.0.0", None)
    os.kill(runtime.status().registry_pid, signal.SIGKILL)
    client.ask("yank", "once", "1.0.0", "bad", "me", yank)
    assert [each.yanked for each in runtime.releases("once")] == [""]
    client.ask("forget", "once", "1.0.0", "me", forget)
    again = client.ask("register", wheel, source, "me", register)
    assert (again.id, again.version, again.sha256) == (registered.id, registered.version, registered.sha256)
    assert runtime.releases("once") == []
    runtime.register(source)
    client.ask("forget", "once", "1.0.0", "me", forget)
    assert [each.version for each in runtime.releases("once")] == ["1.0.0"]
    freed = client.ask("collect", "me", collect)
    assert client.ask("collect", "me", collect) == freed
    entries = [entry for entry in runtime.audit(limit=1000) if entry.operation in {register, yank, forget, collect}]
    assert sorted(entry.verb for entry in entries) == ["collect", "forget", "register", "yank"]
    assert {entry.verb: entry.actor for entry in entries}["collect"] == "me"
    runtime.forget("once", "1.0.0")


def test_a_refused_operation_is_seen_for_a_while_with_its_error(runtime: Runtime, client: _Client) -> None:
    operation = new_operation()
    with pytest.raises(RayExtError) as caught:
        client.ask("perform", make_command("load", "not-there"), operation)
    view = client.view(operation)
    assert view is not None
    assert view.error is not None
    assert (view.state, view.steps, view.error.code, view.error.what) == (
        "failed", [], caught.value.code, caught.value.what,
    )  # fmt: skip
    assert client.ask("news", operation, "", 5.0) == ([], True)


async def test_news_of_an_operation_that_is_yet_to_be_sent_can_be_waited_for(
    runtime: Runtime, client: _Client, strict: str
) -> None:
    operation = new_operation()
    assert client.ask("news", operation, "", 0.05) == ([], False)
    waiting = asyncio.ensure_future(asyncio.to_thread(client.ask, "news", operation, "", 60.0))
    await asyncio.sleep(0)
    client.ask("perform", make_command("unload", strict), operation)
    client.ask("perform", make_command("load", strict), new_operation())
    news, _ = await waiting
    assert news[:1] == [News(news[0].id, f"[1/1] unload {strict} 1.0.0: asked for")]
