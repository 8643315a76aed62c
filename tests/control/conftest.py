"""One runtime for all tests of this package, whose control actor listens on loopback, too."""

from __future__ import annotations

import http.client
import json
import shutil
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ray_ext.client.boot import start
from ray_ext.client.runtime import Runtime
from ray_ext.control.listening import parse_listen
from ray_ext.control.socket_file import connect_socket
from ray_ext.home import Home
from ray_ext.packages import pack_folder

DEADLINE_S = 60.0

#: Every method takes whatever it is given: what schemathesis calls must not fail by itself.
CODE = """
import asyncio

from ray_ext import Extension, exported


class Probe(Extension):
    async def on_load(self):
        self.ended = {}

    @exported
    async def echo(self, value):
        return value

    @exported
    async def sleep(self, name: str, seconds: float):
        try:
            self.ended[name] = "asleep"
            await asyncio.sleep(seconds)
            self.ended[name] = "slept"
        except asyncio.CancelledError:
            self.ended[name] = "cancelled"
            raise

    @exported
    async def end_of(self, name: str):
        return self.ended.get(name)

    @exported
    async def fail(self, text: str = "no"):
        raise ValueError(text)

    @exported
    async def keyed(self):
        return {(1, 2): "a tuple is no key in JSON"}
"""
#: Packs an extension; id, code, version.
PackExtension = Callable[..., bytes]


@dataclass(frozen=True)
class Reply:
    """An HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Api:
    """A plain HTTP/1.1 client of the control API. ``place`` is a socket's folder, or host and port."""

    def __init__(self, place: Path | tuple[str, int], token: str = "") -> None:
        self.place = place
        self.token = token

    def open(self) -> http.client.HTTPConnection:
        """A connection."""
        if isinstance(self.place, tuple):
            return http.client.HTTPConnection(*self.place, timeout=DEADLINE_S)
        connection = http.client.HTTPConnection("runtime", timeout=DEADLINE_S)
        connection.sock = connect_socket(self.place, DEADLINE_S)
        return connection

    def ask(self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Reply:
        """One request; a body that is not bytes is sent as JSON."""
        connection = self.open()
        try:
            response = self.send(connection, method, path, body, headers=headers)
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        """The answer of one request, not read yet."""
        sent = dict(headers or {})
        if self.token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if body is not None:
            sent.setdefault(
                "Content-Type", "application/octet-stream" if isinstance(body, bytes) else "application/json"
            )
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, content, sent)
        return connection.getresponse()


def eventually(is_so: Callable[[], Any], what: str) -> Any:
    """Ask until it is so; fails at a deadline."""
    give_up = time.monotonic() + DEADLINE_S
    while not (found := is_so()):
        assert time.monotonic() < give_up, f"not in {DEADLINE_S} s: {what}"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="session")
def pack_extension(tmp_path_factory: pytest.TempPathFactory) -> PackExtension:
    def pack(extension: str, *, code: str = CODE, version: str = "1.0.0") -> bytes:
        folder = tmp_path_factory.mktemp(extension)
        package = extension.replace("-", "_")
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text(textwrap.dedent(code))
        (folder / "pyproject.toml").write_text(f'[project]\nname = "{extension}"\nversion = "{version}"\n')
        (folder / "extension.toml").write_text(
            f'schema_version = 1\nid = "{extension}"\nname = "{extension}"\nversion = "{version}"\n'
            f'description = "A probe"\nauthor = "The ray_ext developers"\ncategory = "platform.custom"\n'
            f'entry_point = "{package}:Probe"\n'
        )
        return pack_folder(folder)

    return pack


@pytest.fixture(scope="package")
def runtime() -> Iterator[Runtime]:
    home = Path(tempfile.mkdtemp(prefix="rx-"))
    started = Runtime(start(Home(home), kind="embedded", listen=parse_listen("127.0.0.1:0")))
    yield started
    started.close()
    shutil.rmtree(home)


def _answers(api: Api) -> bool:
    try:
        return bool(api.ask("GET", "/v1/control").json["listen"])
    except OSError:
        return False


@pytest.fixture(scope="package")
def api(runtime: Runtime) -> Api:
    """Over the socket."""
    api = Api(runtime.home / "run")
    eventually(lambda: _answers(api), "the control actor answers")
    return api


@pytest.fixture
def tcp_api(runtime: Runtime, api: Api) -> Api:
    """Over TCP, with the token. Each test asks anew where that is: another may have killed the control actor."""
    eventually(lambda: _answers(api), "the control actor answers")
    host, _, port = api.ask("GET", "/v1/control").json["listen"].removeprefix("http://").rpartition(":")
    return Api((host, int(port)), (runtime.home / "run" / "control-token").read_text())


@pytest.fixture(scope="package")
def probe(runtime: Runtime, pack_extension: PackExtension, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An extension that is loaded."""
    wheel = tmp_path_factory.mktemp("wheels") / "probe-1.0.0-py3-none-any.whl"
    wheel.write_bytes(pack_extension("probe"))
    return runtime.install(wheel).id
