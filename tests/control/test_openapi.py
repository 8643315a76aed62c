"""The document is held against the API that runs: whatever it says is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ray_ext.client.runtime import Runtime
from tests.control.conftest import Api

#: All of schemathesis' checks. 422 is how contents are refused that have the right shape: arguments that do not fit the
#: method, bytes that are not those of their sha256. A schema cannot say which these are.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "422", "429", "5xx"]
"""


def test_schemathesis_finds_no_failure(runtime: Runtime, tcp_api: Api, probe: str, tmp_path: Path) -> None:
    assert runtime.show(probe).state == "loaded"
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    assert isinstance(tcp_api.place, tuple)
    host, port = tcp_api.place
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"),
            "--config-file",
            "schemathesis.toml",
            "run",
            f"http://{host}:{port}/v1/openapi.json",
            f"--header=Authorization: Bearer {tcp_api.token}",
            "--max-examples=8",
            "--request-timeout=30",
            "--suppress-health-check=all",
            "--no-color",
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.control.schemathesis_hooks",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    operations = re.search(r"Selected: (\d+)/(\d+)\s+Tested: (\d+)", done.stdout)
    assert operations is not None, done.stdout
    assert len(set(operations.groups())) == 1, "every operation was tried"
    assert runtime.show(probe).state == "loaded", "the runtime is as well as before"


def test_the_document_is_the_same_on_the_socket_and_over_tcp(api: Api, tcp_api: Api) -> None:
    document = api.ask("GET", "/v1/openapi.json")
    assert document.json == tcp_api.ask("GET", "/v1/openapi.json").json
    assert document.json["openapi"] == "3.1.0"


@pytest.mark.parametrize("path", ["/v1/status", "/v1/control", "/v1/openapi.json", "/v1/logs?is_following=true"])
def test_head_is_get_without_a_body(api: Api, path: str) -> None:
    reply = api.ask("HEAD", path)
    assert (reply.status, reply.body) == (200, b"")
