"""From a verified body to the parts of the payload that matter; nothing in it is trusted to have the right shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

__all__ = ["Payload", "PayloadError", "Scalar", "mapping", "moment", "parse", "scalar", "text"]

Payload = Mapping[str, Any]
Scalar = str | int | float | bool | None

#: Enough for any title, name or reason that is shown again.
TEXT_LIMIT = 200


class PayloadError(Exception):
    """The delivery is signed with our secret, but is no webhook payload that can be read."""


def parse(body: bytes) -> Payload:
    """The payload; raises :class:`PayloadError` when the body is no JSON object."""
    try:
        payload = json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except RecursionError:
        raise PayloadError("the body is nested too deeply") from None
    except ValueError as error:
        raise PayloadError(f"the body is no JSON: {type(error).__name__}") from None
    if not isinstance(payload, dict):
        raise PayloadError(f"the payload must be a JSON object, not {type(payload).__name__}")
    return payload


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def mapping(value: object) -> Payload:
    """``value`` when it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def text(value: object) -> str:
    """``value`` when it is text, on one line, shortened, and valid Unicode; else empty."""
    if not isinstance(value, str):
        return ""
    line = " ".join(value[: 4 * TEXT_LIMIT].split()).encode("utf-8", "replace").decode()
    return line if len(line) <= TEXT_LIMIT else line[: TEXT_LIMIT - 1] + "…"


def scalar(value: object) -> Scalar:
    """``value`` in a form that is small and can be sent: numbers as they are, the rest as short text."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else "a number of more than 64 bits"
    if isinstance(value, str):
        return text(value)
    return f"{len(value)} items" if isinstance(value, (list, dict)) else ""


def moment(value: object) -> datetime | None:
    """The time, in UTC, that an ISO 8601 text names (a text without a zone means UTC); None when it names none."""
    if not isinstance(value, str):
        return None
    try:
        read = datetime.fromisoformat(value)
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
