"""``ray-ext``: the entry point, and the table of verbs."""

from __future__ import annotations

import importlib
import sys

import click

import ray_ext
from ray_ext.errors import RayExtError

__all__ = ["main"]

#: Each verb and the module that holds it; a module is imported when its verb is used.
_VERBS = {
    "up": "lifecycle",
    "down": "lifecycle",
    "status": "lifecycle",
    "discover": "discovery",
    "plan": "plans",
    "install": "changes",
    "load": "changes",
    "unload": "changes",
    "upgrade": "changes",
    "remove": "changes",
    "list": "extensions",
    "show": "extensions",
    "call": "calls",
    "logs": "logs",
    "register": "releases",
    "releases": "releases",
    "yank": "releases",
    "forget": "releases",
    "audit": "upkeep",
    "gc": "upkeep",
    "schema": "schema",
}
_ALIASES = {"ls": "list", "rm": "remove"}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = _ALIASES.get(cmd_name, cmd_name)
        module = _VERBS.get(verb)
        if module is None:
            return None
        command: click.Command = getattr(importlib.import_module(f"ray_ext.cli.{module}"), f"{verb}_command")
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(ray_ext.__version__, "--version", prog_name="ray-ext")
def _cli() -> None:
    """Run extensions on Ray: install, load, call and watch them.

    \b
    ray-ext up
    ray-ext install ./github-triage --config '{"webhook_secret": "..."}'
    ray-ext call github-triage triage '{"title": "Crash", "body": "..."}'
    ray-ext down

    `ls` is short for `list`, `rm` for `remove`. The state home is RAY_EXT_HOME, or the user's data folder.
    """


def main() -> None:
    """Run the command line; exit status 0 ok, 1 failed, 2 wrong usage."""
    try:
        # The verbs return nothing; what click returns is the status of one that ended by Exit.
        sys.exit(_cli.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Aborted.", err=True)
        sys.exit(130)
    except RayExtError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of our output is gone (`ray-ext logs … | head`): nothing is wrong, and nothing can be said.
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
