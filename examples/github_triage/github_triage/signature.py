"""Is this delivery GitHub's? The check of ``X-Hub-Signature-256``, and header names without regard to case."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

__all__ = ["HeaderConflict", "SignatureError", "header", "verify"]

HEADER = "X-Hub-Signature-256"
_FORM = re.compile(r"sha256=([0-9a-fA-F]{64})")


class SignatureError(Exception):
    """The delivery is not signed with our secret; it was not looked at any further."""


class HeaderConflict(Exception):
    """One header came more than once, with different values: whoever chooses may choose the forged one."""


def header(headers: Mapping[str, str], name: str) -> str | None:
    """The value of the header, whatever the case of its name (RFC 9110, 5.1); None when it is missing.

    Raises :class:`HeaderConflict` when spellings that differ in case carry different values.
    """
    wanted = name.lower()
    values = {value.strip(" \t") for key, value in headers.items() if key.lower() == wanted}
    if len(values) > 1:
        raise HeaderConflict(f"{name} came more than once, with different values")
    return values.pop() if values else None


def verify(headers: Mapping[str, str], body: bytes, secret: str) -> None:
    """Return when the HMAC-SHA256 of the raw body under ``secret`` is the one that the header carries.

    Compares in constant time; raises :class:`SignatureError` otherwise. Its text holds no secret and no digest.
    """
    try:
        given = header(headers, HEADER)
    except HeaderConflict as conflict:
        raise SignatureError(str(conflict)) from None
    if given is None:
        raise SignatureError(f"{HEADER} is missing: set the webhook's secret on GitHub")
    form = _FORM.fullmatch(given)
    if form is None:
        raise SignatureError(f"{HEADER} is malformed: it must be 'sha256=' and 64 hexadecimal digits")
    expected = hmac.digest(secret.encode(), body, hashlib.sha256)
    if not hmac.compare_digest(expected, bytes.fromhex(form[1])):
        raise SignatureError(f"{HEADER} does not fit the body: another secret, or the body was altered")
