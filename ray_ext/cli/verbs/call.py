"""``call``."""

from __future__ import annotations

import click

from ray_ext.cli.completing import EXTENSION, METHOD
from ray_ext.cli.exits import Interrupted
from ray_ext.cli.json_argument import read_json
from ray_ext.cli.output import answer
from ray_ext.cli.verb import verb

__all__ = ["command"]


@verb(
    section="Look",
    examples=(
        'ray-ext call github-triage triage \'{"title": "Crash", "body": "It fails"}\'',
        'ray-ext call github-triage triage \'["Crash", "It fails"]\' --timeout 5',
        "ray-ext call github-triage triage @arguments.json",
    ),
)
@click.argument("extension", type=EXTENSION)
@click.argument("method", type=METHOD)
@click.argument("arguments", required=False)
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Deadline."
)
def command(extension: str, method: str, arguments: str | None, timeout_s: float | None) -> None:
    """Call an exported method and print its result as JSON.

    ARGUMENTS is a JSON object (by name) or array (by position); @FILE and - are taken, too. Ctrl-C cancels the call.
    """
    given = {} if arguments is None else read_json(arguments, "ARGUMENTS")
    args = given if isinstance(given, list) else []
    kwargs = given if isinstance(given, dict) else {}
    if not isinstance(given, (list, dict)):
        raise click.UsageError("ARGUMENTS is neither a JSON object nor an array")
    import json

    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime:
        try:
            result = json.loads(runtime.call(extension, method, args, kwargs, timeout_s))
        except KeyboardInterrupt:
            # The connection is closed by now, which is how control is told.
            raise Interrupted(f"Cancelled: the call of {extension}.{method}.", code="call-cancelled") from None
    answer("result", result, lambda: click.echo(json.dumps(result, indent=2, ensure_ascii=False)))
