"""A server on a real socket that answers as it was told to."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable

__all__ = ["OPERATION", "Serve", "Server", "answer", "end", "events", "problem", "progress", "view"]

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


Serve = Callable[..., Server]
