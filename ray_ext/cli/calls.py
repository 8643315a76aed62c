"""``call``."""

from __future__ import annotations

import asyncio
import json

import click
import msgspec

from ray_ext.cli.joining import join_runtime
from ray_ext.cli.options import read_json
from ray_ext.cli.output import json_option, print_json

__all__ = ["call_command"]


@click.command("call")
@click.argument("extension")
@click.argument("method")
@click.argument("arguments", required=False)
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Deadline."
)
@json_option
def call_command(extension: str, method: str, arguments: str | None, timeout_s: float | None, as_json: bool) -> None:
    """Call an exported method and print its result as JSON.

    ARGUMENTS is a JSON object (by name) or array (by position); @FILE and - are taken, too.

    \b
    ray-ext call github-triage triage '{"title": "Crash", "body": "It fails"}'
    ray-ext call github-triage triage '["Crash", "It fails"]'
    """
    given = {} if arguments is None else read_json(arguments, "ARGUMENTS")
    args = given if isinstance(given, list) else []
    kwargs = given if isinstance(given, dict) else {}
    if not isinstance(given, (list, dict)):
        raise click.UsageError("ARGUMENTS is neither a JSON object nor an array")

    async def run() -> object:
        handle = runtime.extension(extension)
        return await getattr(handle, method).options(timeout_s=timeout_s)(*args, **kwargs)

    with join_runtime() as runtime:
        result = asyncio.run(run())
    if as_json:
        print_json("result", result)
    else:
        click.echo(json.dumps(json.loads(msgspec.json.encode(result)), indent=2, ensure_ascii=False))
