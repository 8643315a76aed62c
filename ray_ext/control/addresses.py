"""Where a runtime's control API is reached: at its state home's socket, or at an address."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ray_ext.control.socket_file import connect_socket, socket_path
from ray_ext.errors import RayExtError, RequestInvalid, RuntimeUnreachable, Unauthorised

if TYPE_CHECKING:
    from ssl import SSLContext

    from ray_ext.home import Home

__all__ = ["Address", "HomeAddress", "TcpAddress", "configured_address"]


class Address(Protocol):
    """Where requests go. ``where`` is for people."""

    where: str

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """Go with each request."""

    def connect(self, timeout_s: float) -> socket.socket:
        """A connection whose operations end after ``timeout_s`` seconds.

        Raises OSError where it may be there later, a RayExtError where waiting does not help.
        """

    def absence(self, cause: str) -> RayExtError | None:
        """After a failure: why nobody will answer soon; None where somebody may."""


class HomeAddress:
    """The socket of a state home."""

    headers = (("Host", "ray-ext"),)

    def __init__(self, home: Home) -> None:
        self._home = home
        self.where = str(socket_path(home.run))

    def connect(self, timeout_s: float) -> socket.socket:
        """See :meth:`Address.connect`. Raises Unauthorised where the runtime is another user's."""
        try:
            return connect_socket(self._home.run, timeout_s)
        except PermissionError as error:
            raise self._denied() from error

    def absence(self, cause: str) -> RayExtError | None:
        """See :meth:`Address.absence`: while a runtime lives, its control actor comes back."""
        from ray_ext.runtime_record import RuntimeLock

        try:
            if RuntimeLock(self._home).is_held_elsewhere():
                return None
        except PermissionError:
            return self._denied()
        root = str(self._home.root)
        return RuntimeUnreachable(
            "no runtime is up with this state home", where=root, fix="start one: ray-ext up", details={"home": root}
        )

    def _denied(self) -> Unauthorised:
        return Unauthorised(
            "this state home is another user's: its runtime answers that user only",
            where=str(self._home.root),
            fix="ask as the user who started it, or set RAY_EXT_HOME to a state home of your own",
        )


class TcpAddress:
    """An address that a runtime was asked to listen on (``ray-ext up --listen``)."""

    def __init__(self, url: str, token: str, ca_file: str | None = None) -> None:
        self.where = url
        self._host, self._port, self._is_tls = _parts(url)
        if not self._is_tls and not _is_loopback(self._host):
            raise RequestInvalid(
                f"{url} is plain HTTP to another machine, which would show the token to all between",
                where="RAY_EXT_CONTROL",
                fix="use https:// (ray-ext up --listen HOST:PORT --tls-cert FILE --tls-key FILE)",
                details={"problems": []},
            )
        self._ca_file = ca_file
        self._tls: SSLContext | None = None
        self._was_reached = False
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.headers = (("Host", f"{host}:{self._port}"), ("Authorization", f"Bearer {token}"))

    def connect(self, timeout_s: float) -> socket.socket:
        """See :meth:`Address.connect`. Raises RuntimeUnreachable where the certificate is not to be trusted."""
        connected = socket.create_connection((self._host, self._port), timeout_s)
        try:
            # A machine that is gone says nothing: the kernel asks.
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._is_tls:
                connected = self._wrapped(connected)
        except BaseException:
            connected.close()
            raise
        self._was_reached = True
        return connected

    def _wrapped(self, connected: socket.socket) -> socket.socket:
        import ssl

        try:
            if self._tls is None:
                self._tls = ssl.create_default_context(cafile=self._ca_file)
            return self._tls.wrap_socket(connected, server_hostname=self._host)
        except ssl.SSLCertVerificationError as error:
            raise RuntimeUnreachable(
                f"the certificate is not to be trusted: {error.verify_message}",
                where=self.where,
                fix="set RAY_EXT_CA_FILE to the certificate (PEM) that it is signed with; it must name the host",
            ) from error
        except ssl.SSLEOFError:
            raise
        except ssl.SSLError as error:
            raise RuntimeUnreachable(
                f"no TLS connection: {error.reason or error}",
                where=self.where,
                fix="check RAY_EXT_CONTROL (http:// or https://?) and RAY_EXT_CA_FILE",
            ) from error
        except FileNotFoundError as error:
            raise RequestInvalid(
                f"RAY_EXT_CA_FILE: {self._ca_file} does not exist", fix="name a PEM file", details={"problems": []}
            ) from error

    def absence(self, cause: str) -> RayExtError | None:
        """See :meth:`Address.absence`: who answered once may come back."""
        if self._was_reached:
            return None
        return RuntimeUnreachable(
            f"nobody answers at {self.where}: {cause}",
            where="RAY_EXT_CONTROL",
            fix="check the address, and that the runtime listens there: ray-ext up --listen HOST:PORT",
        )


def configured_address() -> Address:
    """``RAY_EXT_CONTROL`` where it is set, with ``RAY_EXT_TOKEN_FILE`` or ``RAY_EXT_TOKEN`` and ``RAY_EXT_CA_FILE``;
    else the socket of the state home. Raises RequestInvalid or Unauthorised where these are not as they must be."""
    url = os.environ.get("RAY_EXT_CONTROL")
    if url:
        return TcpAddress(url, _token(url), os.environ.get("RAY_EXT_CA_FILE") or None)
    from ray_ext.home import Home

    return HomeAddress(Home.default())


def _token(url: str) -> str:
    file, token = os.environ.get("RAY_EXT_TOKEN_FILE"), os.environ.get("RAY_EXT_TOKEN", "")
    if file:
        try:
            token = Path(file).expanduser().read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise Unauthorised(
                f"the token cannot be read: {error}", where="RAY_EXT_TOKEN_FILE", fix="name a readable file with it"
            ) from error
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise Unauthorised(
            f"there is no token for {url}" if not token else "the token has characters that no token has",
            where="RAY_EXT_TOKEN_FILE" if file else "RAY_EXT_TOKEN",
            fix="set RAY_EXT_TOKEN_FILE to a copy of run/control-token in the runtime's state home",
        )
    return token


def _parts(url: str) -> tuple[str, int, bool]:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in ("http", "https") or parts.path not in ("", "/") or parts.query:
        raise RequestInvalid(
            f"RAY_EXT_CONTROL is {url!r}, which is no address of a control API",
            fix="set it to http://127.0.0.1:PORT or https://HOST:PORT; without it, the state home's socket is used",
            details={"problems": []},
        )
    is_tls = parts.scheme == "https"
    return host, port or (443 if is_tls else 80), is_tls


def _is_loopback(host: str) -> bool:
    # The name of another machine may begin with 127, too.
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None
