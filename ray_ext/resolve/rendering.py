"""Plans as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from ray_ext.resolve.plans import Plan
from ray_ext.resolve.requests import Install, Load, Remove, Request, Unload, Upgrade

__all__ = ["render"]

_HASH_DIGITS = 12


def render(plan: Plan, name: str | None = None) -> str:
    """The request, the numbered steps with their reasons, what stays as it is, the plan's revision and its name.

    ``name`` is the hash by which the plan is asked for; None: its own.
    """
    lines = [_title(plan.request)]
    steps = [
        (f"{number}.", each.kind, f"{each.extension} {each.version}", each.why)
        for number, each in enumerate(plan.steps, 1)
    ]
    lines += _columns(steps) or ["  no change"]
    if plan.untouched:
        lines.append("untouched")
        lines += _columns([(f"{each.extension} {each.version}", each.why) for each in plan.untouched])
    lines.append(f"revision {plan.revision}, plan {(name or plan.hash)[:_HASH_DIGITS]}")
    return "\n".join(lines)


def _title(request: Request) -> str:
    title = f"{request.verb} {request.id}"
    match request:
        case Install():
            return f"{title} {request.version}" + ("" if request.load else ", without loading it")
        case Load():
            return title
        case Unload():
            return title + (", with its dependents" if request.is_cascading else "")
        case Remove():
            dependents = ", with its dependents" if request.is_cascading else ""
            return title + dependents + (", with all data" if request.is_purging else "")
        case Upgrade():
            return f"{title} to {request.version or 'the best version that fits'}"
        case _:
            assert_never(request)


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The rows, indented, in columns as wide as their widest text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
