"""``ray-ext``: the entry point. The verbs are the files of :mod:`ray_ext.cli.verbs`."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys

import click

import ray_ext
from ray_ext.cli import verbs
from ray_ext.cli.exits import INTERRUPTED, OK, status_of
from ray_ext.cli.output import print_error
from ray_ext.cli.verb import SECTIONS, Verb, VerbGroup
from ray_ext.errors import RayExtError

__all__ = ["main"]


class _Verbs(click.Group):
    """Imports a verb when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        loaded = [_load(name) for name in _names()]
        return [str(each.name) for each in sorted(loaded, key=lambda each: (SECTIONS.index(each.section), each.name))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _names():
            return _load(cmd_name)
        return next((each for each in map(_load, _names()) if cmd_name in each.aliases), None)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        loaded = [_load(name) for name in self.list_commands(ctx)]
        for section in SECTIONS:
            rows = [
                (", ".join([str(each.name), *each.aliases]), each.get_short_help_str(limit=80))
                for each in loaded
                if each.section == section
            ]
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows)


def _names() -> list[str]:
    return [each.name.replace("_", "-") for each in pkgutil.iter_modules(verbs.__path__)]


def _load(name: str) -> Verb | VerbGroup:
    command: Verb | VerbGroup = importlib.import_module(f"{verbs.__name__}.{name.replace('-', '_')}").command
    return command


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(ray_ext.__version__, "--version", prog_name="ray-ext")
def _cli() -> None:
    """Run extensions on Ray: install, load, call and watch them.

    \b
    ray-ext up
    ray-ext install ./github-triage
    ray-ext call github-triage triage '{"title": "Crash", "body": "..."}'
    ray-ext down

    The state home is RAY_EXT_HOME, or the user's data folder. Data goes to standard output, everything else to standard
    error. Exit status: 0 ok, 1 failed, 2 wrong usage, 3 not valid, 4 denied, 5 unreachable, 6 not in time.
    """


def main() -> None:
    """Run the command line and exit; the statuses are those of :mod:`ray_ext.cli.exits`."""
    try:
        # The verbs return nothing; what click returns is the status of one that ended by Exit.
        sys.exit(_cli.main(prog_name="ray-ext", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(INTERRUPTED)
    except RayExtError as error:
        print_error(error, as_json="--json" in sys.argv)
        sys.exit(status_of(error))
    except BrokenPipeError:
        # The reader of our output is gone (`ray-ext logs … | head`): nothing is wrong, and nothing can be said. What
        # Python still flushes at its end must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(OK)


if __name__ == "__main__":
    main()
