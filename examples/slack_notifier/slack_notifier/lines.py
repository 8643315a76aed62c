"""An event as the one line of a notification."""

from __future__ import annotations

from slack_notifier.payload import Payload, mapping, text

__all__ = ["is_from_a_bot", "line"]


def line(event: Payload) -> str:
    """What happened, where and by whom; any type and any shape of event will do."""
    kind, subtype = text(event.get("type")), text(event.get("subtype"))
    item = mapping(event.get("item"))
    who = _name(event.get("user"))
    where = _name(event.get("channel")) or _name(event.get("channel_id")) or _name(item.get("channel"))
    reaction = text(event.get("reaction"))
    said = text(event.get("text"))
    parts = [
        kind.replace("_", " "),
        f"({subtype.replace('_', ' ')})" if subtype else "",
        f":{reaction}:" if reaction else "",
        f"in {where}" if where else "",
        f"by {who}" if who else "",
    ]
    happened = " ".join(part for part in parts if part)
    return text(f"{happened}: {said}" if said else happened)


def is_from_a_bot(event: Payload) -> bool:
    """Whether a bot wrote the message: our own, perhaps, which must not be answered with another."""
    return bool(event.get("bot_id") or mapping(event.get("bot_profile"))) or event.get("subtype") == "bot_message"


def _name(value: object) -> str:
    """The name or id of a user or channel, which Slack sends as an id or as an object."""
    part = mapping(value)
    return text(value) or text(part.get("name")) or text(part.get("id"))
