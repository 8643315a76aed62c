"""Where the control API may listen on TCP: on loopback, or with TLS."""

from __future__ import annotations

import socket
import stat
import subprocess
from pathlib import Path

import pytest

from ray_ext.control.listening import Listen, bind_tcp, parse_listen, tls_context
from ray_ext.errors import ListenInvalid


@pytest.mark.parametrize(
    ("address", "host", "port", "url"),
    [
        ("127.0.0.1:8300", "127.0.0.1", 8300, "http://127.0.0.1:8300"),
        ("127.8.9.10:1", "127.8.9.10", 1, "http://127.8.9.10:1"),
        ("[::1]:65535", "::1", 65535, "http://[::1]:65535"),
        ("localhost:0", "localhost", 0, "http://localhost:0"),
    ],
)
def test_loopback_may_be_plain(address: str, host: str, port: int, url: str) -> None:
    listen = parse_listen(address)
    assert (listen.host, listen.port, listen.url, listen.is_tls) == (host, port, url, False)


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0:8300", "[::]:8300", "192.0.2.1:8300", "[2001:db8::1]:8300", "example.org:1", "localhost.example.org:1",
     "127.0.0.1.example.org:1", "[::ffff:192.0.2.1]:1", "2130706433:80", "0:80"],
)  # fmt: skip
def test_plain_tcp_elsewhere_is_refused_and_tls_is_not(address: str) -> None:
    with pytest.raises(ListenInvalid, match="plain TCP") as caught:
        parse_listen(address)
    assert "--tls-cert" in caught.value.fix
    assert parse_listen(address, tls_cert="/c", tls_key="/k").url.startswith("https://")


@pytest.mark.parametrize(
    "address",
    ["", ":", "8300", ":8300", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1",
     "127.0.0.1:+1", "127.0.0.1:1 ", "127.0.0.1:٣", "::1:8300", "[127.0.0.1]:8300", "[]:1", "[::1]8300"],
)  # fmt: skip
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ListenInvalid, match="no address"):
        parse_listen(address)


@pytest.mark.parametrize("files", [{"tls_cert": "/c"}, {"tls_key": "/k"}])
def test_a_certificate_without_its_key_is_refused(files: dict[str, str]) -> None:
    with pytest.raises(ListenInvalid, match="only one of them"):
        parse_listen("127.0.0.1:1", **files)


def test_files_that_make_no_tls_are_refused_with_their_names(tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("junk")
    for cert in (tmp_path / "missing", tmp_path / "junk"):
        with pytest.raises(ListenInvalid) as caught:
            tls_context(Listen(host="127.0.0.1", port=0, tls_cert=str(cert), tls_key=str(tmp_path / "junk")))
        assert str(cert) in caught.value.where
    assert tls_context(Listen(host="127.0.0.1", port=0)) is None


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-keyout", key, "-out", cert, "-subj", "/CN=localhost",
         "-passout", "pass:secret"],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl cannot make a certificate here")
    listen = Listen(host="127.0.0.1", port=0, tls_cert=str(cert), tls_key=str(key))
    with pytest.raises(ListenInvalid, match="cannot be used"):
        tls_context(listen)
    subprocess.run(
        ["openssl", "rsa", "-in", key, "-out", key, "-passin", "pass:secret"], capture_output=True, check=True
    )
    assert stat.S_ISREG(key.stat().st_mode)
    assert tls_context(listen) is not None


def test_a_port_that_is_taken_is_refused_and_one_that_was_just_left_is_not() -> None:
    with bind_tcp(parse_listen("127.0.0.1:0")) as first:
        port = first.getsockname()[1]
        with pytest.raises(ListenInvalid, match=rf"127\.0\.0\.1:{port}"):
            bind_tcp(parse_listen(f"127.0.0.1:{port}"))
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = first.accept()
            accepted.close()  # this side waits a while for what is late
    bind_tcp(parse_listen(f"127.0.0.1:{port}")).close()


def test_a_name_that_leads_elsewhere_is_refused_when_it_is_bound() -> None:
    with pytest.raises(ListenInvalid, match="not loopback"):
        bind_tcp(Listen(host="0.0.0.0", port=0))
