"""linear-sync: verifies Linear's webhooks and mirrors what they say about issues, comments and projects."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from linear_sync.mirror import Change, Item, Mirror, changes_in, item_from
from linear_sync.payload import Payload, PayloadError, mapping, parse, text
from linear_sync.signature import HeaderConflict, SignatureError, StaleDelivery, check_age, header, verify
from ray_ext import Extension, exported

__all__ = ["Change", "Item", "LinearSync", "Outcome", "PayloadError", "SignatureError", "StaleDelivery"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done with one delivery.

    ``outcome`` is ``"mirrored"``, ``"removed"``, ``"outdated"`` (the mirror knows better) or ``"answered"`` (nothing to
    do; ``reason`` says why). ``changes`` lists what an update changed.
    """

    outcome: str
    type: str
    action: str
    delivery_id: str
    identifier: str
    summary: str
    reason: str = ""
    changes: list[Change] = field(default_factory=list)


class LinearSync(Extension):
    """The extension; see README.md for its configuration."""

    async def on_load(self) -> None:
        """Start with an empty mirror."""
        self._kinds = frozenset(self.config["kinds"])
        self._mirror = Mirror(self.config["mirror_size"])
        self._counts: Counter[str] = Counter()

    @exported
    async def deliver(self, headers: dict[str, str], body: bytes) -> Outcome:
        """Handle one webhook delivery: its headers and raw body, just as they arrived.

        Raises ``SignatureError`` when it is not signed with the secret, ``StaleDelivery`` when it is signed but old,
        ``PayloadError`` when it cannot be read.
        """
        self._counts["delivered"] += 1
        try:
            verify(headers, body, self.config["webhook_secret"])
            payload = parse(body)
            check_age(
                payload.get("webhookTimestamp"),
                now_s=time.time(),
                max_age_s=self.config["max_age_s"],
                is_required=self.config["require_timestamp"],
            )
            outcome = self._outcome(headers, payload)
        except (SignatureError, PayloadError) as error:
            self._counts["rejected"] += 1
            self.logger.warning("delivery rejected: %s", error)
            raise
        self._counts[outcome.outcome] += 1
        self.logger.info("%s: %s", outcome.outcome, outcome.summary)
        return outcome

    @exported
    async def items(self, type: str = "Issue") -> list[Item]:  # noqa: A002 - Linear's word for it
        """The mirrored items of a type that are not removed, the most recently delivered last."""
        return [item for item in self._mirror.items() if item.type == type]

    @exported
    async def statistics(self) -> dict[str, int]:
        """How many deliveries came since the load, and what became of them."""
        names = ("delivered", "mirrored", "removed", "outdated", "answered", "rejected")
        return {name: self._counts[name] for name in names}

    def _outcome(self, headers: dict[str, str], payload: Payload) -> Outcome:
        try:
            delivery_id = text(header(headers, "Linear-Delivery"))
        except HeaderConflict as conflict:
            raise PayloadError(str(conflict)) from None
        kind, action = text(payload.get("type")), text(payload.get("action"))
        data = mapping(payload.get("data"))
        item = item_from(kind, data)
        outcome, reason = self._mirrored(action, item)
        is_update = outcome == "mirrored" and action == "update"
        changes = changes_in(data, mapping(payload.get("updatedFrom"))) if is_update else []
        changed = ", ".join(change.field for change in changes)
        parts = [f"{kind} {action}".strip(), item.identifier, item.title, f"({changed})" if changed else ""]
        return Outcome(
            outcome=outcome,
            type=kind,
            action=action,
            delivery_id=delivery_id,
            identifier=item.identifier,
            summary=text(" ".join(part for part in parts if part)),
            reason=reason,
            changes=changes,
        )

    def _mirrored(self, action: str, item: Item) -> tuple[str, str]:
        if item.type not in self._kinds:
            return "answered", f"the type {item.type!r} is not mirrored"
        if action not in ("create", "update", "restore", "remove"):
            return "answered", f"the action {action!r} changes no item"
        if not item.id:
            raise PayloadError(f"the {item.type} has no id")
        if action == "remove":
            return ("removed", "") if self._mirror.remove(item) else ("outdated", "it was removed before")
        return ("mirrored", "") if self._mirror.put(item) else ("outdated", "the mirror has a newer word on it")
