"""linear-sync on every shipped payload, on forged and stale ones, and on what nobody should send."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from linear_sync import Change, LinearSync, Outcome, PayloadError, SignatureError, StaleDelivery
from linear_sync.payload import moment

from ray_ext.testing import loaded
from ray_ext.wire.values import encode_value

FOLDER = Path(__file__).parents[1]
PAYLOADS = {
    path.stem: path.read_bytes() for path in sorted((FOLDER.parent / "payloads/linear-webhooks").glob("*.json"))
}
SECRET = "lin_wh_for_tests"


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"Linear-Signature": digest, "Linear-Delivery": "d1", "Linear-Event": "Issue"}


def event(action: str = "create", kind: str = "Issue", *, at: int = 0, **more: Any) -> bytes:
    data = {"id": "i1", "identifier": "ENG-1", "title": "One", "updatedAt": f"2024-01-01T00:00:{at:02}.000Z"}
    data.update(more.pop("data", {}))
    return json.dumps({"action": action, "type": kind, "data": data, **more}).encode()


@pytest.fixture
async def linear() -> AsyncIterator[LinearSync]:
    async with loaded(FOLDER, config={"webhook_secret": SECRET}) as extension:
        yield extension


async def deliver(linear: LinearSync, body: bytes) -> Outcome:
    return await linear.deliver(signed(body), body)


# ---- the shipped payloads


def test_the_shipped_payloads_are_all_there() -> None:
    assert len(PAYLOADS) == 3


@pytest.mark.parametrize("case", PAYLOADS)
async def test_every_shipped_payload_is_mirrored_and_its_outcome_can_be_sent(linear: LinearSync, case: str) -> None:
    outcome = await deliver(linear, PAYLOADS[case])
    assert (outcome.outcome, outcome.type, outcome.action, outcome.identifier) == (
        "mirrored",
        "Issue",
        "update",
        "KOR-11",
    )
    assert encode_value(outcome)
    [item] = await linear.items("Issue")
    assert (item.title, item.state, item.assignee) == ("webhook test", "Todo", "user@example.com")
    assert encode_value(item)


async def test_an_update_says_what_changed_and_only_that(linear: LinearSync) -> None:
    outcome = await deliver(linear, PAYLOADS["updateIssueEstimated"])
    assert outcome.changes == [Change("estimate", None, 1)]
    assert outcome.summary == "Issue update KOR-11 webhook test (estimate)"


# ---- signatures and age


@pytest.mark.parametrize("value", [None, "", "0" * 64, "0" * 63, "é" * 64, "٣" * 64, " " * 64, "sha256=" + "0" * 64])
async def test_a_missing_malformed_or_wrong_signature_raises(linear: LinearSync, value: str | None) -> None:
    body = event()
    headers = signed(body)
    del headers["Linear-Signature"]
    if value is not None:
        headers["Linear-Signature"] = value
    with pytest.raises(SignatureError) as caught:
        await linear.deliver(headers, body)
    assert SECRET not in str(caught.value)


async def test_a_signature_with_another_secret_or_of_another_body_raises(linear: LinearSync) -> None:
    body = event()
    with pytest.raises(SignatureError, match="does not fit"):
        await linear.deliver(signed(body, SECRET + "!"), body)
    with pytest.raises(SignatureError, match="does not fit"):
        await linear.deliver(signed(body), body + b" ")
    assert await linear.items() == []


@pytest.mark.parametrize("change", [str.lower, str.upper, str.swapcase])
async def test_header_names_ignore_case(linear: LinearSync, change: Any) -> None:
    body = event()
    outcome = await linear.deliver({change(name): value for name, value in signed(body).items()}, body)
    assert (outcome.outcome, outcome.delivery_id) == ("mirrored", "d1")


async def test_a_header_that_came_twice_counts_only_when_both_say_the_same(linear: LinearSync) -> None:
    body = event()
    headers = signed(body)
    await linear.deliver({**headers, "linear-signature": headers["Linear-Signature"]}, body)
    with pytest.raises(SignatureError, match="more than once"):
        await linear.deliver({**headers, "linear-signature": "0" * 64}, body)
    with pytest.raises(PayloadError, match="more than once"):
        await linear.deliver({**headers, "LINEAR-DELIVERY": "d2"}, body)


async def test_a_payload_sent_just_now_is_taken(linear: LinearSync) -> None:
    outcome = await deliver(linear, event(webhookTimestamp=int(time.time() * 1000)))
    assert outcome.outcome == "mirrored"


@pytest.mark.parametrize("offset_s", [-3600, -61.5, 61.5, 3600])
async def test_a_payload_sent_too_long_ago_or_in_the_future_raises(linear: LinearSync, offset_s: float) -> None:
    with pytest.raises(StaleDelivery, match="60 s"):
        await deliver(linear, event(webhookTimestamp=int((time.time() + offset_s) * 1000)))


@pytest.mark.parametrize("value", ["now", "1700000000000", 1.5, True, [], {}])
async def test_a_timestamp_that_is_no_number_raises(linear: LinearSync, value: object) -> None:
    with pytest.raises(StaleDelivery, match="no whole number"):
        await deliver(linear, event(webhookTimestamp=value))


async def test_a_huge_timestamp_raises(linear: LinearSync) -> None:
    with pytest.raises(StaleDelivery):
        await deliver(linear, event(webhookTimestamp=10**400))


async def test_the_age_and_the_need_for_a_timestamp_can_be_configured() -> None:
    config = {"webhook_secret": SECRET, "max_age_s": 7200, "require_timestamp": True}
    async with loaded(FOLDER, config=config) as linear:
        body = event(webhookTimestamp=int((time.time() - 3600) * 1000))
        assert (await deliver(linear, body)).outcome == "mirrored"
        with pytest.raises(StaleDelivery, match="missing"):
            await deliver(linear, event())


# ---- the mirror


async def test_an_older_or_repeated_removal_or_update_never_wins(linear: LinearSync) -> None:
    for action, at, expected in (
        ("create", 10, "mirrored"),
        ("update", 30, "mirrored"),
        ("update", 20, "outdated"),
        ("update", 30, "mirrored"),
        ("remove", 40, "removed"),
        ("remove", 40, "outdated"),
        ("update", 35, "outdated"),
        ("update", 50, "outdated"),
    ):
        assert (await deliver(linear, event(action, at=at))).outcome == expected, (action, at)
    assert await linear.items() == []


async def test_a_removal_counts_although_it_carries_an_older_time(linear: LinearSync) -> None:
    await deliver(linear, event("update", at=30))
    assert (await deliver(linear, event("remove", at=10))).outcome == "removed"
    assert await linear.items() == []


async def test_the_mirror_forgets_the_least_recent_beyond_its_size() -> None:
    async with loaded(FOLDER, config={"webhook_secret": SECRET, "mirror_size": 2}) as linear:
        for name in ("a", "b", "a", "c"):
            await deliver(linear, event(data={"id": name}))
        assert [item.id for item in await linear.items()] == ["a", "c"]


@pytest.mark.parametrize(
    ("kind", "data", "title"),
    [("Comment", {"title": None, "body": "Hi\n there"}, "Hi there"), ("Project", {"title": None, "name": "P"}, "P")],
)
async def test_comments_and_projects_are_mirrored_too(linear: LinearSync, kind: str, data: Any, title: str) -> None:
    assert (await deliver(linear, event("create", kind, data=data))).outcome == "mirrored"
    assert [item.title for item in await linear.items(kind)] == [title]


@pytest.mark.parametrize(
    ("action", "kind"), [("create", "Reaction"), ("create", "Made up"), ("dance", "Issue"), ("", "")]
)
async def test_unknown_types_and_actions_are_answered(linear: LinearSync, action: str, kind: str) -> None:
    outcome = await deliver(linear, event(action, kind))
    assert outcome.outcome == "answered"
    assert outcome.reason


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "yesterday", "", None, 5])
def test_times_that_cannot_be_read_are_none(text: object) -> None:
    assert moment(text) is None


# ---- bodies


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff{}",
        b'{"data": Infinity}',
        b"[" * 100_000,
        b"1" * 10_000,
        event(data={"id": ""}),
    ],
    ids=lambda body: body[:20].decode("latin-1"),
)
async def test_a_signed_body_that_cannot_be_read_raises_a_payload_error(linear: LinearSync, body: bytes) -> None:
    with pytest.raises(PayloadError):
        await deliver(linear, body)


async def test_statistics_count_every_delivery_once(linear: LinearSync) -> None:
    await deliver(linear, event())
    await deliver(linear, b"{}")
    with pytest.raises(SignatureError):
        await linear.deliver({}, b"")
    counts = await linear.statistics()
    assert counts == {"delivered": 3, "mirrored": 1, "removed": 0, "outdated": 0, "answered": 1, "rejected": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
FIELDS = ["id", "title", "name", "body", "number", "team", "state", "assignee", "updatedAt", "identifier", "estimate"]
PART = st.dictionaries(st.sampled_from(FIELDS), JSON)


@given(headers=st.dictionaries(st.just("Linear-Signature") | st.text(), st.text()), body=st.binary())
async def test_junk_is_never_accepted(headers: dict[str, str], body: bytes) -> None:
    async with loaded(FOLDER, config={"webhook_secret": SECRET}) as linear:
        with pytest.raises(SignatureError):
            await linear.deliver(headers, body)


@given(
    data=JSON | PART.map(lambda part: {"id": "x", **part}),
    before=JSON | PART,
    action=st.sampled_from(["create", "update", "remove"]) | JSON,
    kind=st.sampled_from(["Issue", "Comment"]) | JSON,
)
async def test_any_signed_json_gets_an_outcome_that_can_be_sent_or_a_payload_error(
    data: Any, before: Any, action: Any, kind: Any
) -> None:
    body = json.dumps({"data": data, "updatedFrom": before, "action": action, "type": kind}).encode()
    async with loaded(FOLDER, config={"webhook_secret": SECRET}) as linear:
        try:
            outcome = await deliver(linear, body)
        except PayloadError:
            return
        assert encode_value([outcome, await linear.items()])
