"""slack-notifier: verifies Slack's requests, answers its challenge, and turns events into notification lines."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from ray_ext import Extension, exported
from slack_notifier.lines import is_from_a_bot, line
from slack_notifier.payload import Payload, PayloadError, mapping, parse, text
from slack_notifier.signature import HeaderConflict, SignatureError, StaleDelivery, header, verify

__all__ = ["Outcome", "PayloadError", "SignatureError", "SlackNotifier", "StaleDelivery"]

#: What a challenge may be at most; Slack's have 52 characters.
CHALLENGE_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done with one request.

    ``outcome`` is ``"challenged"`` (send ``challenge`` back as the response), ``"notified"`` (``notification`` is the
    line to show) or ``"answered"`` (nothing to do; ``reason`` says why). ``retry`` counts Slack's attempts after the
    first; ``event_id`` is the same for all of them.
    """

    outcome: str
    type: str
    event: str
    event_id: str
    challenge: str = ""
    notification: str = ""
    reason: str = ""
    retry: int = 0
    retry_reason: str = ""


class SlackNotifier(Extension):
    """The extension; see README.md for its configuration."""

    async def on_load(self) -> None:
        """Read what to notify of."""
        self._notify_on = frozenset(self.config["notify_on"])
        self._counts: Counter[str] = Counter()

    @exported
    async def deliver(self, headers: dict[str, str], body: bytes) -> Outcome:
        """Handle one request from Slack: its headers and raw body, just as they arrived.

        Raises ``SignatureError`` when it is not signed with the secret, ``StaleDelivery`` when it is signed but old,
        ``PayloadError`` when it cannot be read.
        """
        self._counts["delivered"] += 1
        try:
            secret, max_age_s = self.config["webhook_secret"], self.config["max_age_s"]
            verify(headers, body, secret, now_s=time.time(), max_age_s=max_age_s)
            outcome = self._outcome(headers, body)
        except (SignatureError, PayloadError) as error:
            self._counts["rejected"] += 1
            self.logger.warning("request rejected: %s", error)
            raise
        self._counts[outcome.outcome] += 1
        self.logger.info("%s: %s %s", outcome.outcome, outcome.type, outcome.event)
        return outcome

    @exported
    async def statistics(self) -> dict[str, int]:
        """How many requests came since the load, and what became of them."""
        names = ("delivered", "challenged", "notified", "answered", "rejected")
        return {name: self._counts[name] for name in names}

    def _outcome(self, headers: dict[str, str], body: bytes) -> Outcome:
        try:
            content_type = header(headers, "Content-Type")
            attempt = header(headers, "X-Slack-Retry-Num") or ""
            retry_reason = text(header(headers, "X-Slack-Retry-Reason"))
        except HeaderConflict as conflict:
            raise PayloadError(str(conflict)) from None
        payload = parse(body, content_type)
        event = mapping(payload.get("event"))
        # Slack's own envelopes say "event_callback"; some recorded ones leave the type blank.
        kind = text(payload.get("type")) or ("event_callback" if event else "")
        outcome, told = self._decision(kind, payload, event)
        return Outcome(
            outcome=outcome,
            type=kind,
            event=text(event.get("type")),
            event_id=text(payload.get("event_id")),
            challenge=told if outcome == "challenged" else "",
            notification=told if outcome == "notified" else "",
            reason=told if outcome == "answered" else "",
            retry=int(attempt) if attempt.isascii() and attempt.isdigit() and len(attempt) < 10 else 0,
            retry_reason=retry_reason,
        )

    def _decision(self, kind: str, payload: Payload, event: Payload) -> tuple[str, str]:
        if kind == "url_verification":
            return "challenged", _challenge(payload)
        if kind != "event_callback":
            return "answered", f"the type {kind!r} asks for nothing"
        happened = text(event.get("type"))
        if not happened:
            raise PayloadError("the envelope has no event with a type")
        if happened not in self._notify_on:
            return "answered", f"the event {happened!r} is not notified of"
        if is_from_a_bot(event):
            return "answered", "a bot wrote it: notifying of it could go on for ever"
        if event.get("hidden") is True:
            return "answered", "Slack does not show it"
        return "notified", line(event)


def _challenge(payload: Payload) -> str:
    challenge = payload.get("challenge")
    if not isinstance(challenge, str) or not challenge or len(challenge) > CHALLENGE_LIMIT:
        raise PayloadError(f"url_verification needs a challenge of 1 to {CHALLENGE_LIMIT} characters")
    try:
        challenge.encode()
    except UnicodeEncodeError:
        raise PayloadError("the challenge is no valid Unicode") from None
    return challenge
