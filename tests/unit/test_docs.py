"""The documentation says what the code says, and its links lead somewhere."""

from __future__ import annotations

import re
import runpy
import typing
from pathlib import Path

import pytest

from ray_ext.wire import exchange, messages

_ROOT = Path(__file__).parents[2]
_PAGES = sorted([_ROOT / "README.md", *(_ROOT / "docs").rglob("*.md")])
_INTERNALS = (_ROOT / "docs" / "internals.md").read_text(encoding="utf-8")
_FENCED = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)


def test_the_page_of_errors_is_what_the_error_classes_say() -> None:
    generated = runpy.run_path(str(_ROOT / "docs" / "generate_errors.py"))["page"]()
    written = (_ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert written == generated, "run: python docs/generate_errors.py"


def _prose(page: Path) -> str:
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.is_file() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, pending = set[Path](), [_ROOT / "README.md"]
    while pending:
        page = pending.pop()
        if page in reached:
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)\s:#]+\.md)", _prose(page))
        pending += [target for link in links if (target := (page.parent / link).resolve()) in _PAGES]
    assert sorted(reached) == _PAGES


def _described_messages() -> dict[str, tuple[int, str, list[str]]]:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (host|guest) \| ([^|]*) \|", _INTERNALS, re.MULTILINE)
    return {name: (int(tag), sender, re.findall(r"`(\w+)`", fields)) for tag, name, sender, fields in rows}


def test_the_table_of_messages_is_what_the_wire_speaks() -> None:
    spoken = {
        message.__name__: (message.__struct_config__.tag, sender, list(message.__struct_fields__))
        for sender, union in (("host", messages.ToGuest), ("guest", messages.FromGuest))
        for message in typing.get_args(union)
    }
    assert _described_messages() == spoken


@pytest.mark.parametrize("struct", [exchange.Exchange, exchange.Answer, exchange.CallItem, exchange.ReplyItem])
def test_the_tables_of_channels_name_the_fields_in_their_order(struct: type) -> None:
    row = re.search(rf"^\| `{struct.__name__}` \| (.*) \|$", _INTERNALS, re.MULTILINE)
    assert row is not None
    assert re.findall(r"`(\w+)`", row[1]) == list(struct.__struct_fields__)  # type: ignore[attr-defined]
