"""Requests to the control API, and patience with it.

HTTP/1.0: an answer ends with its connection, and no connection is used twice. Written for processes that live for one
request: ``http.client`` alone takes as long to import as the rest of such a process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from ray_ext.errors import OutcomeUnknown, RayExtError, RuntimeUnreachable, error_from_parts

if TYPE_CHECKING:
    from socket import socket

    from ray_ext.control.addresses import Address

__all__ = ["LOOK_S", "PATIENCE_S", "QUIET_S", "Answer", "ConnectionLost", "Patience", "Stream", "Transport"]

#: How long a runtime that lives may take to answer again: a control actor that was killed is back within seconds.
PATIENCE_S = 30.0
_CONNECT_S = 10.0
#: The longest silence where something is looked at: a registry that is away is waited for behind it, for 60 s.
LOOK_S = 75.0
#: The same before the answer to a change or a plan. What takes longer than this is an operation, or a call.
QUIET_S = 600.0
#: A connection made ahead of its request is used within this time only.
_FRESH_S = 5.0
_HEAD_BYTES = 65_536
_CHUNK_BYTES = 262_144

Headers = Sequence[tuple[str, str]]


class ConnectionLost(Exception):
    """A request got no whole answer. ``was_sent``: it may have arrived."""

    def __init__(self, cause: str, *, was_sent: bool) -> None:
        super().__init__(cause)
        self.was_sent = was_sent


class Answer:
    """A whole answer that is no error."""

    __slots__ = ("body", "status")

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body


class Stream:
    """An answer that comes line by line. A context manager; leaving it ends the connection.

    Iterating raises ConnectionLost where the connection breaks, or ends in the middle of a line.
    """

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def __iter__(self) -> Iterator[bytes]:
        return self._connection.lines()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()


class Patience:
    """Waits for a runtime that lives until it answers again, for at most ``patience_s`` seconds a time."""

    def __init__(self, address: Address, patience_s: float) -> None:
        self._address = address
        self._patience_s = patience_s
        self.reset()

    def reset(self) -> None:
        """There was an answer."""
        self._since: float | None = None
        self._pause_s = 0.02

    def wait(self, lost: Exception) -> None:
        """Before another try. Raises RuntimeUnreachable (or Unauthorised) where there is no use in one."""
        absent = self._address.absence(_cause(lost))
        if absent is not None:
            raise absent from lost
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since + self._pause_s > self._patience_s:
            raise RuntimeUnreachable(
                f"the runtime is up, but its control API has not answered for {self._patience_s:g} s: {_cause(lost)}",
                where=self._address.where,
                fix="see what is wrong: ray-ext doctor",
            ) from lost
        time.sleep(self._pause_s)
        self._pause_s = min(self._pause_s * 1.5, 0.5)


class Transport:
    """Requests to one address. Every failure is a RayExtError: the runtime's own, or that it cannot be reached."""

    def __init__(self, address: Address, *, patience_s: float = PATIENCE_S) -> None:
        self._address = address
        self._patience_s = patience_s
        self._ready: tuple[socket, float] | None = None

    def patience(self) -> Patience:
        """A new one, for who makes tries of its own."""
        return Patience(self._address, self._patience_s)

    def open(self) -> None:
        """Connect, waiting for a runtime that is starting; the first request uses the connection.

        Raises RuntimeUnreachable where no runtime is up, Unauthorised where it is another user's.
        """
        patience = self.patience()
        while self._ready is None:
            try:
                self._ready = (self._address.connect(_CONNECT_S), time.monotonic())
            except OSError as error:
                patience.wait(error)

    def close(self) -> None:
        """Let go of a connection that was not used."""
        if self._ready is not None:
            self._ready[0].close()
            self._ready = None

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        content_type: str = "application/json",
        headers: Headers = (),
        quiet_s: float | None = QUIET_S,
        is_repeatable: bool = True,
    ) -> Answer:
        """Send it and get the answer; again, while the runtime lives, if it was lost.

        A request that is not repeatable is sent again only if it cannot have arrived; else OutcomeUnknown is raised.
        ``quiet_s`` is the longest silence in seconds, None for any.
        """
        patience = self.patience()
        while True:
            try:
                with self._send(method, path, body, content_type, headers, quiet_s) as connection:
                    return connection.answer(path)
            except ConnectionLost as lost:
                if lost.was_sent and not is_repeatable:
                    raise OutcomeUnknown(
                        f"the connection to the runtime was lost before there was an answer: {lost}",
                        where=path,
                        fix="find out whether it ran before you send it again",
                        details={"cause": str(lost)},
                    ) from lost
                patience.wait(lost)

    def stream(self, path: str, *, headers: Headers = (), quiet_s: float | None) -> Stream:
        """Ask once for an answer that comes line by line. Raises ConnectionLost: see :meth:`patience`."""
        connection = self._send("GET", path, None, "", headers, quiet_s)
        try:
            connection.begin(path)
        except BaseException:
            connection.close()
            raise
        return Stream(connection)

    def _send(
        self, method: str, path: str, body: bytes | None, content_type: str, headers: Headers, quiet_s: float | None
    ) -> _Connection:
        lines = [f"{method} {path} HTTP/1.0"]
        lines += [f"{name}: {value}" for name, value in (*self._address.headers, *headers)]
        if body is not None:
            lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
        connection = _Connection(self._connect())
        try:
            connection.send(head + body if body is not None and len(body) <= _CHUNK_BYTES else head, quiet_s)
            if body is not None and len(body) > _CHUNK_BYTES:
                connection.send(body, quiet_s)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> socket:
        ready, self._ready = self._ready, None
        if ready is not None:
            if time.monotonic() - ready[1] < _FRESH_S:
                return ready[0]
            ready[0].close()
        try:
            return self._address.connect(_CONNECT_S)
        except OSError as error:
            raise ConnectionLost(_cause(error), was_sent=False) from error


