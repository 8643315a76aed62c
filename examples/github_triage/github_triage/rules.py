"""Which labels an issue or pull request gets. Words are compared, not patterns: time grows with the text alone."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from github_triage.payload import Subject

__all__ = ["Rule", "labels_for", "rules_from"]

_WORD = re.compile(r"\w+")
_KINDS = ("issue", "pull_request")


@dataclass(frozen=True, slots=True)
class Rule:
    """Gives ``label`` when any condition holds; words are needles made by :func:`_needle`."""

    label: str
    kinds: frozenset[str]
    words: tuple[str, ...]
    title_words: tuple[str, ...]
    branch_prefixes: tuple[str, ...]
    author_types: frozenset[str]


def rules_from(configured: Iterable[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """The rules of a configuration that its schema accepts; raises ``ValueError`` for words without a letter."""
    return tuple(
        Rule(
            label=rule["label"],
            kinds=frozenset(rule.get("kinds", _KINDS)),
            words=tuple(_needle(word) for word in rule.get("words", ())),
            title_words=tuple(_needle(word) for word in rule.get("title_words", ())),
            branch_prefixes=tuple(rule.get("branch_prefixes", ())),
            author_types=frozenset(rule.get("author_types", ())),
        )
        for rule in configured
    )


def labels_for(subject: Subject, rules: Iterable[Rule]) -> list[str]:
    """The labels that the rules give, in the rules' order, each once (GitHub's labels ignore case)."""
    title = _haystack(subject.title)
    text = title + _haystack(subject.body)
    found: dict[str, str] = {}
    for rule in rules:
        if subject.kind in rule.kinds and (
            any(needle in text for needle in rule.words)
            or any(needle in title for needle in rule.title_words)
            or subject.branch.startswith(rule.branch_prefixes)
            or subject.author_type in rule.author_types
        ):
            found.setdefault(rule.label.casefold(), rule.label)
    return list(found.values())


def _haystack(text: str) -> str:
    return f" {' '.join(_tokens(text))} "


def _needle(words: str) -> str:
    tokens = _tokens(words)
    if not tokens:
        raise ValueError(f"the words {words!r} of a rule have no letter or digit")
    return f" {' '.join(tokens)}" + ("" if words.endswith("*") else " ")


def _tokens(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
