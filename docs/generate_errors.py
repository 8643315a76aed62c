"""Write ``docs/errors.md`` from the error classes: ``python docs/generate_errors.py``.

``tests/unit/test_docs.py`` checks that the file is what this makes.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from ray_ext.errors import RayExtError, error_classes

_PAGE = Path(__file__).with_name("errors.md")

_HEAD = """\
# Errors

Every failure that ray_ext reports is a `RayExtError`. Each class has a stable code. The sections say who must act.

This page is made from `ray_ext/errors.py` by `docs/generate_errors.py`; do not edit it by hand.

All have `what` (one sentence), `where`, `fix` (both may be empty) and `details` (plain data). `str(error)` shows the
first three and the code. All survive pickling. Import them from `ray_ext`: `except ray_ext.DeadlineExceeded`.
The column "details" lists the keys that the class promises; an error may carry more.
"""

_ACTORS = (
    ("caller", "The caller must act"),
    ("extension", "The extension's author must act"),
    ("operator", "The operator must act"),
    ("cluster", "Whoever keeps the cluster running must act"),
)


def page() -> str:
    """The page's text."""
    parts = [_HEAD]
    classes = error_classes().values()
    for actor, title in _ACTORS:
        rows = [_row(cls) for cls in classes if cls.actor == actor and cls is not RayExtError]
        parts.append(f"## {title}\n\n| code | class | meaning | details |\n| --- | --- | --- | --- |\n" + "".join(rows))
    parts.append(
        "## Neither\n\n"
        f"`{RayExtError.code}` is the root class itself. An error that arrives with a code unknown here becomes one;\n"
        '`details["code"]` then keeps the code.\n'
    )
    return "\n".join(parts)


def _row(cls: type[RayExtError]) -> str:
    text = " ".join(inspect.cleandoc(cls.__doc__ or "").split())
    keys = _detail_keys(text)
    meaning = re.sub(r"(?:;|\.|:)? ?``details``: .*$", ".", text)
    meaning = meaning.replace("``", "`").replace("|", "\\|").replace("..", ".")
    meaning = re.sub(r":class:`~?(?:[a-z_]+\.)*(\w+)`", r"`\1`", meaning)
    return f"| `{cls.code}` | `{cls.__name__}` | {meaning} | {', '.join(f'`{key}`' for key in keys)} |\n"


def _detail_keys(text: str) -> list[str]:
    """The keys that a docstring promises: ``details["key"]``, or a list after ``details``: up to the end."""
    keys = re.findall(r'details\["(\w+)"\]', text)
    listed = re.search(r"``details``: (.*)$", text)
    return keys + (re.findall(r"``(\w+)``", listed.group(1)) if listed else [])


if __name__ == "__main__":
    _PAGE.write_text(page(), encoding="utf-8")
