"""``logs``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ray_ext.cli.completing import EXTENSION
from ray_ext.cli.exits import INTERRUPTED
from ray_ext.cli.since import SINCE
from ray_ext.cli.verb import settings, verb

if TYPE_CHECKING:
    from ray_ext.control.log_reading import LogQuery, LogRecord

__all__ = ["command"]

_LEVELS = ("debug", "info", "warning", "error", "critical")
#: How many of the last records are printed where nothing says how many, or since when.
_LINES = 100


@verb(
    section="Look",
    examples=(
        "ray-ext logs github-triage",
        "ray-ext logs -f github-triage --since 5m --level warning",
        "ray-ext logs --system -n 20",
        "ray-ext logs --since 2026-01-31T12:00 --json",
    ),
)
@click.argument("extensions", metavar="[EXTENSION]...", nargs=-1, type=EXTENSION)
@click.option("--system", "has_system", is_flag=True, help="What the runtime's own actors logged.")
@click.option("-f", "--follow", "is_following", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--since", type=SINCE, metavar="5m|2h|TIME", help="Nothing older: so long ago, or an ISO 8601 time.")
@click.option("--level", type=click.Choice(_LEVELS), default="debug", show_default=True, help="This level and above.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    help=f"At most so many of those there are, the last ones.  [default: {_LINES}; all with --since]",
)
def command(
    extensions: tuple[str, ...],
    has_system: bool,
    is_following: bool,
    since: float | None,
    level: str,
    lines: int | None,
) -> None:
    """Print what extensions and the runtime logged.

    Without EXTENSION and --system: everything, in the order of time. Works without a running runtime.
    """
    from ray_ext.control.log_reading import LogQuery

    query = LogQuery(
        extensions=extensions,
        has_system=has_system,
        since=since,
        level=level,
        lines=_LINES if lines is None and since is None else lines,
    )
    try:
        _print(_far(query, is_following) if _is_far() else _near(query, is_following))
    except KeyboardInterrupt:
        if not is_following:
            raise
        # That is how following ends: nothing to be said.
        raise click.exceptions.Exit(INTERRUPTED) from None


def _print(batches: Iterator[list[LogRecord]]) -> None:
    import sys

    from ray_ext.cli.log_printing import is_coloured_output, json_line, record_text

    is_coloured, is_json = is_coloured_output(), settings().as_json
    for records in batches:
        for record in records:
            sys.stdout.write((json_line(record) if is_json else record_text(record, is_coloured=is_coloured)) + "\n")
        if records:
            sys.stdout.flush()


def _near(query: LogQuery, is_following: bool) -> Iterator[list[LogRecord]]:
    """From the files of the state home."""
    from ray_ext.cli.output import note
    from ray_ext.control.log_reading import LogReader, follow, known_logs
    from ray_ext.home import Home

    home = Home.default()
    has_all = {*query.extensions} <= {*known_logs(home)}
    reader = LogReader(home, query, expected=() if has_all or not is_following else _installed())
    if not is_following:
        yield list(reader.past())
        reader.close()
    else:
        for records in follow(reader):
            yield records
            if not records and _is_reader_gone():
                raise BrokenPipeError
    if reader.damaged:
        note("1 damaged line was left out" if reader.damaged == 1 else f"{reader.damaged} damaged lines were left out")


def _far(query: LogQuery, is_following: bool) -> Iterator[list[LogRecord]]:
    """From a runtime elsewhere. It knows one extension, or everything: what is asked in between is chosen here."""
    from collections import deque

    from ray_ext.control.log_reading import matches, parse_record
    from ray_ext.control.remote import remote_runtime

    is_whole = not query.extensions and not query.has_system
    alone = query.extensions[0] if len(query.extensions) == 1 and not query.has_system else None
    is_exact = is_whole or alone is not None or is_following
    with remote_runtime() as runtime:
        lines = runtime.logs(
            alone,
            since=query.since,
            level=query.level,
            lines=query.lines if is_exact else None,
            is_following=is_following,
        )
        records = (record for line in lines if (record := parse_record(line)) is not None and matches(query, record))
        if not is_exact:
            yield list(deque(records, query.lines))
        for record in records:
            yield [record]


def _is_far() -> bool:
    import os

    return bool(os.environ.get("RAY_EXT_CONTROL"))


def _installed() -> list[str]:
    """What may have a log one day: the installed extensions, where a runtime is up to tell."""
    from ray_ext.control.remote import remote_runtime
    from ray_ext.errors import RayExtError

    try:
        with remote_runtime() as runtime:
            return [each.id for each in runtime.list()]
    except RayExtError:  # down: then nothing new comes, and there is what was logged
        return []


def _is_reader_gone() -> bool:
    """Whether the program at the other end of our output has ended, as ``head`` does."""
    import select
    import sys

    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
