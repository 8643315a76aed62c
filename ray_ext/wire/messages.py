"""The one table of messages between a host and its guest.

A message is a msgpack array ``[tag, field, …]``; what travels beside it as raw *body* is named in each docstring.
Bodies are values (see :mod:`ray_ext.wire.values`) which a host never decodes.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder

from ray_ext.errors import Detail, RayExtError, error_from_parts

__all__ = [
    "PROTOCOLS",
    "Bye",
    "Call",
    "Cancel",
    "ErrorParts",
    "ExportedMethod",
    "Failure",
    "FromGuest",
    "Hello",
    "Load",
    "LoadRefused",
    "Loaded",
    "Log",
    "Metadata",
    "Result",
    "Shutdown",
    "ToGuest",
    "Welcome",
    "decode_error",
    "decode_from_guest",
    "decode_to_guest",
    "encode_message",
]

#: The protocol versions that this code speaks, newest first.
PROTOCOLS = (1,)


class ErrorParts(Struct, frozen=True, array_like=True):
    """A :class:`RayExtError` on the wire."""

    code: str
    what: str
    where: str = ""
    fix: str = ""
    details: dict[str, Detail] = {}

    @classmethod
    def of(cls, error: RayExtError) -> ErrorParts:
        """The parts of an error."""
        return cls(error.code, error.what, error.where, error.fix, error.details)

    def to_error(self) -> RayExtError:
        """The error that these parts describe."""
        return error_from_parts(self.code, self.what, self.where, self.fix, self.details)


class Metadata(Struct, frozen=True, array_like=True):
    """What the manifest says about an extension."""

    id: str
    name: str
    version: str
    description: str = ""
    author: str = ""
    category: str = ""
    tags: tuple[str, ...] = ()


class ExportedMethod(Struct, frozen=True, array_like=True):
    """A method that callers may call: its name, whether it may be retried, its signature and first doc line."""

    name: str
    idempotent: bool = False
    signature: str = ""
    summary: str = ""


# ---- host to guest


class Welcome(Struct, frozen=True, array_like=True, tag=1):
    """The answer to :class:`Hello`: the protocol that both speak, and the limit of a body in bytes."""

    protocol: int
    payload_limit: int


class Load(Struct, frozen=True, array_like=True, tag=2):
    """Load this extension. Body: its configuration, a msgpack map."""

    metadata: Metadata
    generation: int
    entry_point: str
    code_paths: list[str]
    env_vars: dict[str, str]
    data_dir: str


class Call(Struct, frozen=True, array_like=True, tag=3):
    """Run an exported method. Body: the arguments. ``sequence`` grows by one with each call to this guest."""

    sequence: int
    method: str
    encoding: int = 0


class Cancel(Struct, frozen=True, array_like=True, tag=4):
    """Cancel a running call; its guest answers with a :class:`Failure` as it would without."""

    sequence: int


class Shutdown(Struct, frozen=True, array_like=True, tag=5):
    """Cancel what runs, call ``on_unload``, answer :class:`Bye` and end."""

    grace_s: float


# ---- guest to host


class Hello(Struct, frozen=True, array_like=True, tag=32):
    """The guest's first message."""

    protocols: list[int]
    sdk_version: str
    python: str


class Loaded(Struct, frozen=True, array_like=True, tag=33):
    """``on_load`` has returned; calls may come."""

    methods: list[ExportedMethod]


class LoadRefused(Struct, frozen=True, array_like=True, tag=34):
    """The extension could not be loaded; the guest ends."""

    error: ErrorParts


class Result(Struct, frozen=True, array_like=True, tag=35):
    """A call returned. Body: its value."""

    sequence: int
    encoding: int = 0


class Failure(Struct, frozen=True, array_like=True, tag=36):
    """A call raised, was cancelled or was refused by the guest."""

    sequence: int
    error: ErrorParts


class Log(Struct, frozen=True, array_like=True, tag=37):
    """One log record."""

    time: float
    level: int
    logger: str
    message: str
    traceback: str = ""


class Bye(Struct, frozen=True, array_like=True, tag=38):
    """The guest's last message; ``error`` is what ``on_unload`` raised."""

    error: ErrorParts | None = None


ToGuest = Welcome | Load | Call | Cancel | Shutdown
FromGuest = Hello | Loaded | LoadRefused | Result | Failure | Log | Bye

encode_message = Encoder().encode
decode_to_guest = Decoder(ToGuest).decode
decode_error = Decoder(ErrorParts).decode
decode_from_guest = Decoder(FromGuest).decode
