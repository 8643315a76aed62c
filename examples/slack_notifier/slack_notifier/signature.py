"""Is this request Slack's, and new? The checks of ``X-Slack-Signature`` and ``X-Slack-Request-Timestamp``."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

__all__ = ["HeaderConflict", "SignatureError", "StaleDelivery", "header", "verify"]

HEADER = "X-Slack-Signature"
TIME_HEADER = "X-Slack-Request-Timestamp"
_FORM = re.compile(r"v0=([0-9a-fA-F]{64})")
_SECONDS = re.compile(r"[0-9]{1,15}")


class SignatureError(Exception):
    """The request is not signed with our secret; it was not looked at any further."""


class StaleDelivery(SignatureError):
    """The request was not sent just now: it may be a replay."""


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


def verify(headers: Mapping[str, str], body: bytes, secret: str, *, now_s: float, max_age_s: float) -> None:
    """Return when the request was signed under ``secret``, at most ``max_age_s`` away from ``now_s``.

    What is signed is ``v0:``, the time header, ``:`` and the raw body. Compares in constant time; raises
    :class:`SignatureError` or :class:`StaleDelivery` otherwise. Their text holds no secret and no digest.
    """
    try:
        given, sent = header(headers, HEADER), header(headers, TIME_HEADER)
    except HeaderConflict as conflict:
        raise SignatureError(str(conflict)) from None
    if given is None or sent is None:
        raise SignatureError(f"{HEADER if given is None else TIME_HEADER} is missing")
    form = _FORM.fullmatch(given)
    if form is None:
        raise SignatureError(f"{HEADER} is malformed: it must be 'v0=' and 64 hexadecimal digits")
    if _SECONDS.fullmatch(sent) is None:
        raise SignatureError(f"{TIME_HEADER} is malformed: it must be a whole number of seconds")
    expected = hmac.digest(secret.encode(), b"v0:%b:%b" % (sent.encode(), body), hashlib.sha256)
    if not hmac.compare_digest(expected, bytes.fromhex(form[1])):
        raise SignatureError(f"{HEADER} does not fit the body: another secret, or the body was altered")
    if abs(int(sent) - now_s) > max_age_s:
        raise StaleDelivery(f"{TIME_HEADER} is more than {max_age_s:g} s away from this machine's clock")
