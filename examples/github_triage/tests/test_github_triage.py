"""github-triage on every shipped payload, on forged ones, and on what nobody should send."""

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
from github_triage import Outcome, PayloadError, SignatureError, Triage
from github_triage.payload import Subject
from github_triage.rules import labels_for, rules_from
from github_triage.signature import verify
from hypothesis import given
from hypothesis import strategies as st

from ray_ext.errors import ConfigurationInvalid
from ray_ext.testing import loaded
from ray_ext.wire.values import encode_value

FOLDER = Path(__file__).parents[1]
PAYLOADS = {
    f"{path.parent.name}/{path.stem}": path.read_bytes()
    for path in sorted((FOLDER.parent / "payloads/github-webhooks").glob("*/*.json"))
}
SECRET = "It's a Secret to Everybody"
OPENED = PAYLOADS["issues/opened.payload"]


def signed(body: bytes, event: str = "issues", secret: str = SECRET, **more: str) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-GitHub-Event": event, "X-GitHub-Delivery": "d1", "X-Hub-Signature-256": f"sha256={digest}", **more}


def issue(action: str = "opened", *, sender: Any = None, **fields: Any) -> bytes:
    item = {"number": 7, "title": "It crashes", "body": "On start", "labels": [], "user": {"type": "User"}, **fields}
    return json.dumps({"action": action, "issue": item, "sender": sender or {"login": "a", "type": "User"}}).encode()


@pytest.fixture
async def triage() -> AsyncIterator[Triage]:
    async with loaded(FOLDER, config={"webhook_secret": SECRET}) as extension:
        yield extension


async def deliver(triage: Triage, body: bytes, event: str = "issues", **more: str) -> Outcome:
    return await triage.deliver(signed(body, event, **more), body)


# ---- the shipped payloads


def test_the_shipped_payloads_are_all_there() -> None:
    assert len(PAYLOADS) == 190


@pytest.mark.parametrize("case", PAYLOADS)
async def test_every_shipped_payload_is_handled_and_its_outcome_can_be_sent(triage: Triage, case: str) -> None:
    event, body = case.partition("/")[0], PAYLOADS[case]
    outcome = await deliver(triage, body, event)
    payload = json.loads(body)
    assert outcome.outcome == ("labelled" if outcome.labels else "answered")
    assert bool(outcome.reason) != bool(outcome.labels)
    assert outcome.event == event
    assert outcome.action == payload.get("action", "")
    assert outcome.summary.startswith(event)
    assert outcome.repository == payload.get("repository", {}).get("full_name", "")
    assert encode_value(outcome)


@pytest.mark.parametrize(
    ("case", "labels"),
    [
        ("issues/opened.payload", ["documentation"]),
        ("issues/opened.with-empty-body.payload", ["documentation"]),
        ("issues/labeled.with-organization.payload", []),
        ("issues/transferred.payload", []),
        ("pull_request/ready_for_review.payload", ["documentation"]),
        ("pull_request/closed.payload", []),
        ("issue_comment/created.payload", []),
    ],
)
async def test_shipped_issues_and_pull_requests_get_their_labels(triage: Triage, case: str, labels: list[str]) -> None:
    assert (await deliver(triage, PAYLOADS[case], case.partition("/")[0])).labels == labels


# ---- signatures


def test_githubs_own_example_of_a_signature_verifies() -> None:
    # From "Validating webhook deliveries" in GitHub's documentation.
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    verify({"X-Hub-Signature-256": f"sha256={digest}"}, b"Hello, World!", "It's a Secret to Everybody")


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "sha256=",
        "sha256=" + "0" * 64,
        "sha256=" + "0" * 63,
        "sha256=" + "é" * 64,
        "sha256=" + "٣" * 64,
        "sha1=" + "0" * 40,
        "0" * 64,
        "sha256=" + " " * 64,
    ],
)
async def test_a_missing_malformed_or_wrong_signature_raises(triage: Triage, value: str | None) -> None:
    body = issue()
    headers = signed(body)
    del headers["X-Hub-Signature-256"]
    if value is not None:
        headers["X-Hub-Signature-256"] = value
    with pytest.raises(SignatureError) as caught:
        await triage.deliver(headers, body)
    assert SECRET not in str(caught.value)


async def test_a_signature_with_another_secret_or_of_another_body_raises(triage: Triage) -> None:
    body = OPENED
    with pytest.raises(SignatureError, match="does not fit"):
        await triage.deliver(signed(body, secret=SECRET + "!"), body)
    with pytest.raises(SignatureError, match="does not fit"):
        await triage.deliver(signed(body), body + b"\n")


