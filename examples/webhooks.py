"""The shipped payloads as deliveries: with the headers and the signature that each provider would send."""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PAYLOADS", "Delivery", "from_github", "from_linear", "from_slack", "shipped"]

PAYLOADS = Path(__file__).parent / "payloads"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook request on its way to the extension ``to``; ``name`` says which payload it is."""

    to: str
    name: str
    headers: dict[str, str]
    body: bytes


def shipped(secrets: Mapping[str, str]) -> Iterator[Delivery]:
    """A delivery for every shipped payload, signed with its extension's secret."""
    for path in sorted(PAYLOADS.glob("github-webhooks/*/*.json")):
        headers = from_github(path.parent.name, path.read_bytes(), secrets["github-triage"])
        yield Delivery("github-triage", f"{path.parent.name}/{path.stem}", headers, path.read_bytes())
    for path in sorted(PAYLOADS.glob("linear-webhooks/*.json")):
        headers = from_linear(path.read_bytes(), secrets["linear-sync"])
        yield Delivery("linear-sync", path.stem, headers, path.read_bytes())
    for path in sorted(PAYLOADS.glob("slack-events/*.json")):
        headers = from_slack(path.read_bytes(), secrets["slack-notifier"])
        yield Delivery("slack-notifier", path.stem, headers, path.read_bytes())


def from_github(event: str, body: bytes, secret: str) -> dict[str, str]:
    """GitHub's headers: the event kind is in one, the HMAC of the raw body in another."""
    return {
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-Hub-Signature-256": f"sha256={_hmac(secret, body)}",
    }


def from_linear(body: bytes, secret: str) -> dict[str, str]:
    """Linear's headers: the HMAC of the raw body."""
    return {
        "Content-Type": "application/json; charset=utf-8",
        "Linear-Delivery": str(uuid.uuid4()),
        "Linear-Signature": _hmac(secret, body),
    }


def from_slack(body: bytes, secret: str, *, sent_s: float | None = None) -> dict[str, str]:
    """Slack's headers: the time of sending (now, unless given), and the HMAC of version, time and raw body."""
    sent = str(int(time.time() if sent_s is None else sent_s))
    return {
        "Content-Type": "application/json",
        "X-Slack-Request-Timestamp": sent,
        "X-Slack-Signature": f"v0={_hmac(secret, b'v0:%b:%b' % (sent.encode(), body))}",
    }


def _hmac(secret: str, message: bytes) -> str:
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
