"""What tests of the control actor watch: operations' events, and things that come true."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.control.conftest import DEADLINE_S, Api

__all__ = ["Event", "TlsApi", "Watch", "free_port", "until", "write_wheel"]

#: Its id, name and data.
Event = tuple[str, str, Any]


class TlsApi(Api):
    """The API over TLS."""

    def __init__(self, place: tuple[str, int], tls: ssl.SSLContext, token: str = "") -> None:
        super().__init__(place, token)
        self._tls = tls

    def open(self) -> http.client.HTTPConnection:
        """A connection."""
        assert isinstance(self.place, tuple)
        return http.client.HTTPSConnection(*self.place, timeout=DEADLINE_S, context=self._tls)


class Watch:
    """Follows an operation on a thread, until the connection ends, from the news ``after`` on."""

    def __init__(self, api: Api, operation: str, after: str = "") -> None:
        self.events: list[Event] = []
        self._thread = threading.Thread(target=self._follow, args=(api, operation, after), daemon=True)
        self._thread.start()

    def _follow(self, api: Api, operation: str, after: str) -> None:
        try:
            for event in _events(api, operation, after):
                self.events.append(event)  # one by one: they are looked at meanwhile
        except (OSError, http.client.HTTPException):
            return  # control was killed

    def join(self) -> list[Event]:
        """All of them, when the connection has ended."""
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the connection did not end"
        return self.events


def _events(api: Api, operation: str, after: str) -> Iterator[Event]:
    connection = api.open()
    try:
        headers = {"Last-Event-ID": after} if after else {}
        response = api.send(connection, "GET", f"/v1/operations/{operation}/events", headers=headers)
        assert response.status == 200, response.read()
        fields: dict[str, str] = {}
        for line in response:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "event" in fields:
                yield fields.get("id", ""), fields["event"], json.loads(fields["data"])
                fields = {}
    finally:
        connection.close()


def until(is_so: Callable[[], object]) -> None:
    """Wait until a condition holds; what cannot be reached does not hold."""
    give_up = time.monotonic() + DEADLINE_S
    while True:
        try:
            if is_so():
                return
        except (OSError, http.client.HTTPException):
            pass
        assert time.monotonic() < give_up, "it did not come true"
        time.sleep(0.02)


def free_port() -> int:
    """One that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def write_wheel(folder: Path, extension: str, content: bytes) -> Path:
    """A wheel as a file, by the name that wheels have."""
    wheel = folder / f"{extension.replace('-', '_')}-1.0.0-py3-none-any.whl"
    wheel.write_bytes(content)
    return wheel
