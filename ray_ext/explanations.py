"""What each error code means, and what to do about it: from the docstrings of :mod:`ray_ext.errors`.

Their shape: what the class means, with the keys of its ``details``; then a paragraph that begins with "To do: ".
"""

from __future__ import annotations

import difflib
import inspect
import re
from dataclasses import dataclass

from ray_ext.errors import RayExtError, Who, error_classes

__all__ = ["ACTORS", "Explanation", "code_in", "codes_like", "explain", "explanations"]

#: Who must act, in words.
ACTORS: dict[Who, str] = {
    "caller": "the caller",
    "extension": "the extension's author",
    "operator": "the operator",
    "cluster": "whoever keeps the cluster running",
}

_TO_DO = "To do: "
#: The root's docstring is about the whole family.
_OF_THE_ROOT = (
    "A failure that has no class of its own. An error that arrives with a code unknown here becomes one, too; "
    '`details["code"]` then keeps the code.'
)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One error class. ``details`` are the keys that it promises; ``meaning`` and ``to_do`` are Markdown.

    ``parent`` is the code of the class that this one is a kind of; empty where that is the root.
    """

    code: str
    class_name: str
    parent: str
    actor: Who
    meaning: str
    details: tuple[str, ...]
    to_do: str


def explanations() -> dict[str, Explanation]:
    """All of them by code, in the order of :mod:`ray_ext.errors`: by who must act."""
    classes = error_classes()
    order = list(ACTORS)
    # The root last: it is what no class of its own describes.
    ordered = sorted(classes, key=lambda code: (classes[code] is RayExtError, order.index(classes[code].actor)))
    return {code: _explanation(classes[code]) for code in ordered}


def explain(code: str) -> Explanation | None:
    """The explanation of a code; None for one that is not known."""
    cls = error_classes().get(code)
    return None if cls is None else _explanation(cls)


def code_in(text: str) -> str:
    """The code in what somebody pasted: the code itself, ``[code]``, or an error's text that ends with it."""
    stripped = text.strip()
    bracketed = re.search(r"\[([a-z0-9-]+)\]$", stripped)
    return bracketed[1] if bracketed else stripped.lower().replace("_", "-")


def codes_like(code: str) -> list[str]:
    """The codes that are spelled like this one, the nearest first; or contain it, as far as none is."""
    known = list(error_classes())
    by_class = [each for each, cls in error_classes().items() if cls.__name__.lower() == code.replace("-", "")]
    near = difflib.get_close_matches(code, known)
    return by_class or near or [each for each in known if code and code in each]


def _explanation(cls: type[RayExtError]) -> Explanation:
    contract, _, to_do = inspect.cleandoc(cls.__doc__ or "").partition(f"\n\n{_TO_DO}")
    text = " ".join(contract.split())
    parent = cls.__mro__[1]
    return Explanation(
        code=cls.code,
        class_name=cls.__name__,
        parent=parent.code if issubclass(parent, RayExtError) and parent is not RayExtError else "",
        actor=cls.actor,
        meaning=_OF_THE_ROOT if cls is RayExtError else _markdown(_without_list(text)),
        details=("code",) if cls is RayExtError else _detail_keys(text),
        to_do=_markdown(" ".join(to_do.split())),
    )


def _without_list(text: str) -> str:
    """The meaning without the list of keys at its end, which is shown by itself."""
    return re.sub(r"(?:;|\.|:)? ?``details``: .*$", ".", text)


def _detail_keys(text: str) -> tuple[str, ...]:
    """The keys that a docstring promises: ``details["key"]``, or a list after ``details``: up to the end."""
    keys = re.findall(r'details\["(\w+)"\]', text)
    listed = re.search(r"``details``: (.*)$", text)
    return (*keys, *(re.findall(r"``(\w+)``", listed[1]) if listed else ()))


def _markdown(text: str) -> str:
    return re.sub(r":\w+:`~?(?:[a-z_]+\.)*(\w+)(?:\(\))?`", r"`\1`", text).replace("``", "`")
