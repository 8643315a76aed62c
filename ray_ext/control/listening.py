"""Where the control API listens beside its socket: asked for by the operator, and refused unless it is safe."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl

from msgspec import Struct

from ray_ext.errors import ListenInvalid

__all__ = ["Listen", "bind_tcp", "check_listen", "parse_listen", "tls_context"]

_BACKLOG = 512


class Listen(Struct, frozen=True, kw_only=True):
    """A TCP address. ``tls_cert`` and ``tls_key`` are PEM files, None for plain TCP, which is for loopback only."""

    host: str
    port: int
    tls_cert: str | None = None
    tls_key: str | None = None

    @property
    def is_tls(self) -> bool:
        """Whether it speaks TLS."""
        return self.tls_cert is not None

    @property
    def url(self) -> str:
        """As clients write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_tls else 'http'}://{host}:{self.port}"


def parse_listen(address: str, *, tls_cert: str | None = None, tls_key: str | None = None) -> Listen:
    """From ``HOST:PORT``, with an IPv6 address in brackets; port 0 is any free one. Raises ListenInvalid.

    >>> parse_listen("127.0.0.1:8443").url
    'http://127.0.0.1:8443'
    """
    host, colon, port = address.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if is_bracketed else host
    is_port = port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65_535
    if not colon or not host or not is_port or (":" in host) != is_bracketed:
        raise ListenInvalid(
            f"{address!r} is no address to listen on",
            fix="give HOST:PORT, for example 127.0.0.1:8443 or [::1]:8443",
        )
    if (tls_cert is None) != (tls_key is None):
        raise ListenInvalid(
            "TLS takes a certificate and its key; only one of them was given",
            where=tls_cert or tls_key or "",
            fix="give both: --tls-cert FILE --tls-key FILE",
        )
    listen = Listen(
        host=host,
        port=int(port),
        tls_cert=None if tls_cert is None else os.path.abspath(tls_cert),
        tls_key=None if tls_key is None else os.path.abspath(tls_key),
    )
    if not listen.is_tls and not _is_loopback(host):
        raise ListenInvalid(
            f"{address} is reachable from other machines, and plain TCP would show them the token",
            fix="listen on loopback (127.0.0.1), or use TLS: --tls-cert FILE --tls-key FILE",
        )
    return listen


def tls_context(listen: Listen) -> ssl.SSLContext | None:
    """What its files make; None for plain TCP. Raises ListenInvalid where they cannot be used."""
    if listen.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password callback OpenSSL would ask for a key's password on the terminal.
        context.load_cert_chain(listen.tls_cert, listen.tls_key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise ListenInvalid(
            f"the certificate or its key cannot be used: {error}",
            where=f"{listen.tls_cert}, {listen.tls_key}",
            fix="give a PEM file with the certificate chain, and one with its key, without a password",
        ) from error
    return context


def check_listen(listen: Listen) -> None:
    """Raise ListenInvalid unless the control API can, and may, listen there now."""
    tls_context(listen)
    bind_tcp(listen).close()


def bind_tcp(listen: Listen) -> socket.socket:
    """A listening socket there; raises ListenInvalid where that is not possible."""
    try:
        ((family, kind, protocol, _, place), *_) = socket.getaddrinfo(
            listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        bound = socket.socket(family, kind, protocol)
        try:
            # A successor need not wait for the connections of the one before it to time out.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(place)
            bound.listen(_BACKLOG)
        except BaseException:
            bound.close()
            raise
    except OSError as error:
        raise ListenInvalid(
            f"cannot listen on {listen.host}:{listen.port}: {error.strerror or error}",
            fix="choose an address of this machine and a free port; port 0 is any free one",
        ) from error
    if not listen.is_tls and not _is_loopback(str(bound.getsockname()[0])):  # a name may mean anything
        bound.close()
        raise ListenInvalid(f"{listen.host} is not loopback here", fix="give 127.0.0.1 or [::1], or use TLS")
    return bound


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
