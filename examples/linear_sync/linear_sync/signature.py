"""Is this delivery Linear's, and new? The checks of ``Linear-Signature`` and ``webhookTimestamp``."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

__all__ = ["HeaderConflict", "SignatureError", "StaleDelivery", "check_age", "header", "verify"]

HEADER = "Linear-Signature"
_FORM = re.compile(r"[0-9a-fA-F]{64}")


class SignatureError(Exception):
    """The delivery is not signed with our secret; it was not looked at any further."""


class StaleDelivery(SignatureError):
    """The delivery is signed, but was not sent just now: it may be a replay."""


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
        raise SignatureError(f"{HEADER} is missing")
    if _FORM.fullmatch(given) is None:
        raise SignatureError(f"{HEADER} is malformed: it must be 64 hexadecimal digits")
    expected = hmac.digest(secret.encode(), body, hashlib.sha256)
    if not hmac.compare_digest(expected, bytes.fromhex(given)):
        raise SignatureError(f"{HEADER} does not fit the body: another secret, or the body was altered")


def check_age(sent_ms: object, *, now_s: float, max_age_s: float, is_required: bool) -> None:
    """Return when ``sent_ms`` (Unix time in milliseconds; None: not there) is at most ``max_age_s`` from ``now_s``."""
    if sent_ms is None and not is_required:
        return
    if sent_ms is None:
        raise StaleDelivery("webhookTimestamp is missing, and require_timestamp is set")
    if not isinstance(sent_ms, int) or isinstance(sent_ms, bool):
        raise StaleDelivery("webhookTimestamp is no whole number of milliseconds")
    if abs(sent_ms - int(now_s * 1000)) > max_age_s * 1000:
        raise StaleDelivery(f"webhookTimestamp is more than {max_age_s:g} s away from this machine's clock")
