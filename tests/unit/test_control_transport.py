"""Requests to a control API that answers, half answers, or does not: against a real socket."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ray_ext.control.addresses import HomeAddress, TcpAddress, configured_address
from ray_ext.control.event_reading import read_events
from ray_ext.control.following import follow, perform
from ray_ext.control.remote import RemoteRuntime, remote_runtime
from ray_ext.control.requests import make_request
from ray_ext.control.socket_file import bind_socket
from ray_ext.control.transport import Transport
from ray_ext.errors import (
    ExtensionNotFound,
    OperationFailed,
    OperationNotFound,
    OutcomeUnknown,
    RayExtError,
    RequestInvalid,
    RuntimeClosed,
    RuntimeUnreachable,
    Unauthorised,
)
from ray_ext.home import Home

OPERATION = "0123456789abcdef"


class Server:
    """Answers one connection after the other with what it was given; a reply of None closes without one."""

    def __init__(self, listening: socket.socket, *replies: bytes | None) -> None:
        self.requests: list[bytes] = []
        self._listening = listening
        self._replies = list(replies)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for reply in self._replies:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                self.requests.append(_request(connection))
                if reply is not None:
                    connection.sendall(reply)
        self._listening.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts
        self._listening.close()
        self._thread.join(10.0)
        assert not self._thread.is_alive()

    @property
    def lines(self) -> list[str]:
        return [each.split(b"\r\n")[0].decode() for each in self.requests]


def _request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            return data
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(each.split(b":")[1]) for each in head.split(b"\r\n") if each.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        body += connection.recv(1 << 20)
    return head + b"\r\n\r\n" + body


def answer(body: bytes, status: int = 200, kind: str = "application/json", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\ncontent-length: {size}\r\n\r\n".encode() + body


def problem(status: int, code: str, **more: object) -> bytes:
    return answer(json.dumps({"code": code, "detail": "what", **more}).encode(), status, "application/problem+json")


def events(*parts: str) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + "".join(parts).encode()


def progress(identity: str, text: str) -> str:
    return f"id: {identity}\nevent: progress\ndata: {json.dumps({'id': identity, 'text': text})}\n\n"


def view(state: str, **more: object) -> bytes:
    fields = {"id": OPERATION, "verb": "load", "extension": "probe", "state": state, "created_at": 1, "updated_at": 2}
    return json.dumps({**fields, **more}).encode()


def end(state: str, **more: object) -> str:
    return f"event: end\ndata: {view(state, **more).decode()}\n\n"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.run.mkdir(parents=True, mode=0o700)
    return home


@pytest.fixture
def lives(home: Home) -> Iterator[None]:
    """Somebody holds the runtime's lock, until the test is over."""
    with (home.run / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


Serve = Callable[..., Server]


@pytest.fixture
def serve(home: Home) -> Iterator[Serve]:
    servers: list[Server] = []

    def start(*replies: bytes | None) -> Server:
        servers.append(Server(bind_socket(home.run), *replies))
        return servers[-1]

    yield start
    for each in servers:
        each.close()


@pytest.fixture
def transport(home: Home) -> Transport:
    return Transport(HomeAddress(home), patience_s=5.0)


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


# ---- events


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_events_are_read_as_the_standard_says(ending: str) -> None:
    text = (
        "\ufeff: a comment\n\nid: 1\nevent: progress\ndata: one\ndata:two\ndata:  three\n\n"
        "event: empty, so no event\n\ndata\n\nretry: 3\nunknown: x\nid: 2\ndata: a: b\n\n: comment\ndata: never whole\n"
    )
    found = list(read_events([line.encode() for line in text.replace("\n", ending).split("\n")[:-1]]))
    assert found == [("progress", "one\ntwo\n three", "1"), ("message", "", "1"), ("message", "a: b", "2")]


@pytest.mark.usefixtures("lives")
def test_following_goes_on_after_the_last_news_and_repeats_none(transport: Transport, serve: Serve) -> None:
    server = serve(
        events(": keep-alive\n\n", progress("7-1", "one"), progress("7-2", "two"), "id: 7-3\nevent: progress\ndata: {"),
        None,
        events(progress("7-3", "three"), end("done")),
    )
    told: list[str] = []
    assert follow(transport, OPERATION, told.append).state == "done"
    assert told == ["one", "two", "three"]
    assert b"Last-Event-ID" not in server.requests[0]
    assert all(b"\r\nLast-Event-ID: 7-2\r\n" in each for each in server.requests[1:])


def test_following_what_is_not_known_says_so(transport: Transport, serve: Serve) -> None:
    serve(problem(404, "operation-not-found"))
    with pytest.raises(OperationNotFound, match="what"):
        follow(transport, OPERATION)
    with pytest.raises(OperationNotFound, match="no operation 'not an id'"):
        follow(transport, "not an id")


@pytest.mark.usefixtures("lives")
def test_an_operation_that_was_lost_is_sent_again_with_its_id(transport: Transport, serve: Serve) -> None:
    server = serve(
        None,  # control dies before it answers,
        answer(view("running"), 202),
        problem(404, "operation-not-found"),  # and again before the registry knows of it,
        answer(view("running"), 202),
        events(progress("7-1", "one"), end("interrupted")),  # and then the registry.
        answer(view("running"), 202),
        events(progress("8-1", "one"), end("done")),
    )
    told: list[str] = []
    begun: list[str] = []
    request, _ = make_request("load", "probe")
    done = perform(transport, request, None, on_progress=told.append, on_begin=begun.append)
    assert done.state == "done"
    assert told == ["one", "one"]
    put, watched = f"PUT /v1/operations/{begun[0]} HTTP/1.0", f"GET /v1/operations/{begun[0]}/events HTTP/1.0"
    assert server.lines == [put, put, watched, put, watched, put, watched]
    assert len({each for each in server.requests if each.startswith(b"PUT")}) == 1


def test_the_error_of_an_operation_is_raised(transport: Transport, serve: Serve) -> None:
    error = {"code": "operation-failed", "what": "a step failed", "fix": "mend it", "details": {"step": "load"}}
    serve(answer(view("running"), 202), events(end("failed", error=error)))
    request, _ = make_request("load", "probe")
    with pytest.raises(OperationFailed) as raised:
        perform(transport, request, None)
    assert str(raised.value) == "a step failed\n  fix: mend it [operation-failed]"
    assert raised.value.details == {"step": "load"}


def test_a_package_that_was_thrown_away_is_uploaded_again(transport: Transport, serve: Serve, tmp_path: Path) -> None:
    wheel = tmp_path / "probe-1-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    request, content = make_request("install", wheel)
    server = serve(
        answer(b"{}", 201),
        problem(404, "package-not-found"),
        answer(b"{}", 201),
        answer(view("running"), 202),
        events(end("done")),
    )
    assert perform(transport, request, content).state == "done"
    uploads = [each for each in server.requests if b"/v1/packages/" in each.split(b"\r\n")[0]]
    assert len(uploads) == 2
    assert all(each.endswith(b"\r\n\r\nwheel") for each in uploads)


@pytest.mark.usefixtures("lives")
def test_logs_that_are_followed_go_on_where_they_broke_off(home: Home, serve: Serve) -> None:
    records = [json.dumps({"time": f"2026-01-01T00:00:0{i}+00:00", "message": str(i)}).encode() for i in range(3)]
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    server = serve(
        head + records[0] + b"\n" + records[1] + b"\n" + records[2][:9],
        head + records[1] + b"\n" + records[2] + b"\n",
    )
    with RemoteRuntime(Transport(HomeAddress(home), patience_s=0.2)) as runtime:
        logs = runtime.logs("probe", lines=5, level="info", is_following=True)
        assert [next(logs) for _ in range(3)] == records
        with pytest.raises(RuntimeUnreachable, match="has not answered"):
            next(logs)
    assert server.lines[0] == "GET /v1/extensions/probe/logs?level=info&lines=5&is_following=true HTTP/1.0"
    assert "since=1767225601.0" in server.lines[1]
    assert "lines" not in server.lines[1]


def test_logs_that_end_in_the_middle_of_a_record_say_so(home: Home, serve: Serve) -> None:
    serve(b'HTTP/1.1 200 OK\r\n\r\n{"a":1}\n{"b"')
    with RemoteRuntime(Transport(HomeAddress(home))) as runtime:
        logs = runtime.logs()
        assert next(logs) == b'{"a":1}'
        with pytest.raises(RuntimeUnreachable, match="not complete: the answer broke off"):
            next(logs)


# ---- over TCP


@pytest.fixture
def port() -> Iterator[tuple[socket.socket, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening, listening.getsockname()[1]


def test_over_tcp_the_token_goes_along(
    port: tuple[socket.socket, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    monkeypatch.setenv("RAY_EXT_CONTROL", f"http://127.0.0.1:{port[1]}")
    monkeypatch.setenv("RAY_EXT_TOKEN_FILE", str(token))
    server = Server(port[0], answer(b'{"result":1}'), problem(401, "unauthorised"))
    with remote_runtime() as runtime:
        assert runtime.call("probe", "echo") == b"1"
        with pytest.raises(Unauthorised):
            runtime.call("probe", "echo")
    server.close()
    assert b"\r\nAuthorization: Bearer s3cret\r\n" in server.requests[0]
    assert f"\r\nHost: 127.0.0.1:{port[1]}\r\n".encode() in server.requests[0]


def test_nobody_waits_for_an_address_that_never_answered(port: tuple[socket.socket, int]) -> None:
    port[0].close()
    with pytest.raises(RuntimeUnreachable, match=r"nobody answers at http://127.0.0.1:.*: Connection refused"):
        Transport(TcpAddress(f"http://127.0.0.1:{port[1]}", "t")).open()


def test_an_address_that_has_answered_is_waited_for(port: tuple[socket.socket, int]) -> None:
    transport = Transport(TcpAddress(f"http://127.0.0.1:{port[1]}", "t"))
    server = Server(port[0], None, answer(b"1"))
    assert transport.request("GET", "/v1/x").body == b"1"
    server.close()


@pytest.mark.parametrize(
    ("url", "environment", "error"),
    [
        ("ftp://host", {"RAY_EXT_TOKEN": "t"}, RequestInvalid),
        ("http://127.0.0.1:99999", {"RAY_EXT_TOKEN": "t"}, RequestInvalid),
        ("127.0.0.1:80", {"RAY_EXT_TOKEN": "t"}, RequestInvalid),
        ("http://example.org:80", {"RAY_EXT_TOKEN": "t"}, RequestInvalid),
        ("http://127.evil.example:80", {"RAY_EXT_TOKEN": "t"}, RequestInvalid),
        ("http://127.0.0.1:80", {}, Unauthorised),
        ("http://127.0.0.1:80", {"RAY_EXT_TOKEN": "a\r\nX: y"}, Unauthorised),
        ("http://127.0.0.1:80", {"RAY_EXT_TOKEN_FILE": "/no/such/file"}, Unauthorised),
    ],
)
def test_wrong_settings_are_named(
    url: str, environment: dict[str, str], error: type[RayExtError], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_EXT_TOKEN", "RAY_EXT_TOKEN_FILE", "RAY_EXT_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_EXT_CONTROL", url)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error) as raised:
        configured_address()
    assert raised.value.fix


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = folder / "cert.pem", folder / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl cannot make a certificate here")
    return cert, key


def _refused(listening: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client has hung up
        listening.accept()[0].close()


def test_who_is_refused_while_sending_sees_why(port: tuple[socket.socket, int]) -> None:
    def refuse() -> None:
        connection, _ = port[0].accept()
        with connection:
            connection.recv(10)
            connection.sendall(problem(401, "unauthorised"))  # and closes with the rest unread: a reset

    refusing = threading.Thread(target=refuse)
    refusing.start()
    with pytest.raises(Unauthorised):
        Transport(TcpAddress(f"http://127.0.0.1:{port[1]}", "t")).request("PUT", "/v1/x", b"x" * 20_000_000)
    refusing.join()


def test_over_tls_the_certificate_is_checked(
    port: tuple[socket.socket, int], certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    url = f"https://127.0.0.1:{port[1]}"
    with context.wrap_socket(port[0], server_side=True) as listening:
        distrusted = threading.Thread(target=_refused, args=[listening])
        distrusted.start()
        with pytest.raises(RuntimeUnreachable, match="certificate is not to be trusted"):
            Transport(TcpAddress(url, "t")).open()
        distrusted.join()
        server = Server(listening, answer(b'{"result":"safe"}'), answer(b"12345", length=6), answer(b"123456"))
        monkeypatch.setenv("RAY_EXT_CONTROL", url)
        monkeypatch.setenv("RAY_EXT_TOKEN", "t")
        monkeypatch.setenv("RAY_EXT_CA_FILE", str(cert))
        with remote_runtime() as runtime:
            assert runtime.call("probe", "echo") == b'"safe"'
        transport = Transport(TcpAddress(url, "t", str(cert)))
        assert transport.request("GET", "/v1/x").body == b"123456", "a broken answer is no answer"
        server.close()


def test_plain_text_where_tls_should_be_is_said(port: tuple[socket.socket, int]) -> None:
    transport = Transport(TcpAddress(f"https://127.0.0.1:{port[1]}", "t"))
    accepted = threading.Thread(target=lambda: _plain(port[0]))
    accepted.start()
    with pytest.raises(RuntimeUnreachable, match="no TLS connection"):
        transport.open()
    accepted.join()


def _plain(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.recv(65536)


def test_a_ca_file_that_is_not_there_is_named(port: tuple[socket.socket, int]) -> None:
    with pytest.raises(RequestInvalid, match="RAY_EXT_CA_FILE"):
        Transport(TcpAddress(f"https://127.0.0.1:{port[1]}", "t", "/no/such/file")).open()


def test_a_process_that_calls_imports_little(home: Home, serve: Serve) -> None:
    code = (
        "import sys; from ray_ext.control.remote import remote_runtime; remote_runtime().call('a', 'b', [1]); "
        "print(sorted({'ray', 'msgspec', 'ssl', 'http', 'click', 'asyncio', 'sqlalchemy'} & set(sys.modules)))"
    )
    serve(answer(b'{"result":1}'))
    environment = {**os.environ, "RAY_EXT_HOME": str(home.root)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