async def test_the_old_sha1_signature_alone_is_not_enough(triage: Triage) -> None:
    body = issue()
    old = hmac.new(SECRET.encode(), body, hashlib.sha1).hexdigest()
    with pytest.raises(SignatureError, match="missing"):
        await triage.deliver({"X-GitHub-Event": "issues", "X-Hub-Signature": f"sha1={old}"}, body)


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title, str.swapcase])
async def test_header_names_ignore_case(triage: Triage, change: Any) -> None:
    body = issue()
    headers = {change(name): value for name, value in signed(body).items()}
    outcome = await triage.deliver(headers, body)
    assert (outcome.labels, outcome.delivery_id) == (["bug"], "d1")


async def test_a_header_that_came_twice_counts_only_when_both_say_the_same(triage: Triage) -> None:
    body = issue()
    headers = signed(body)
    good = headers["X-Hub-Signature-256"]
    assert (await triage.deliver({**headers, "x-hub-signature-256": good}, body)).outcome == "labelled"
    with pytest.raises(SignatureError, match="more than once"):
        await triage.deliver({**headers, "x-hub-signature-256": "sha256=" + "0" * 64}, body)
    with pytest.raises(PayloadError, match="more than once"):
        await triage.deliver({**headers, "x-github-event": "push"}, body)


# ---- labels


async def test_labels_that_the_item_has_are_not_given_again_whatever_their_case(triage: Triage) -> None:
    outcome = await deliver(triage, issue(labels=[{"name": "Bug"}]))
    assert (outcome.outcome, outcome.labels) == ("answered", [])


@pytest.mark.parametrize("body", [None, "", 7, ["x"]])
async def test_an_issue_without_a_body_is_triaged_by_its_title(triage: Triage, body: object) -> None:
    assert (await deliver(triage, issue(body=body))).labels == ["bug"]


@pytest.mark.parametrize("action", ["deleted", "closed", "labeled", "assigned", "transferred", "made-up", ""])
async def test_other_actions_are_answered(triage: Triage, action: str) -> None:
    outcome = await deliver(triage, issue(action))
    assert (outcome.outcome, outcome.number) == ("answered", 7)


async def test_a_bots_edit_is_answered_but_its_new_issue_is_labelled(triage: Triage) -> None:
    bot = {"login": "a[bot]", "type": "Bot"}
    assert (await deliver(triage, issue("edited", sender=bot))).outcome == "answered"
    assert (await deliver(triage, issue("opened", sender=bot))).outcome == "labelled"
    assert (await deliver(triage, issue("edited"))).outcome == "labelled"


async def test_ignored_senders_never_label() -> None:
    async with loaded(FOLDER, config={"webhook_secret": SECRET, "ignored_senders": ["A"]}) as triage:
        assert (await deliver(triage, issue())).outcome == "answered"


async def test_a_dependabot_pull_request_is_known_by_its_branch(triage: Triage) -> None:
    item = {"number": 1, "title": "Bump x from 1 to 2", "body": None, "head": {"ref": "dependabot/pip/x-2"}}
    body = json.dumps({"action": "opened", "pull_request": item}).encode()
    assert (await deliver(triage, body, "pull_request")).labels == ["dependencies"]


async def test_the_operators_rules_replace_the_default_ones() -> None:
    rules = [
        {"label": "ui", "words": ["button*", "dark mode"]},
        {"label": "UI", "words": ["layout"]},
        {"label": "robot", "author_types": ["Bot"], "kinds": ["pull_request"]},
        {"label": "headline", "title_words": ["breaking"]},
    ]
    async with loaded(FOLDER, config={"webhook_secret": SECRET, "rules": rules}) as triage:
        assert await triage.triage("Buttons move", "in the Dark-Mode layout") == ["ui"]
        assert await triage.triage("Crash", "breaking") == []
        assert await triage.triage("BREAKING: x", "darkmode") == ["headline"]
        assert (await deliver(triage, issue(user={"type": "Bot"}))).labels == []


async def test_words_are_whole_words_unless_a_star_ends_them(triage: Triage) -> None:
    assert await triage.triage("A debugger for typography", "") == []
    assert await triage.triage("It keeps CRASHING!", "") == ["bug"]
    assert await triage.triage("x", "This doesn't\nwork.") == ["bug"]


async def test_a_configuration_without_a_secret_or_with_an_unknown_key_is_refused() -> None:
    for config in ({}, {"webhook_secret": ""}, {"webhook_secret": SECRET, "rulez": []}):
        with pytest.raises(ConfigurationInvalid):
            async with loaded(FOLDER, config=config):
                pass


async def test_a_rule_whose_words_have_no_letter_refuses_the_load() -> None:
    with pytest.raises(ValueError, match="no letter or digit"):
        async with loaded(FOLDER, config={"webhook_secret": SECRET, "rules": [{"label": "x", "words": ["*"]}]}):
            pass


def test_a_long_hostile_text_takes_a_moment_at_most() -> None:
    rules = rules_from([{"label": "x", "words": ["a " * 49 + "b", "crash*"]}] * 50)
    started = time.perf_counter()
    assert labels_for(Subject("issue", 1, "a", "a " * 250_000, (), "", ""), rules) == []
    assert time.perf_counter() - started < 5


