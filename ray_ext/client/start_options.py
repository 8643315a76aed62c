"""What a runtime is started with, checked before anything is started."""

from __future__ import annotations

import socket

import msgspec

from ray_ext.control.listening import Listen, check_listen
from ray_ext.errors import RuntimeUnreachable

__all__ = ["StartOptions"]

#: How long a cluster may take to answer, in seconds.
_CONNECT_S = 10.0


class StartOptions(msgspec.Struct, frozen=True, kw_only=True):
    """``spares``: hosts kept ready. ``address``: a Ray cluster to join; empty: one is started. ``listen``: where the
    control API listens beside its socket."""

    spares: int = 1
    address: str = ""
    listen: Listen | None = None

    def to_text(self) -> str:
        """For a command line."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_text(cls, text: str) -> StartOptions:
        """What :meth:`to_text` made."""
        return msgspec.json.decode(text, type=cls)

    def check(self) -> None:
        """Raise ListenInvalid where the control API could not listen, RuntimeUnreachable where no cluster answers."""
        if self.listen is not None:
            check_listen(self.listen)
        if self.address and self.address != "auto":
            _check_cluster(self.address)


def _check_cluster(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise RuntimeUnreachable(
            f"{address!r} is no address of a Ray cluster",
            where=address,
            fix="give HOST:PORT of its head, as `ray start --head` prints it, or auto",
            details={"address": address},
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        # Ray would try for minutes.
        raise RuntimeUnreachable(
            f"no Ray cluster answers at {address}: {error}",
            where=address,
            fix="see that it runs (ray status), and give the address of its head",
            details={"address": address},
        ) from None
