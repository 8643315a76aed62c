"""Routes and their leases, as a handle's process sees them."""

from __future__ import annotations

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder

__all__ = ["LEASE_S", "Route", "decode_route", "encode_route"]

#: How long a route is used without asking the registry again, in seconds (design §7).
LEASE_S = 15.0


class Route(Struct, frozen=True, kw_only=True):
    """Where an extension's calls go: its generation, and the name of that generation's host actor.

    ``methods`` maps each exported name to whether it is idempotent. ``lease_s`` is how long the route may be used
    before it is refreshed.
    """

    extension: str
    version: str
    generation: int
    epoch: int
    host: str
    is_trusted: bool
    payload_limit: int
    methods: dict[str, bool]
    lease_s: float = LEASE_S


encode_route = Encoder().encode
decode_route = Decoder(Route).decode
