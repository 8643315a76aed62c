"""slack-notifier on every shipped payload, on forged and stale ones, and on what nobody should send."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_notifier import Outcome, PayloadError, SignatureError, SlackNotifier, StaleDelivery
from slack_notifier.signature import verify

from ray_ext.testing import loaded
from ray_ext.wire.values import encode_value

FOLDER = Path(__file__).parents[1]
PAYLOADS = {path.stem: path.read_bytes() for path in sorted((FOLDER.parent / "payloads/slack-events").glob("*.json"))}
SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
FORM = "application/x-www-form-urlencoded"


def signed(body: bytes, *, secret: str = SECRET, sent: str | None = None, **more: str) -> dict[str, str]:
    sent = str(int(time.time())) if sent is None else sent
    digest = hmac.new(secret.encode(), b"v0:" + sent.encode() + b":" + body, hashlib.sha256).hexdigest()
    return {"X-Slack-Request-Timestamp": sent, "X-Slack-Signature": f"v0={digest}", **more}


def callback(**event: Any) -> bytes:
    envelope = {"type": "event_callback", "event_id": "Ev1", "event": {"type": "message", "user": "U1", **event}}
    return json.dumps(envelope).encode()


@pytest.fixture
async def slack() -> AsyncIterator[SlackNotifier]:
    async with loaded(FOLDER, config={"webhook_secret": SECRET}) as extension:
        yield extension


async def deliver(slack: SlackNotifier, body: bytes, **more: str) -> Outcome:
    return await slack.deliver(signed(body, **more), body)


# ---- the shipped payloads


def test_the_shipped_payloads_are_all_there() -> None:
    assert len(PAYLOADS) == 54


@pytest.mark.parametrize("case", PAYLOADS)
async def test_every_shipped_payload_is_handled_and_its_outcome_can_be_sent(slack: SlackNotifier, case: str) -> None:
    body = PAYLOADS[case]
    outcome = await deliver(slack, body)
    event = json.loads(body)["event"]["type"]
    assert (outcome.type, outcome.event) == ("event_callback", event)
    assert outcome.outcome == ("notified" if outcome.notification else "answered")
    assert bool(outcome.reason) != bool(outcome.notification)
    assert encode_value(outcome)


@pytest.mark.parametrize(
    ("case", "outcome"),
    [("ReactionAdded", "notified"), ("ReactionRemoved", "answered"), ("MessageBot", "answered")],
)
async def test_shipped_events_are_notified_of_or_not(slack: SlackNotifier, case: str, outcome: str) -> None:
    assert (await deliver(slack, PAYLOADS[f"{case}Payload"])).outcome == outcome


# ---- signatures and age


def test_slacks_own_example_of_a_signature_verifies_at_its_time_only() -> None:
    # From "Verifying requests from Slack" in Slack's documentation.
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "X-Slack-Request-Timestamp": "1531420618",
        "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    verify(headers, body, SECRET, now_s=1531420618 + 300, max_age_s=300)
    with pytest.raises(StaleDelivery):
        verify(headers, body, SECRET, now_s=1531420618 + 301, max_age_s=300)
    with pytest.raises(StaleDelivery):
        verify(headers, body, SECRET, now_s=1531420618 - 301, max_age_s=300)


@pytest.mark.parametrize(
    "value", [None, "", "v0=", "v0=" + "0" * 64, "v0=" + "0" * 63, "v1=" + "0" * 64, "0" * 64, "v0=" + "٣" * 64]
)
async def test_a_missing_malformed_or_wrong_signature_raises(slack: SlackNotifier, value: str | None) -> None:
    body = callback()
    headers = signed(body)
    del headers["X-Slack-Signature"]
    if value is not None:
        headers["X-Slack-Signature"] = value
    with pytest.raises(SignatureError) as caught:
        await slack.deliver(headers, body)
    assert SECRET not in str(caught.value)


async def test_a_signature_with_another_secret_or_of_another_body_or_time_raises(slack: SlackNotifier) -> None:
    body = callback()
    headers = signed(body)
    later = {"X-Slack-Request-Timestamp": str(int(headers["X-Slack-Request-Timestamp"]) + 1)}
    for given_headers, given_body in (
        (signed(body, secret=SECRET + "!"), body),
        (headers, body + b" "),
        ({**headers, **later}, body),
    ):
        with pytest.raises(SignatureError, match="does not fit"):
            await slack.deliver(given_headers, given_body)


@pytest.mark.parametrize("sent", ["", "now", "-5", "1.5", "1_0", "٣", "1" * 5000, "0x10"])
async def test_a_time_that_is_no_number_raises(slack: SlackNotifier, sent: str) -> None:
    with pytest.raises(SignatureError, match="malformed"):
        await deliver(slack, callback(), sent=sent)


async def test_a_missing_time_raises(slack: SlackNotifier) -> None:
    headers = signed(callback())
    del headers["X-Slack-Request-Timestamp"]
    with pytest.raises(SignatureError, match="Timestamp is missing"):
        await slack.deliver(headers, callback())


@pytest.mark.parametrize("offset_s", [-3600, -302, 302, 3600])
async def test_a_replayed_request_raises_although_its_signature_fits(slack: SlackNotifier, offset_s: int) -> None:
    with pytest.raises(StaleDelivery, match="300 s"):
        await deliver(slack, callback(), sent=str(int(time.time()) + offset_s))


async def test_the_age_can_be_configured() -> None:
    async with loaded(FOLDER, config={"webhook_secret": SECRET, "max_age_s": 7200}) as slack:
        assert (await deliver(slack, callback(), sent=str(int(time.time()) - 3600))).outcome == "notified"


@pytest.mark.parametrize("change", [str.lower, str.upper, str.swapcase])
async def test_header_names_ignore_case(slack: SlackNotifier, change: Any) -> None:
    body = callback()
    headers = {change(name): value for name, value in signed(body, **{"X-Slack-Retry-Num": "2"}).items()}
    outcome = await slack.deliver(headers, body)
    assert (outcome.outcome, outcome.retry) == ("notified", 2)


@pytest.mark.parametrize("name", ["X-Slack-Signature", "X-Slack-Request-Timestamp"])
async def test_a_header_that_came_twice_counts_only_when_both_say_the_same(slack: SlackNotifier, name: str) -> None:
    body = callback()
    headers = signed(body)
    await slack.deliver({**headers, name.lower(): headers[name]}, body)
    with pytest.raises(SignatureError, match="more than once"):
        await slack.deliver({**headers, name.lower(): "1"}, body)


# ---- what is done


async def test_the_challenge_is_answered_at_once(slack: SlackNotifier) -> None:
    body = json.dumps({"type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV", "token": "t"}).encode()
    outcome = await deliver(slack, body)
    assert (outcome.outcome, outcome.challenge) == ("challenged", "3eZbrw1aBm2rZgRNFdxV")


@pytest.mark.parametrize("challenge", [None, "", 7, ["x"], "x" * 5000, "\ud800"])
async def test_a_challenge_without_text_raises(slack: SlackNotifier, challenge: object) -> None:
    body = json.dumps({"type": "url_verification", "challenge": challenge}).encode()
    with pytest.raises(PayloadError):
        await deliver(slack, body)


async def test_an_unsigned_challenge_raises(slack: SlackNotifier) -> None:
    with pytest.raises(SignatureError):
        await slack.deliver({}, b'{"type": "url_verification", "challenge": "x"}')


async def test_a_message_becomes_a_line(slack: SlackNotifier) -> None:
    outcome = await deliver(slack, callback(channel="C1", text="Hello\nthere"))
    assert (outcome.outcome, outcome.notification) == ("notified", "message in C1 by U1: Hello there")


async def test_a_reaction_becomes_a_line(slack: SlackNotifier) -> None:
    outcome = await deliver(slack, callback(type="reaction_added", reaction="wave", item={"channel": "C1"}))
    assert outcome.notification == "reaction added :wave: in C1 by U1"


@pytest.mark.parametrize(
    "event", [{"bot_id": "B1"}, {"bot_profile": {"id": "B1"}}, {"subtype": "bot_message"}, {"hidden": True}]
)
async def test_bots_and_hidden_messages_are_answered_only(slack: SlackNotifier, event: dict[str, Any]) -> None:
    assert (await deliver(slack, callback(**event))).outcome == "answered"


async def test_a_retry_is_noted_with_its_reason(slack: SlackNotifier) -> None:
    more = {"X-Slack-Retry-Num": "1", "X-Slack-Retry-Reason": "http_timeout"}
    outcome = await deliver(slack, callback(), **more)
    assert (outcome.retry, outcome.retry_reason, outcome.event_id) == (1, "http_timeout", "Ev1")
    assert (await deliver(slack, callback(), **{"X-Slack-Retry-Num": "²"})).retry == 0


@pytest.mark.parametrize(
    "body",
    [b'{"type": "app_rate_limited"}', b'{"type": "made_up", "event": 5}', b"{}", b'{"type": []}', b'{"event": {}}'],
)
async def test_unknown_types_are_answered(slack: SlackNotifier, body: bytes) -> None:
    outcome = await deliver(slack, body)
    assert outcome.outcome == "answered"
    assert outcome.reason


async def test_an_unknown_event_is_answered(slack: SlackNotifier) -> None:
    assert (await deliver(slack, callback(type="made_up"))).outcome == "answered"


async def test_interactions_and_slash_commands_are_answered(slack: SlackNotifier) -> None:
    interaction = urlencode({"payload": json.dumps({"type": "block_actions"})}).encode()
    assert (await deliver(slack, interaction, **{"content-type": FORM})).type == "block_actions"
    command = urlencode({"command": "/triage", "text": "now"}).encode()
    assert (await deliver(slack, command, **{"content-type": FORM})).type == "slash_command"


async def test_a_form_cannot_pass_for_an_event(slack: SlackNotifier) -> None:
    outcome = await deliver(slack, b"type=event_callback&event=x", **{"content-type": FORM})
    assert (outcome.outcome, outcome.type) == ("answered", "slash_command")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b"\xff{}", b'{"a": NaN}', b"[" * 100_000, b"1" * 10_000, b'{"type": "event_callback"}'],
    ids=lambda body: body[:20].decode("latin-1"),
)
async def test_a_signed_body_that_cannot_be_read_raises_a_payload_error(slack: SlackNotifier, body: bytes) -> None:
    with pytest.raises(PayloadError):
        await deliver(slack, body)


async def test_statistics_count_every_request_once(slack: SlackNotifier) -> None:
    await deliver(slack, callback())
    await deliver(slack, b"{}")
    with pytest.raises(SignatureError):
        await slack.deliver({}, b"")
    assert await slack.statistics() == {"delivered": 3, "challenged": 0, "notified": 1, "answered": 1, "rejected": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
FIELDS = ["user", "channel", "channel_id", "item", "reaction", "text", "subtype", "bot_id", "bot_profile", "hidden"]
EVENT = st.dictionaries(st.sampled_from(FIELDS), JSON | st.dictionaries(st.sampled_from(["id", "name"]), JSON))
NAMES = st.sampled_from(["X-Slack-Signature", "x-slack-signature", "X-Slack-Request-Timestamp"]) | st.text()


@given(headers=st.dictionaries(NAMES, st.text()), body=st.binary())
async def test_junk_is_never_accepted(headers: dict[str, str], body: bytes) -> None:
    async with loaded(FOLDER, config={"webhook_secret": SECRET}) as slack:
        with pytest.raises(SignatureError):
            await slack.deliver(headers, body)


@given(
    event=JSON | EVENT.map(lambda event: {"type": "message", **event}),
    kind=st.sampled_from(["event_callback", "", "url_verification"]) | JSON,
    form=st.booleans(),
)
async def test_any_signed_json_gets_an_outcome_that_can_be_sent_or_a_payload_error(
    event: Any, kind: Any, form: bool
) -> None:
    text = json.dumps({"type": kind, "event": event, "challenge": event})
    body = urlencode({"payload": text}).encode() if form else text.encode()
    async with loaded(FOLDER, config={"webhook_secret": SECRET}) as slack:
        try:
            outcome = await deliver(slack, body, **({"Content-Type": FORM} if form else {}))
        except PayloadError:
            return
        assert encode_value(outcome)
