"""Keeping the secrets of a configuration out of text."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import pairwise
from urllib.parse import quote, quote_plus

from ray_ext.manifests.problems import SECRET

__all__ = ["MIN_SECRET", "Redactor"]

#: A secret that is shorter is not looked for: it would be found everywhere.
MIN_SECRET = 4
#: A text of so many characters may have been cut, by the guest or by whoever read its line.
_MAY_BE_CUT = 200
#: What stands where the SDK cuts a long text, and where a host cuts a long line.
_LEFT_OUT = re.compile(r"\n… \d+ characters left out …\n|…\Z")
#: Where a text was wrapped.
_WRAP = re.compile(r"[ \t\r]*\n[ \t]*")

_Span = tuple[int, int]


class Redactor:
    """Replaces secrets by ``<secret>``.

    Found are: a secret as it is; as JSON, Python and URLs write it; wrapped over several lines; each line of one that
    has several; and, at an end where the text was cut, a part of one. Secrets of fewer than four characters are left
    alone, and so is what an extension encodes in other ways: this protects from accidents, not from its author.

    >>> Redactor(["hunter2"])("the password is hunter2")
    'the password is <secret>'
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= MIN_SECRET}
        self._forms = sorted(forms, key=len, reverse=True)
        self._unwrapped = [form for form in {_WRAP.sub("", form) for form in forms} if len(form) >= MIN_SECRET]

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        if not self._forms or not text:
            return text
        spans = [*_found(self._forms, text), *self._found_wrapped(text), *self._found_cut(text)]
        return _replaced(text, spans) if spans else text

    def _found_wrapped(self, text: str) -> Iterator[_Span]:
        if "\n" not in text:
            return
        kept: list[str] = []
        #: Where each kept part begins, in the text without wraps and in the text.
        shorts, places = [], []
        at = short = 0
        for start, end in [*(wrap.span() for wrap in _WRAP.finditer(text)), (len(text), len(text))]:
            if start > at:
                kept.append(text[at:start])
                shorts.append(short)
                places.append(at)
                short += start - at
            at = end

        def place(index: int) -> int:
            part = bisect_left(shorts, index + 1) - 1
            return places[part] + index - shorts[part]

        for start, end in _found(self._unwrapped, "".join(kept)):
            yield place(start), place(end - 1) + 1

    def _found_cut(self, text: str) -> Iterator[_Span]:
        cuts = [(0, 0), *(cut.span() for cut in _LEFT_OUT.finditer(text)), (len(text), len(text))]
        if len(cuts) == 2 and len(text) < _MAY_BE_CUT:
            return
        for (_, start), (end, _) in pairwise(cuts):
            for form in self._forms:
                head = _common_end(text, start, end, form)
                if head:
                    yield end - head, end
                tail = _common_start(text, start, end, form)
                if tail:
                    yield start, start + tail


def _forms(secret: str) -> Iterator[str]:
    """The secret in the ways in which it is written."""
    lines = [line.strip() for line in secret.splitlines()]
    for text in dict.fromkeys([secret, secret.strip(), *lines]):
        yield text
        escaped = json.dumps(text)[1:-1]
        yield from (escaped, json.dumps(escaped)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
        yield from (repr(text)[1:-1], repr(text.encode("utf-8", "surrogatepass"))[2:-1])
        url = text.encode("utf-8", "surrogatepass")
        yield from (quote(url, safe=""), quote(url), quote_plus(url))


def _found(forms: Iterable[str], text: str) -> Iterator[_Span]:
    for form in forms:
        at = text.find(form)
        while at >= 0:
            yield at, at + len(form)
            at = text.find(form, at + 1)


def _common_end(text: str, start: int, end: int, form: str) -> int:
    """How long a beginning of the form the text has at its end; 0 for less than four characters."""
    longest = min(len(form) - 1, end - start)
    at = text.find(form[:MIN_SECRET], end - longest, end)
    while at >= 0:
        if text.startswith(form[: end - at], at):
            return end - at
        at = text.find(form[:MIN_SECRET], at + 1, end)
    return 0


def _common_start(text: str, start: int, end: int, form: str) -> int:
    """How long an end of the form the text has at its beginning; 0 for less than four characters."""
    longest = min(len(form) - 1, end - start)
    at = text.rfind(form[-MIN_SECRET:], start, start + longest)
    while at >= 0:
        length = at + MIN_SECRET - start
        if text.startswith(form[-length:], start):
            return length
        at = text.rfind(form[-MIN_SECRET:], start, at + MIN_SECRET - 1)
    return 0


def _replaced(text: str, spans: list[_Span]) -> str:
    parts, at = [], 0
    for start, end in sorted(spans):
        if start >= at:
            parts += [text[at:start], SECRET]
        at = max(at, end)
    return "".join([*parts, text[at:]])
