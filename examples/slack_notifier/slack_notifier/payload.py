"""From a verified body to the parts of the payload that matter; nothing in it is trusted to have the right shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qs

__all__ = ["Payload", "PayloadError", "mapping", "parse", "text"]

Payload = Mapping[str, Any]

#: Enough for any name, line or reason that is shown again.
TEXT_LIMIT = 200
_FORM_TYPE = "application/x-www-form-urlencoded"


class PayloadError(Exception):
    """The request is signed with our secret, but is no payload that can be read."""


def parse(body: bytes, content_type: str | None) -> Payload:
    """The payload; raises :class:`PayloadError` when there is none.

    Events come as JSON, interactions as JSON in the form field ``payload``, slash commands as the form itself: that
    becomes a payload of the type ``slash_command``.
    """
    kind = (content_type or "").partition(";")[0].strip().lower()
    try:
        source = body.decode("utf-8-sig")
        if kind == _FORM_TYPE:
            fields = parse_qs(source, keep_blank_values=True, max_num_fields=100)
            if "payload" not in fields:
                return {**{name: values[-1] for name, values in fields.items()}, "type": "slash_command"}
            source = fields["payload"][-1]
        payload = json.loads(source, parse_constant=_refuse_constant)
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
