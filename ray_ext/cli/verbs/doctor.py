"""``doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ray_ext.cli.output import answer, note, print_table
from ray_ext.cli.verb import verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

    from ray_ext.cli.checking import Result

__all__ = ["command"]

#: The worst first.
_ORDER = ("fail", "warn", "ok", "skip")


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from ray_ext.cli.checking import checks

    return [CompletionItem(each.id, help=each.title) for each in checks() if each.id.startswith(incomplete)]


@verb(section="Runtime", examples=("ray-ext doctor", "ray-ext doctor --json", "ray-ext doctor home-rights store"))
@click.argument("check", nargs=-1, shell_complete=_complete)
def command(check: tuple[str, ...]) -> None:
    """Look at this machine and the state home, and say what is wrong and which command mends it. Changes nothing.

    Every CHECK, or those that are named. Works without a runtime. Exit status 1 if one fails; a warning is none.
    """
    from dataclasses import asdict

    from ray_ext.cli.checking import Patient, checks, run
    from ray_ext.cli.exits import FAILED
    from ray_ext.home import Home

    known = {each.id: each for each in checks()}
    unknown = sorted(set(check) - set(known))
    if unknown:
        raise click.UsageError(f"there is no check {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [known[name] for name in dict.fromkeys(check)] or list(known.values())
    results = sorted(run(Patient(Home.default()), chosen), key=lambda each: _ORDER.index(each.status))
    counts = {status: sum(each.status == status for each in results) for status in _ORDER}
    answer("doctor", {"counts": counts, "checks": [asdict(each) for each in results]}, lambda: _print(results))
    note(", ".join(f"{count} {status}" for status, count in counts.items() if count))
    if counts["fail"]:
        click.get_current_context().exit(FAILED)


def _print(results: Sequence[Result]) -> None:
    print_table(("check", "status", "evidence"), [(each.id, each.status, each.evidence) for each in results])
    mending = [each for each in results if each.fix and each.status in ("fail", "warn")]
    if not mending:
        return
    # Not in the table: a command that is broken into a column's lines cannot be copied.
    click.echo("\nTo mend it:")
    for each in mending:
        click.echo(f"  {each.id} ({each.status}): {each.title}\n    {each.fix}")