# ---- kinds and bodies


@pytest.mark.parametrize("event", ["made_up", "issues2", "Issues", "x" * 5000])
async def test_unknown_event_kinds_are_answered(triage: Triage, event: str) -> None:
    outcome = await deliver(triage, b'{"action": ["odd"], "repository": 7, "sender": null}', event)
    assert (outcome.outcome, outcome.action) == ("answered", "")


async def test_a_ping_is_answered_with_a_summary(triage: Triage) -> None:
    outcome = await deliver(triage, b'{"zen": "x", "hook_id": 5, "sender": {"login": "a"}}', "ping")
    assert (outcome.outcome, outcome.summary) == ("answered", "ping from hook 5 by a")


async def test_a_form_encoded_delivery_is_read_like_a_json_one(triage: Triage) -> None:
    body = urlencode({"payload": OPENED}).encode()
    content_type = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    outcome = await triage.deliver({**signed(body), **content_type}, body)
    assert outcome.labels == ["documentation"]
    for broken in (b"", b"other=1", b"payload=%7B%7D&payload=%7B%7D", b"payload=" + b"&x" * 500):
        with pytest.raises(PayloadError):
            await triage.deliver({**signed(broken), **content_type}, broken)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe{}",
        b'{"issue": NaN}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"1" * 10_000,
        b'{"action": "opened"}',
        b'{"action": "opened", "issue": [1]}',
        b'{"action": "opened", "issue": {"number": 1}}',
        b'{"action": "opened", "issue": {"title": null}}',
    ],
    ids=lambda body: body[:20].decode("latin-1"),
)
async def test_a_signed_body_that_cannot_be_read_raises_a_payload_error(triage: Triage, body: bytes) -> None:
    with pytest.raises(PayloadError):
        await deliver(triage, body)


async def test_odd_values_inside_a_good_payload_do_no_harm(triage: Triage) -> None:
    body = issue(number=10**30, title="crash \ud800", labels=["plain", None, 7, {"name": 5}, {}], user="x", head=[])
    outcome = await deliver(triage, body)
    assert (outcome.labels, outcome.number) == (["bug"], 0)
    assert encode_value(outcome)


async def test_an_event_header_that_is_missing_raises_a_payload_error(triage: Triage) -> None:
    body = issue()
    headers = signed(body)
    del headers["X-GitHub-Event"]
    with pytest.raises(PayloadError, match="X-GitHub-Event is missing"):
        await triage.deliver(headers, body)


async def test_statistics_count_every_delivery_once(triage: Triage) -> None:
    await deliver(triage, issue())
    await deliver(triage, b"{}", "push")
    for headers, body in (({}, b""), (signed(b"["), b"[")):
        with pytest.raises((SignatureError, PayloadError)):
            await triage.deliver(headers, body)
    assert await triage.statistics() == {"delivered": 4, "labelled": 1, "answered": 1, "rejected": 2}


# ---- anything at all

NAMES = st.sampled_from(["X-Hub-Signature-256", "x-hub-signature-256", "X-GitHub-Event", "Content-Type"]) | st.text()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
KEYS = ["action", "issue", "pull_request", "sender", "repository", "commits", "release", "hook_id", "ref", "check_run"]
FIELDS = ["title", "body", "labels", "number", "user", "head", "login", "full_name", "type", "name"]
PAYLOAD = st.dictionaries(
    st.sampled_from(KEYS), st.just("opened") | JSON | st.dictionaries(st.sampled_from(FIELDS), JSON), max_size=8
)
EVENTS = st.sampled_from(["issues", "pull_request", "push", "ping", "release", "create", "check_run"])


@given(headers=st.dictionaries(NAMES, st.text()), body=st.binary())
async def test_junk_is_never_accepted(headers: dict[str, str], body: bytes) -> None:
    async with loaded(FOLDER, config={"webhook_secret": SECRET}) as triage:
        with pytest.raises(SignatureError):
            await triage.deliver(headers, body)


@given(payload=PAYLOAD, event=EVENTS)
async def test_any_signed_json_gets_an_outcome_that_can_be_sent_or_a_payload_error(payload: Any, event: str) -> None:
    body = json.dumps(payload).encode()
    async with loaded(FOLDER, config={"webhook_secret": SECRET}) as triage:
        try:
            outcome = await deliver(triage, body, event)
        except PayloadError:
            return
        assert encode_value(outcome)


@given(body=st.binary(), form=st.booleans())
async def test_any_signed_bytes_get_an_outcome_or_a_payload_error(body: bytes, form: bool) -> None:
    async with loaded(FOLDER, config={"webhook_secret": SECRET}) as triage:
        kind = "application/x-www-form-urlencoded" if form else "application/json"
        try:
            outcome = await triage.deliver({**signed(body), "Content-Type": kind}, body)
        except PayloadError:
            return
        assert encode_value(outcome)
