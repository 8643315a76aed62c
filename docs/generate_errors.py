"""Write ``docs/errors.md`` from the error classes: ``python docs/generate_errors.py``.

``tests/unit/test_docs.py`` checks that the file is what this makes.
"""

from __future__ import annotations

from pathlib import Path

from ray_ext.cli.exits import STATUSES, status_of_code
from ray_ext.control.problems import STATUS
from ray_ext.errors import RayExtError
from ray_ext.explanations import Explanation, explanations

_PAGE = Path(__file__).with_name("errors.md")

_HEAD = """\
# Errors

Every failure that ray_ext reports is a `RayExtError`. Each class has a stable code. The sections say who must act.

This page is made from `ray_ext/errors.py` by `docs/generate_errors.py`; do not edit it by hand. `ray-ext explain CODE`
prints a code's part of it.

All have `what` (one sentence), `where`, `fix` (both may be empty) and `details` (plain data). `str(error)` shows the
first three and ends with the code in brackets. All survive pickling. Import them from `ray_ext`:
`except ray_ext.DeadlineExceeded`. "Details" lists the keys that the class promises; an error may carry more.

The control API answers with problem details (RFC 9457): the status below, and the same parts.
"""

_ACTORS = (
    ("caller", "The caller must act"),
    ("extension", "The extension's author must act"),
    ("operator", "The operator must act"),
    ("cluster", "Whoever keeps the cluster running must act"),
)


def page() -> str:
    """The page's text."""
    known = [each for each in explanations().values() if each.code != RayExtError.code]
    parts = [_HEAD, _exit_statuses()]
    for actor, title in _ACTORS:
        parts += [f"## {title}\n", *(_section(each) for each in known if each.actor == actor)]
    parts += ["## Neither\n", _section(explanations()[RayExtError.code])]
    return "\n".join(parts)


def _exit_statuses() -> str:
    lines = ["## Exit statuses of `ray-ext`\n", "| status | meaning | errors |", "| --- | --- | --- |"]
    for status, meaning in STATUSES.items():
        codes = [code for code in explanations() if status_of_code(code) == status]
        errors = "every other one" if status == 1 else ", ".join(f"[`{code}`](#{code})" for code in codes)
        lines.append(f"| {status} | {meaning} | {errors} |")
    return "\n".join([*lines, ""])


def _section(found: Explanation) -> str:
    facts = [f"`{found.class_name}`", f"exit status {status_of_code(found.code)}", f"HTTP {STATUS[found.code]}"]
    if found.parent:
        facts.append(f"a kind of [`{found.parent}`](#{found.parent})")
    if found.details:
        facts.append("details: " + ", ".join(f"`{key}`" for key in found.details))
    return f"### `{found.code}`\n\n{found.meaning}\n\n**To do.** {found.to_do}\n\n{'; '.join(facts)}.\n"


if __name__ == "__main__":
    _PAGE.write_text(page(), encoding="utf-8")