class _Connection:
    """A connection with one request under way."""

    def __init__(self, connected: socket) -> None:
        self._socket = connected
        self._read = bytearray()
        self._is_refused = False

    def send(self, data: bytes, quiet_s: float | None) -> None:
        """Send a part of the request. Who is refused in the middle of it finds out from the answer."""
        if self._is_refused:
            return
        try:
            self._socket.settimeout(quiet_s)
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self._is_refused = True
        except OSError as error:
            raise ConnectionLost(_cause(error), was_sent=True) from error

    def answer(self, path: str) -> Answer:
        """The whole answer; an error is raised."""
        status, fields = self._head()
        body = self._body(fields)
        if not 200 <= status < 300:
            _raise_problem(status, fields, body, path)
        return Answer(status, body)

    def begin(self, path: str) -> None:
        """Read the head of an answer whose lines follow; an error is raised."""
        status, fields = self._head()
        if not 200 <= status < 300:
            _raise_problem(status, fields, self._body(fields), path)

    def lines(self) -> Iterator[bytes]:
        """What follows, without line feeds."""
        checked = 0
        while True:
            end = self._read.find(b"\n", checked)
            if end >= 0:
                line = bytes(self._read[:end])
                del self._read[: end + 1]
                checked = 0
                yield line
                continue
            checked = len(self._read)
            if not self._receive():
                if self._read:
                    raise ConnectionLost("the answer broke off", was_sent=True)
                return

    def _head(self) -> tuple[int, dict[str, str]]:
        while (end := self._read.find(b"\r\n\r\n")) < 0:
            if len(self._read) > _HEAD_BYTES or (len(self._read) >= 5 and not self._read.startswith(b"HTTP/")):
                _raise_stranger()
            if not self._receive():
                raise ConnectionLost("the connection was closed without an answer", was_sent=True)
        first, *rest = self._read[:end].decode("latin-1").split("\r\n")
        del self._read[: end + 4]
        version, _, status = first.partition(" ")
        if not version.startswith("HTTP/1.") or not status[:3].isdecimal():
            _raise_stranger()
        fields = {}
        for line in rest:
            name, _, value = line.partition(":")
            fields[name.strip().lower()] = value.strip()
        if "transfer-encoding" in fields:  # not for HTTP/1.0
            _raise_stranger()
        return int(status[:3]), fields

    def _body(self, fields: dict[str, str]) -> bytes:
        length = fields.get("content-length")
        if length is not None and not length.isdecimal():
            _raise_stranger()
        while length is None or len(self._read) < int(length):
            if not self._receive():
                if length is not None:
                    raise ConnectionLost(
                        f"the answer broke off after {len(self._read)} of {length} bytes", was_sent=True
                    )
                break
        return bytes(self._read if length is None else self._read[: int(length)])

    def _receive(self) -> bool:
        try:
            data = self._socket.recv(_CHUNK_BYTES)
        except OSError as error:
            raise ConnectionLost(_cause(error), was_sent=True) from error
        self._read += data
        return bool(data)

    def close(self) -> None:
        """End it; a call that is under way is cancelled by that."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _cause(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _raise_stranger() -> NoReturn:
    raise RuntimeUnreachable("what answers is no control API of ray_ext", fix="check RAY_EXT_CONTROL")


def _raise_problem(status: int, fields: dict[str, str], body: bytes, path: str) -> NoReturn:
    """Problem details (RFC 9457) become the error that they were made from."""
    import json

    try:
        problem = json.loads(body) if "json" in fields.get("content-type", "") else None
    except ValueError:
        problem = None
    if isinstance(problem, dict) and isinstance(problem.get("code"), str):
        details = problem.get("details")
        raise error_from_parts(
            problem["code"],
            str(problem.get("detail", "")),
            str(problem.get("where", "")),
            str(problem.get("fix", "")),
            details if isinstance(details, dict) else {},
        )
    if status in (502, 503, 504):  # a proxy's
        raise RuntimeUnreachable(f"what stands before the control API answered {status}", where=path)
    text = body[:200].decode("utf-8", "replace").strip()
    raise RayExtError(
        f"the control API answered {status}: {text}" if text else f"the control API answered {status}",
        where=path,
        fix="see the runtime's logs: ray-ext logs",
        details={"status": status},
    )
