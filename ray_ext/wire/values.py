"""Values as bytes: what arguments, results and configurations look like on the wire.

A value is msgpack: None, bool, int (64 bits), float, str, bytes, list, dict, datetime (with a time zone; without one it
travels as ISO 8601 text), and, as maps, dataclasses, msgspec structs and pydantic models. Whoever receives a value gets
the plain form unless it asks for a type. Two encodings exist: :data:`MSGPACK` and, towards and from trusted
extensions only, :data:`PICKLE`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import msgspec

from ray_ext.errors import ArgumentNotSerialisable, NestedObjectRef

__all__ = [
    "MSGPACK",
    "PICKLE",
    "SENDABLE",
    "Pickler",
    "bytes_alone",
    "convert",
    "decode_value",
    "encode_arguments",
    "encode_result",
    "encode_value",
    "find_unserialisable",
    "typed_decoder",
    "unserialisable",
]

MSGPACK = 0
PICKLE = 1

#: Turns any object into bytes; given only where both ends trust each other.
Pickler = Callable[[object], bytes]

SENDABLE = "None, bool, int, float, str, bytes, list, dict, datetime, a dataclass, a msgspec struct or a pydantic model"


def _encode_other(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, type):
        return dump()
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__}")


def _decode_other(wanted: type, value: object) -> object:
    validate = getattr(wanted, "model_validate", None)
    if validate is not None:
        return validate(value)
    if isinstance(value, wanted):
        return value
    raise TypeError(f"cannot make a {wanted.__qualname__} of a {type(value).__qualname__}")


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_other)
_decoder = msgspec.msgpack.Decoder()
#: How many bytes hold the length of a bin 8, bin 16 and bin 32.
_BIN_WIDTHS = {b"\xc4": 1, b"\xc5": 2, b"\xc6": 4}


def encode_value(value: object) -> bytes:
    """The msgpack form of a value.

    Raises whatever the encoder meets (``TypeError``, ``OverflowError``, ``RecursionError``, …): callers turn that into
    :func:`unserialisable`, which names the part.
    """
    return _encoder.encode(value)


def encode_arguments(
    args: tuple[object, ...], kwargs: Mapping[str, object], *, pickler: Pickler | None = None
) -> tuple[int, bytes]:
    """``(encoding, bytes)`` of a call's arguments; what msgpack cannot carry goes through ``pickler``.

    Raises :class:`ArgumentNotSerialisable` naming the argument and the part of it.
    """
    try:
        return MSGPACK, _encoder.encode((args, kwargs))
    except Exception as first:  # noqa: BLE001 - a value's own code may raise anything while it is encoded
        error = first
        if pickler is not None:
            try:
                return PICKLE, pickler((args, kwargs))
            except Exception as second:  # noqa: BLE001 - the same, while it is pickled
                error = second
        parts = [(f"argument {index}", value) for index, value in enumerate(args)]
        parts += [(name, value) for name, value in kwargs.items()]
        for name, value in parts:
            if (found := _find(value, name, 0)) is not None:
                _refuse_argument(*found)
        raise unserialisable("the arguments", error, ArgumentNotSerialisable) from error


def encode_result(value: object, *, pickler: Pickler | None = None) -> tuple[int, bytes]:
    """``(encoding, bytes)`` of a result; raises like :func:`encode_value`."""
    try:
        return MSGPACK, _encoder.encode(value)
    except Exception:
        if pickler is not None:
            return PICKLE, pickler(value)
        raise


def decode_value(data: bytes, encoding: int = MSGPACK) -> Any:
    """The plain value. ``encoding`` other than msgpack is for trusted peers: the caller of this function decides."""
    if encoding == PICKLE:
        return pickle.loads(data)
    return _decoder.decode(data)


def bytes_alone(data: bytes) -> bytes | None:
    """The value where it is msgpack's ``bin`` and nothing else, without decoding; else None."""
    width = _BIN_WIDTHS.get(data[:1])
    if width is None or int.from_bytes(data[1 : 1 + width], "big") != len(data) - 1 - width:
        return None
    return data[1 + width :]


def typed_decoder(wanted: object) -> Callable[[bytes], Any]:
    """A function from bytes to a value of the type ``wanted`` (any type that msgspec or pydantic understands)."""
    return msgspec.msgpack.Decoder(wanted, dec_hook=_decode_other).decode


def convert(value: object, wanted: object) -> Any:
    """``value`` (plain) as ``wanted``; raises ``msgspec.ValidationError`` or the model's own error."""
    return msgspec.convert(value, wanted, dec_hook=_decode_other)


def unserialisable(name: str, error: Exception, cls: type[ArgumentNotSerialisable]) -> ArgumentNotSerialisable:
    """The error for a value that cannot be sent, where no part of it is to blame alone."""
    return cls(f"{name} cannot be sent: {type(error).__name__}", details={"path": name})


def find_unserialisable(value: object, name: str) -> tuple[str, str] | None:
    """``(path, type)`` of the first part of ``value`` that cannot be encoded, or None."""
    found = _find(value, name, 0)
    return None if found is None else (found[0], _type_name(found[1]))


_DEPTH = 100


def _find(value: object, path: str, depth: int) -> tuple[str, object] | None:
    if depth > _DEPTH:
        return path, value
    try:
        _encoder.encode(value)
    except Exception:  # noqa: BLE001 - the reason does not matter, only where it is
        pass
    else:
        return None
    parts: list[tuple[str, object]] = []
    if isinstance(value, dict):
        for key, item in value.items():
            if _find(key, path, depth + 1) is not None:
                return f"{path} (a key)", key
            parts.append((f"{path}[{_short(key)}]", item))
    elif isinstance(value, (list, tuple)):
        parts = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    elif hasattr(type(value), "__dataclass_fields__"):
        names: list[str] = list(getattr(type(value), "__dataclass_fields__", {}))
        parts = [(f"{path}.{key}", getattr(value, key, None)) for key in names]
    elif isinstance(value, msgspec.Struct):
        parts = [(f"{path}.{key}", getattr(value, key, None)) for key in value.__struct_fields__]
    for part_path, part in parts:
        if (found := _find(part, part_path, depth + 1)) is not None:
            return found
    return path, value


def _short(key: object) -> str:
    text = repr(key) if isinstance(key, (str, int, float, bytes, bool)) else _type_name(key)
    return text if len(text) <= 60 else text[:57] + "…"


def _type_name(value: object) -> str:
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _refuse_argument(path: str, value: object) -> NoReturn:
    name = _type_name(value)
    if type(value).__name__ == "ObjectRef":
        raise NestedObjectRef(
            f"{path} is an ObjectRef inside another value",
            fix="pass it as an argument of its own to .remote(), or ray.get it first",
            details={"path": path, "type": name},
        )
    if isinstance(value, int):
        reason, fix = "is an integer of more than 64 bits", "send it as text"
    elif isinstance(value, str):
        reason, fix = "is text that is no valid Unicode (a lone surrogate)", "send it as bytes"
    else:
        reason = f"is a {name}, which cannot be sent"
        fix = f"send {SENDABLE}"
    raise ArgumentNotSerialisable(f"{path} {reason}", fix=fix, details={"path": path, "type": name})
