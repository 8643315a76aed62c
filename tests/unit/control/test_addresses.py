"""The control API over TCP: who is asked, what is shown to whom."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_ext.control.addresses import TcpAddress, configured_address
from ray_ext.control.remote import remote_runtime
from ray_ext.control.transport import Transport
from ray_ext.errors import (
    RayExtError,
    RequestInvalid,
    RuntimeUnreachable,
    Unauthorised,
)
from tests.unit.control.server import Server, answer, problem


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
