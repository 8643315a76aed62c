"""``ray-ext``: the entry point. The verbs are the files of :mod:`ray_ext.cli.verbs`.

Nothing of weight is imported before :func:`run`: whoever calls from a shell waits for every import.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import NoReturn

__all__ = ["main", "run"]


def main() -> NoReturn:
    """Run the command line and end the process."""
    try:
        status = run()
    except KeyboardInterrupt:  # before there was anything to interrupt, or while an error was printed
        status = 130
    if "ray" in sys.modules:
        sys.exit(status)
    # Everything is printed and closed. What Python would still take down takes it a tenth of a short command's time.
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def run() -> int:
    """Run the command line; the exit status, one of :mod:`ray_ext.cli.exits`."""
    # What is imported stays: looking through it for garbage is a tenth of a short command's time.
    gc.disable()
    import click

    from ray_ext.cli.exits import FAILED, INTERRUPTED, OK, Interrupted, status_of
    from ray_ext.cli.group import ReaderGone, ray_ext_cli
    from ray_ext.cli.output import print_error, print_interrupted, print_usage_error
    from ray_ext.errors import RayExtError

    gc.freeze()
    gc.enable()
    as_json = _asks_for_json(sys.argv[1:])
    try:
        # The verbs return nothing; what click returns is the status of one that ended by Exit.
        status = ray_ext_cli.main(prog_name="ray-ext", standalone_mode=False) or OK
        sys.stdout.flush()
        return status
    except click.ClickException as error:
        print_usage_error(error, as_json=as_json)
        return error.exit_code
    except Interrupted as error:
        print_interrupted(error, as_json=as_json)
        return INTERRUPTED
    except (click.Abort, KeyboardInterrupt):
        print_interrupted(Interrupted("Interrupted."), as_json=as_json)
        return INTERRUPTED
    except RayExtError as error:
        print_error(error, as_json=as_json)
        return status_of(error)
    except (ReaderGone, BrokenPipeError):
        # The reader of our output is gone (`ray-ext logs … | head`): nothing is wrong, and nothing can be said. What
        # Python still flushes at its end must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:  # a full disk below standard output, say; what verbs read and write they see to themselves
        print_usage_error(
            click.ClickException(f"{error.filename or 'standard output'}: {error.strerror}"), as_json=as_json
        )
        return FAILED


def _asks_for_json(arguments: list[str]) -> bool:
    """Whether ``--json`` is an option among these: wrong usage has to be told before they can be parsed."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return "--json" in arguments[:end]


if __name__ == "__main__":
    main()
