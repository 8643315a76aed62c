"""Requests to a control API that answers, half answers, or does not."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ray_ext.control.addresses import HomeAddress
from ray_ext.control.remote import RemoteRuntime, remote_runtime
from ray_ext.control.socket_file import bind_socket
from ray_ext.control.transport import Transport
from ray_ext.errors import (
    ExtensionNotFound,
    OutcomeUnknown,
    RayExtError,
    RuntimeClosed,
    RuntimeUnreachable,
    Unauthorised,
)
from ray_ext.home import Home
from tests.unit.control.server import Serve, Server, answer, problem


def test_an_answer_is_read_to_its_end(transport: Transport, serve: Serve) -> None:
    server = serve(answer(b'"x"'), answer(b"y" * 1_000_000), b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
    assert transport.request("GET", "/v1/a").body == b'"x"'
    assert transport.request("PUT", "/v1/b", b"z" * 1_000_000, headers=[("Operator", "me")]).body == b"y" * 1_000_000
    assert transport.request("GET", "/v1/c").body == b"until the end"
    assert server.lines == ["GET /v1/a HTTP/1.0", "PUT /v1/b HTTP/1.0", "GET /v1/c HTTP/1.0"]
    head, _, body = server.requests[1].partition(b"\r\n\r\n")
    assert body == b"z" * 1_000_000
    assert b"\r\nOperator: me\r\n" in head


def test_a_problem_becomes_the_error_that_it_was(transport: Transport, serve: Serve) -> None:
    serve(problem(404, "extension-not-found", where="here", fix="do", details={"installed": ["a"]}))
    with pytest.raises(ExtensionNotFound) as raised:
        transport.request("GET", "/v1/extensions/x")
    assert str(raised.value) == "what\n  where: here\n  fix: do [extension-not-found]"
    assert raised.value.details == {"installed": ["a"]}


@pytest.mark.parametrize("kind", ["text/plain", "application/problem+json"])
def test_a_failure_that_is_no_problem_document_is_told_as_it_is(transport: Transport, serve: Serve, kind: str) -> None:
    serve(answer(b"Internal Server Error", 500, kind))
    with pytest.raises(RayExtError, match="answered 500: Internal Server Error") as raised:
        transport.request("GET", "/v1/x")
    assert raised.value.code == "internal-error"


@pytest.mark.parametrize(
    "reply", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]
)
def test_who_does_not_speak_the_protocol_is_no_control_api(transport: Transport, serve: Serve, reply: bytes) -> None:
    serve(reply)
    with pytest.raises(RuntimeUnreachable, match="no control API"):
        transport.request("GET", "/v1/x")


@pytest.mark.usefixtures("lives")
@pytest.mark.parametrize("broken", [None, b"HTTP/1.1 200 O", answer(b"1234", length=5)])
def test_a_broken_answer_is_asked_for_again(transport: Transport, serve: Serve, broken: bytes | None) -> None:
    server = serve(broken, answer(b"12345"))
    assert transport.request("GET", "/v1/x").body == b"12345"
    assert len(server.requests) == 2


@pytest.mark.usefixtures("lives")
def test_a_call_that_may_have_run_is_not_sent_again(home: Home, serve: Serve) -> None:
    server = serve(answer(b'{"result":1', length=12), answer(b'{"result":1}'))
    with RemoteRuntime(Transport(HomeAddress(home))) as runtime, pytest.raises(OutcomeUnknown, match="11 of 12"):
        runtime.call("probe", "echo", [1])
    assert len(server.requests) == 1


@pytest.mark.usefixtures("lives")
def test_a_runtime_that_starts_is_waited_for_by_calls_too(home: Home, serve: Serve) -> None:
    timer = threading.Timer(0.3, serve, [answer(b'{"result":{"a":[1, 2]}}')])
    timer.start()
    with RemoteRuntime(Transport(HomeAddress(home))) as runtime:
        assert runtime.call("probe", "echo", [1], {"b": None}, 2.5) == b'{"a":[1, 2]}'
    timer.join()


@pytest.mark.usefixtures("lives")
def test_patience_ends(home: Home) -> None:
    before = time.monotonic()
    with pytest.raises(RuntimeUnreachable, match=r"is up, but its control API has not answered for 0\.2 s"):
        Transport(HomeAddress(home), patience_s=0.2).request("GET", "/v1/x")
    assert time.monotonic() - before < 5


def test_a_server_that_is_silent_is_given_up(home: Home, lives: None) -> None:
    with bind_socket(home.run), pytest.raises(RuntimeUnreachable, match="did not answer in time"):
        Transport(HomeAddress(home), patience_s=0.2).request("GET", "/v1/x", quiet_s=0.1)


def test_without_a_runtime_nobody_waits(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_EXT_HOME", str(home.root))
    bind_socket(home.run).close()  # a crash leaves the file
    for path in (home.root, home.root / "never" / "was"):
        monkeypatch.setenv("RAY_EXT_HOME", str(path))
        before = time.monotonic()
        with pytest.raises(RuntimeUnreachable, match="no runtime is up with this state home") as raised:
            remote_runtime()
        assert (raised.value.fix, raised.value.where) == ("start one: ray-ext up", str(path))
        assert time.monotonic() - before < 5


def test_a_runtime_that_ends_meanwhile_is_not_waited_for(home: Home, transport: Transport, serve: Serve) -> None:
    with (home.run / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        threading.Timer(0.3, lambda: fcntl.flock(file, fcntl.LOCK_UN)).start()
        with pytest.raises(RuntimeUnreachable, match="no runtime is up"):
            transport.request("GET", "/v1/x")


def test_a_home_with_a_long_path_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / ("long" * 40) / ("longer" * 30))
    home.run.mkdir(parents=True)
    monkeypatch.setenv("RAY_EXT_HOME", str(home.root))
    server = Server(bind_socket(home.run), answer(b'{"result":"far"}'))
    with remote_runtime() as runtime:
        assert runtime.call("probe", "echo") == b'"far"'
    server.close()


def test_a_closed_runtime_says_so(home: Home, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_EXT_HOME", str(home.root))
    serve(None)
    runtime = remote_runtime()
    runtime.close()
    with pytest.raises(RuntimeClosed):
        runtime.status()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_told_so(tmp_path: Path) -> None:
    folder = Path("/tmp") / f"rx-{os.getpid()}-other"
    home = Home(folder)
    home.run.mkdir(parents=True)
    home.root.chmod(0o700)
    server = bind_socket(home.run)
    try:
        os.seteuid(65534)
        with pytest.raises(Unauthorised, match="another user's"):
            Transport(HomeAddress(home)).open()
    finally:
        os.seteuid(0)
        server.close()
        (home.run / "control.sock").unlink()
        home.run.rmdir()
        folder.rmdir()


def test_a_process_that_calls_imports_little(home: Home, serve: Serve) -> None:
    code = (
        "import sys; from ray_ext.control.remote import remote_runtime; remote_runtime().call('a', 'b', [1]); "
        "print(sorted({'ray', 'msgspec', 'ssl', 'http', 'click', 'asyncio', 'sqlalchemy'} & set(sys.modules)))"
    )
    serve(answer(b'{"result":1}'))
    environment = {**os.environ, "RAY_EXT_HOME": str(home.root)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
