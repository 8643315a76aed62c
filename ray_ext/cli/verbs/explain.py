"""``explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ray_ext.cli.exits import STATUSES, status_of_code
from ray_ext.cli.output import answer, print_table
from ray_ext.cli.verb import verb

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ray_ext.explanations import Explanation

__all__ = ["command"]

_WIDTH = 88
_INDENT = 14


class _ErrorCode(click.ParamType[str]):
    """A code, or what an error ends with."""

    name = "code"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from ray_ext.explanations import code_in, codes_like, explain

        code = code_in(str(value))
        if explain(code) is None:
            near = codes_like(code)
            hint = f"did you mean {' or '.join(near)}?" if near else "ray-ext explain lists them all"
            self.fail(f"no error has the code {code!r}; {hint}", param, ctx)
        return code

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from ray_ext.explanations import explanations

        known = explanations().values()
        return [CompletionItem(each.code, help=each.meaning) for each in known if each.code.startswith(incomplete)]


@verb(section="Help", examples=("ray-ext explain grant-required", "ray-ext explain '[plan-stale]'", "ray-ext explain"))
@click.argument("code", type=_ErrorCode(), required=False)
def command(code: str | None) -> None:
    """Say what an error means, who must act, and what to do; without CODE list every code. Needs no runtime.

    CODE is what an error's text ends with.
    """
    from ray_ext.explanations import explain, explanations

    if code is None:
        known = list(explanations().values())
        rows = [(each.code, each.actor, str(status_of_code(each.code)), _plain(each.meaning)) for each in known]
        answer(
            "explanations",
            [_data(each) for each in known],
            lambda: print_table(("code", "who must act", "exit", "meaning"), rows),
        )
        return
    found = explain(code)
    assert found is not None, "convert() lets known codes through only"
    answer("explanation", _data(found), lambda: click.echo(_page(found)))


def _data(found: Explanation) -> dict[str, object]:
    from dataclasses import asdict

    from ray_ext.control.problems import STATUS

    return {
        **asdict(found),
        "details": list(found.details),
        "exit_status": status_of_code(found.code),
        "http_status": STATUS[found.code],
    }


def _page(found: Explanation) -> str:
    from ray_ext.control.problems import STATUS
    from ray_ext.explanations import ACTORS

    status = status_of_code(found.code)
    rows = (
        ("meaning", _plain(found.meaning)),
        ("to do", _plain(found.to_do)),
        ("who must act", ACTORS[found.actor]),
        ("a kind of", found.parent),
        ("details", ", ".join(found.details)),
        ("in Python", f"ray_ext.{found.class_name}"),
        ("exit status", f"{status} ({STATUSES[status]})"),
        ("HTTP status", str(STATUS[found.code])),
    )
    return "\n".join([found.code, *(_row(name, text) for name, text in rows if text)])


def _row(name: str, text: str) -> str:
    import textwrap

    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=f"  {name}".ljust(_INDENT + 2),
        subsequent_indent=" " * (_INDENT + 2),
        break_on_hyphens=False,
        break_long_words=False,
    )


def _plain(markdown: str) -> str:
    return markdown.replace("`", "")
