"""``operations``: what was asked for, what became of it, and how to end it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ray_ext.cli.exits import Interrupted
from ray_ext.cli.output import answer, note, print_table, time_text
from ray_ext.cli.verb import subverb, verb_group

if TYPE_CHECKING:
    from ray_ext.control.remote import RemoteRuntime
    from ray_ext.control.views import OperationView

__all__ = ["command"]


@verb_group(section="Look", examples=("ray-ext operations list", "ray-ext operations wait 5e1c0a9b27d34f68"))
def command() -> None:
    """Operations: installs, loads, upgrades and so on, at work or over.

    An operation goes on when the command that began it is gone. Its id is in its errors and in the list.
    """


@subverb(command, "list", examples=("ray-ext operations list --limit 5",))
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, at most.")
def _list(limit: int) -> None:
    """List the last operations, the newest first."""
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime:
        views = runtime.operations(limit)

    def text() -> None:
        if not views:
            note("There was no operation yet.")
        print_table(
            ("id", "verb", "extension", "state", "step", "begun"),
            [(v.id, v.verb, v.extension, v.state, _step_text(v), time_text(v.created_at)) for v in views],
        )

    answer("operations", views, text)


@subverb(command, "show", examples=("ray-ext operations show 5e1c0a9b27d34f68",))
@click.argument("operation")
def _show(operation: str) -> None:
    """Show one operation: its steps, how far it is, and why it failed."""
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime:
        view = runtime.operation(operation)
    answer("operation", view, lambda: _print(view))


@subverb(command, "wait", examples=("ray-ext operations wait 5e1c0a9b27d34f68",))
@click.argument("operation")
def _wait(operation: str) -> None:
    """Wait for an operation's end and show what it does meanwhile; its end is this command's.

    Ctrl-C ends the waiting alone.
    """
    from ray_ext.cli.progress import how_to_see
    from ray_ext.control.following import failure_of
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime:
        try:
            view = _follow(runtime, operation, "Waiting")
        except KeyboardInterrupt:
            raise Interrupted(
                f"The operation goes on. {how_to_see(operation)}", details={"operation": operation}
            ) from None
    if view.state != "done":
        raise failure_of(view)
    answer("operation", view, lambda: note(f"Done: {view.verb} {view.extension}."))


@subverb(command, "cancel", examples=("ray-ext operations cancel 5e1c0a9b27d34f68",))
@click.argument("operation")
def _cancel(operation: str) -> None:
    """End an operation that is at work; what it did is undone. Waits until it is."""
    from ray_ext.cli.progress import undone_text
    from ray_ext.control.remote import remote_runtime

    with remote_runtime() as runtime:
        was_running = runtime.operation(operation).state == "running"
        view = runtime.cancel(operation)
        if view.state == "running":
            view = _follow(runtime, operation, "Cancelling")

    def text() -> None:
        if was_running and view.error is not None and view.error.code == "operation-cancelled":
            note(f"Cancelled: {undone_text(view)}.")
        else:
            note(f"Nothing to cancel: {view.verb} {view.extension} is over ({view.state}).")

    answer("operation", view, text)


def _follow(runtime: RemoteRuntime, operation: str, doing: str) -> OperationView:
    from ray_ext.cli.progress import display

    shown = display(doing)
    is_done = False
    try:
        view = runtime.follow(operation, shown.tell)
        is_done = view.state == "done"
        return view
    finally:
        shown.end(is_done=is_done)


def _print(view: OperationView) -> None:
    rows = [
        ("id", view.id),
        ("verb", view.verb),
        ("extension", view.extension),
        ("state", view.state),
        ("step", _step_text(view)),
        ("begun", time_text(view.created_at)),
        ("changed", time_text(view.updated_at)),
    ]
    if view.error is not None:
        rows += [("error", f"{view.error.what} [{view.error.code}]"), ("fix", view.error.fix)]
    print_table(("what", "value"), [row for row in rows if row[1]])
    if view.steps:
        click.echo()
        marks = ["done" if number < view.step else "" for number in range(len(view.steps))]
        print_table(("step", ""), list(zip(view.steps, marks, strict=True)))


def _step_text(view: OperationView) -> str:
    return f"{view.step}/{len(view.steps)}" if view.steps else ""
