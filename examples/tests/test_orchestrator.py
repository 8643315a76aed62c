"""The orchestrator's deliveries and its routing, on the extensions themselves, without Ray."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import orchestrator
import pytest
from webhooks import Delivery, from_slack, shipped

from ray_ext import ExtensionError
from ray_ext.testing import loaded
from ray_ext.wire.values import decode_value, encode_value

SECRETS = {extension: f"secret of {extension}" for extension in orchestrator.FOLDERS}


class Direct:
    """A handle's ``deliver`` on an extension in this process: plain results, and ExtensionError for what it raises."""

    def __init__(self, extension: Any) -> None:
        self._extension = extension

    async def deliver(self, *, headers: dict[str, str], body: bytes) -> Any:
        try:
            return decode_value(encode_value(await self._extension.deliver(headers, body)))
        except Exception as error:
            raise ExtensionError(str(error)) from error


class DirectRuntime:
    """``runtime.extension(id)`` for the three, loaded from their folders."""

    def __init__(self, handles: dict[str, Direct]) -> None:
        self._handles = handles

    def extension(self, extension_id: str) -> Direct:
        return self._handles[extension_id]


@pytest.fixture
async def runtime() -> Any:
    async with AsyncExitStack() as stack:
        handles = {}
        for extension_id, name in orchestrator.FOLDERS.items():
            folder = orchestrator.Path(orchestrator.__file__).parent / name
            loading = loaded(folder, config={"webhook_secret": SECRETS[extension_id]})
            handles[extension_id] = Direct(await stack.enter_async_context(loading))
        yield DirectRuntime(handles)


async def test_every_shipped_payload_reaches_its_extension_and_is_accepted(runtime: Any) -> None:
    results = await orchestrator.route(runtime, list(shipped(SECRETS)))
    assert Counter(delivery.to for delivery, *_ in results) == {
        "github-triage": 190,
        "linear-sync": 3,
        "slack-notifier": 54,
    }
    outcomes = Counter(outcome for _, outcome, *_ in results)
    assert outcomes["rejected"] == 0
    assert {"labelled", "answered", "mirrored", "notified"} == set(outcomes)


async def test_a_payload_signed_for_another_extension_is_rejected_and_told_why(runtime: Any) -> None:
    wrong = dict.fromkeys(SECRETS, "wrong")
    results = await orchestrator.route(runtime, list(shipped(wrong)))
    assert {outcome for _, outcome, *_ in results} == {"rejected"}
    assert "does not fit" in results[0][2]


async def test_the_challenge_comes_back_in_the_result(runtime: Any) -> None:
    body = b'{"type": "url_verification", "challenge": "abc"}'
    delivery = Delivery("slack-notifier", "challenge", from_slack(body, SECRETS["slack-notifier"]), body)
    [(_, outcome, *_)] = await orchestrator.route(runtime, [delivery])
    assert outcome == "challenged"


async def test_the_table_counts_every_delivery(runtime: Any, capsys: pytest.CaptureFixture[str]) -> None:
    orchestrator.print_table(await orchestrator.route(runtime, list(shipped(SECRETS))))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["extension", "delivered"]
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["github-triage", "190"],
        ["linear-sync", "3"],
        ["slack-notifier", "54"],
    ]
    assert "  labelled: issues/opened.payload: documentation" in lines
