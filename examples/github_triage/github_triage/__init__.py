"""github-triage: verifies GitHub's webhooks and says which labels an issue or pull request gets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from github_triage.payload import Payload, PayloadError, Subject, mapping, parse, subject, text
from github_triage.rules import labels_for, rules_from
from github_triage.signature import HeaderConflict, SignatureError, header, verify
from github_triage.summaries import summary
from ray_ext import Extension, exported

__all__ = ["Outcome", "PayloadError", "SignatureError", "Triage"]

#: Which part of the payload is labelled, by event kind.
_LABELLED_KINDS = {"issues": "issue", "pull_request": "pull_request"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done with one delivery.

    ``outcome`` is ``"labelled"`` (``labels`` are those to add; the item does not have them yet) or ``"answered"``
    (nothing to do; ``reason`` says why).
    """

    outcome: str
    event: str
    action: str
    delivery_id: str
    repository: str
    number: int
    summary: str
    reason: str = ""
    labels: list[str] = field(default_factory=list)


class Triage(Extension):
    """The extension; see README.md for its configuration."""

    async def on_load(self) -> None:
        """Read the rules; a rule that cannot work refuses the load."""
        self._rules = rules_from(self.config["rules"])
        self._label_on = frozenset(self.config["label_on"])
        self._ignored = frozenset(login.casefold() for login in self.config["ignored_senders"])
        self._counts: Counter[str] = Counter()

    @exported
    async def deliver(self, headers: dict[str, str], body: bytes) -> Outcome:
        """Handle one webhook delivery: its headers and raw body, just as they arrived.

        Raises ``SignatureError`` when it is not signed with the secret, ``PayloadError`` when it cannot be read.
        """
        self._counts["delivered"] += 1
        try:
            verify(headers, body, self.config["webhook_secret"])
            outcome = self._outcome(headers, body)
        except (SignatureError, PayloadError) as error:
            self._counts["rejected"] += 1
            self.logger.warning("delivery rejected: %s", error)
            raise
        self._counts[outcome.outcome] += 1
        self.logger.info("%s: %s", outcome.outcome, outcome.summary)
        return outcome

    @exported
    async def triage(self, title: str, body: str) -> list[str]:
        """The labels that an issue with this title and body gets."""
        return labels_for(Subject("issue", 0, title, body, (), "", ""), self._rules)

    @exported
    async def statistics(self) -> dict[str, int]:
        """How many deliveries came since the load, and what became of them."""
        return {name: self._counts[name] for name in ("delivered", "labelled", "answered", "rejected")}

    def _outcome(self, headers: dict[str, str], body: bytes) -> Outcome:
        try:
            event = text(header(headers, "X-GitHub-Event"))
            delivery_id = text(header(headers, "X-GitHub-Delivery"))
            content_type = header(headers, "Content-Type")
        except HeaderConflict as conflict:
            raise PayloadError(str(conflict)) from None
        if not event:
            raise PayloadError("X-GitHub-Event is missing")
        payload = parse(body, content_type)
        kind = _LABELLED_KINDS.get(event)
        item = subject(payload, kind) if kind else None
        reason = self._reason_to_skip(event, payload)
        labels = [] if item is None or reason else self._missing_labels(item)
        if not labels and not reason:
            reason = "the rules give no label that it does not have"
        return Outcome(
            outcome="labelled" if labels else "answered",
            event=event,
            action=text(payload.get("action")),
            delivery_id=delivery_id,
            repository=text(mapping(payload.get("repository")).get("full_name")),
            number=item.number if item else 0,
            summary=summary(event, payload),
            reason=reason,
            labels=labels,
        )

    def _reason_to_skip(self, event: str, payload: Payload) -> str:
        action = text(payload.get("action"))
        sender = mapping(payload.get("sender"))
        if event not in _LABELLED_KINDS:
            return f"{event} is never labelled"
        if action not in self._label_on:
            return f"the action {action!r} asks for no labels"
        if text(sender.get("login")).casefold() in self._ignored:
            return "its sender is ignored"
        if action == "edited" and sender.get("type") == "Bot":
            return "a bot's edit is never answered with labels, or two bots could do so for ever"
        return ""

    def _missing_labels(self, item: Subject) -> list[str]:
        present = {name.casefold() for name in item.labels}
        return [label for label in labels_for(item, self._rules) if label.casefold() not in present]
