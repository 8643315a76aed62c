"""TCP for other machines is TLS, and the token is asked for there, too."""

from __future__ import annotations

import http.client
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_ext.client.boot import start
from ray_ext.control.listening import Listen
from ray_ext.errors import ListenInvalid
from ray_ext.home import Home
from tests.control.conftest import Api
from tests.control.test_privacy import REPOSITORY
from tests.control.watching import TlsApi, free_port, until


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="rx-"))
    yield folder
    shutil.rmtree(folder)


def test_tls_serves_bearers_of_the_token(place: Path) -> None:
    cert, key = place / "cert.pem", place / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl cannot make a certificate here")
    home, port = Home(place / "home"), free_port()
    served = subprocess.Popen(
        [sys.executable, "-m", "tests.control.serve_alone", home.root, f"0.0.0.0:{port}", cert, key],
        stdin=subprocess.PIPE, cwd=REPOSITORY,
    )  # fmt: skip
    try:
        until((home.run / "control-token").exists)
        tls = ssl.create_default_context(cafile=cert)
        token = (home.run / "control-token").read_text()
        bearer = TlsApi(("127.0.0.1", port), tls, token)
        until(lambda: bearer.ask("GET", "/v1/control").json["listen"] == f"https://0.0.0.0:{port}")
        assert TlsApi(("127.0.0.1", port), tls).ask("GET", "/v1/control").status == 401
        until(lambda: Api(home.run).ask("GET", "/v1/control").status == 200)
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            Api(("127.0.0.1", port), token).ask("GET", "/v1/control")
        with pytest.raises(ssl.SSLCertVerificationError):
            TlsApi(("127.0.0.1", port), ssl.create_default_context()).ask("GET", "/v1/control")
    finally:
        served.communicate()


def test_plain_tcp_elsewhere_is_refused_before_anything_is_started(place: Path) -> None:
    with pytest.raises(ListenInvalid):
        start(Home(place / "home"), kind="embedded", listen=Listen(host="0.0.0.0", port=0))
    assert not (place / "home").exists()
