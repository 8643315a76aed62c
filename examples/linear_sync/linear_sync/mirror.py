"""What Linear has said about its items so far: the newest word on each, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime

from linear_sync.payload import Payload, Scalar, mapping, moment, scalar, text

__all__ = ["Change", "Item", "Mirror", "changes_in", "item_from"]

#: Fields that change with every update and tell a reader nothing.
_BOOKKEEPING = frozenset({"updatedAt", "sortOrder", "subIssueSortOrder", "prioritySortOrder", "boardOrder"})


@dataclass(frozen=True, slots=True)
class Change:
    """One field of an update: its value before and after."""

    field: str
    before: Scalar
    after: Scalar


@dataclass(frozen=True, slots=True)
class Item:
    """An issue, comment, project, …: as much of it as a list would show."""

    id: str
    type: str
    identifier: str
    title: str
    state: str
    assignee: str
    updated_at: datetime | None
    is_removed: bool = False


def item_from(kind: str, data: Payload) -> Item:
    """The item that the payload's ``data`` describes; fields that are not there are empty."""
    key, serial = text(mapping(data.get("team")).get("key")), data.get("number")
    made = f"{key}-{serial}" if key and isinstance(serial, int) and abs(serial) < 2**63 else ""
    return Item(
        id=text(data.get("id")),
        type=kind,
        identifier=text(data.get("identifier")) or made,
        title=text(data.get("title") or data.get("name") or data.get("body")),
        state=text(mapping(data.get("state")).get("name") or data.get("state")),
        assignee=text(mapping(data.get("assignee")).get("name")),
        updated_at=moment(data.get("updatedAt")),
    )


def changes_in(data: Payload, before: Payload) -> list[Change]:
    """The fields whose value differs from ``updatedFrom`` (``before``), sorted; bookkeeping left out."""
    return [
        Change(text(name), scalar(before[name]), scalar(data.get(name)))
        for name in sorted(before)
        if name not in _BOOKKEEPING and before[name] != data.get(name)
    ]


class Mirror:
    """Items by id. Linear may deliver out of order and twice: an older word never replaces a newer one."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[str, Item] = OrderedDict()

    def put(self, item: Item) -> bool:
        """Take over the item; False when the mirror knows something newer, or that it was removed."""
        known = self._items.get(item.id)
        if known is not None and _is_newer(known, item):
            return False
        self._items[item.id] = item
        self._items.move_to_end(item.id)
        if len(self._items) > self._size:
            self._items.popitem(last=False)
        return True

    def remove(self, item: Item) -> bool:
        """Note that the item is gone, so that a late update does not bring it back; False when that was known."""
        known = self._items.get(item.id)
        if known is not None and known.is_removed:
            return False
        return self.put(replace(item, is_removed=True, updated_at=_later(item, known)))

    def items(self) -> list[Item]:
        """The items that are not removed, the most recently delivered last."""
        return [item for item in self._items.values() if not item.is_removed]


def _is_newer(known: Item, item: Item) -> bool:
    if known.is_removed:
        return not item.is_removed
    return known.updated_at is not None and item.updated_at is not None and known.updated_at > item.updated_at


def _later(item: Item, known: Item | None) -> datetime | None:
    moments = [one.updated_at for one in (item, known) if one is not None and one.updated_at is not None]
    return max(moments, default=None)
