"""From a verified body to the parts of the payload that matter; nothing in it is trusted to have the right shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qs

__all__ = ["Payload", "PayloadError", "Subject", "mapping", "number", "parse", "subject", "text"]

Payload = Mapping[str, Any]

#: Enough for any title, name or reason that is shown again.
TEXT_LIMIT = 200
_FORM_TYPE = "application/x-www-form-urlencoded"


class PayloadError(Exception):
    """The delivery is signed with our secret, but is no webhook payload that can be read."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The issue or pull request that a delivery is about."""

    kind: str
    number: int
    title: str
    body: str
    labels: tuple[str, ...]
    branch: str
    author_type: str


def parse(body: bytes, content_type: str | None) -> Payload:
    """The payload: JSON, or JSON in the form field ``payload``; raises :class:`PayloadError` on anything else."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    try:
        source = body.decode("utf-8-sig")
        if kind == _FORM_TYPE:
            source = _form_field(source)
        payload = json.loads(source, parse_constant=_refuse_constant)
    except RecursionError:
        raise PayloadError("the body is nested too deeply") from None
    except ValueError as error:
        raise PayloadError(f"the body is no JSON: {type(error).__name__}") from None
    if not isinstance(payload, dict):
        raise PayloadError(f"the payload must be a JSON object, not {type(payload).__name__}")
    return payload


def _form_field(source: str) -> str:
    values = parse_qs(source, keep_blank_values=True, max_num_fields=100).get("payload", [])
    if len(values) != 1:
        raise PayloadError(f"the form must have one field 'payload', not {len(values)}")
    return values[0]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def subject(payload: Payload, kind: str) -> Subject:
    """The issue or pull request (``kind``) of the payload; raises :class:`PayloadError` when it has none."""
    item = payload.get(kind)
    if not isinstance(item, dict):
        raise PayloadError(f"the payload has no object {kind!r}")
    if not isinstance(item.get("title"), str):
        raise PayloadError(f"the {kind} has no title")
    names = [mapping(label).get("name", label) for label in item.get("labels") or [] if label]
    return Subject(
        kind=kind,
        number=number(item.get("number")),
        title=item["title"],
        body=item["body"] if isinstance(item.get("body"), str) else "",
        labels=tuple(name for name in names if isinstance(name, str)),
        branch=text(mapping(item.get("head")).get("ref")),
        author_type=text(mapping(item.get("user")).get("type")),
    )


def mapping(value: object) -> Payload:
    """``value`` when it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def number(value: object) -> int:
    """``value`` when it is a whole number that fits in 64 bits, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else 0


def text(value: object) -> str:
    """``value`` when it is text, on one line, shortened, and valid Unicode; else empty."""
    if not isinstance(value, str):
        return ""
    line = " ".join(value[: 4 * TEXT_LIMIT].split()).encode("utf-8", "replace").decode()
    return line if len(line) <= TEXT_LIMIT else line[: TEXT_LIMIT - 1] + "…"
