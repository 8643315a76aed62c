"""An operation while it is at work: what it does is shown as it happens, and Ctrl-C cancels it.

On a terminal the current step has a spinner and the steps done stay; elsewhere each is a line.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from ray_ext.cli.exits import Interrupted
from ray_ext.cli.output import is_terminal, note, printable
from ray_ext.cli.verb import settings
from ray_ext.errors import OperationNotFound, RuntimeUnreachable

if TYPE_CHECKING:
    from rich.text import Text

    from ray_ext.control.remote import RemoteRuntime
    from ray_ext.control.views import OperationView

__all__ = ["Watch", "display", "how_to_see", "undone_text"]


class Display(Protocol):
    """Where an operation's news are shown."""

    def tell(self, text: str) -> None:
        """Show a line of its news: a step begins with ``[number/of]``."""

    def end(self, *, is_done: bool) -> None:
        """It is over; the step at work is done, or has failed."""


def display(doing: str) -> Display:
    """The one that fits what standard error is; ``doing`` is shown before there is any news."""
    if settings().as_json or not is_terminal(sys.stderr):
        return _Lines()
    return _Live(doing)


class _Lines:
    def tell(self, text: str) -> None:
        note(text)

    def end(self, *, is_done: bool) -> None:
        pass


class _Live:
    def __init__(self, doing: str) -> None:
        from rich.console import Console
        from rich.text import Text

        self._text = Text
        self._console = Console(stderr=True, highlight=False)
        is_unicode = "utf" in self._console.encoding.lower()
        self._marks = ("✓", "✗", "↩") if is_unicode else ("+", "x", "<")
        self._step = ""
        self._status = self._console.status(self._line(f"{doing} …"), spinner="dots" if is_unicode else "line")
        self._status.start()

    def tell(self, text: str) -> None:
        text = printable(text)
        if text.startswith("["):
            self._status.update(self._line(text))
            self._settle(is_done=True)
            self._step = text
        elif text.startswith("undone"):
            self._status.update(self._line("undoing …"))
            self._settle(is_done=False)
            self._print(2, text, "yellow")
        else:
            self._status.update(self._line(f"{self._step or '…'} ({text})"))

    def end(self, *, is_done: bool) -> None:
        self._settle(is_done=is_done)
        self._status.stop()

    def _settle(self, *, is_done: bool) -> None:
        if self._step:
            self._print(0 if is_done else 1, self._step, "green" if is_done else "red")
            self._step = ""

    def _print(self, mark: int, text: str, colour: str) -> None:
        self._console.print(self._text.assemble((self._marks[mark], colour), " ", text), soft_wrap=True)

    def _line(self, text: str) -> Text:
        return self._text(text, no_wrap=True, overflow="ellipsis")


class Watch:
    """A verb's operation: ``with Watch(runtime, "Installing") as watch: runtime.install(…, **watch.hooks)``.

    Ctrl-C cancels it and waits for its end; a second Ctrl-C leaves it alone. Both raise :class:`Interrupted`.
    """

    def __init__(self, runtime: RemoteRuntime, doing: str) -> None:
        self._runtime = runtime
        self._doing = doing
        self._operation = ""
        self._told: set[str] = set()

    def begin(self, operation: str) -> None:
        """The operation has this id."""
        self._operation = operation

    def tell(self, text: str) -> None:
        """Show what is told, once: who joins again is told all of it again."""
        if text not in self._told:
            self._told.add(text)
            self._display.tell(text)

    def __enter__(self) -> Self:
        self._display = display(self._doing)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._cancel()
        self._display.end(is_done=error is None)
        if isinstance(error, RuntimeUnreachable) and self._operation:
            raise _lost(error, self._operation) from error

    def _cancel(self) -> None:
        """Always raises."""
        operation = self._operation
        if not operation:
            self._display.end(is_done=False)
            raise Interrupted("Interrupted: nothing was begun.")
        is_done = False
        try:
            self._display.tell("cancelling; Ctrl-C again leaves at once")
            view = self._runtime.cancel(operation)
            if view.state == "running":
                view = self._runtime.follow(operation, self.tell)
            is_done = view.state == "done"
        except KeyboardInterrupt:
            raise Interrupted(
                f"Left. The operation goes on until it is done or undone. {how_to_see(operation)}",
                details={"operation": operation},
            ) from None
        except OperationNotFound:
            raise Interrupted("Interrupted: nothing was begun.") from None
        except RuntimeUnreachable as error:
            raise _lost(error, operation) from error
        finally:
            self._display.end(is_done=is_done)
        raise _interruption(view)


def _interruption(view: OperationView) -> Exception:
    if view.state == "done":
        return Interrupted("Not cancelled: the operation was done before.", details={"operation": view.id})
    if view.error is not None and view.error.code != "operation-cancelled":
        from ray_ext.control.following import failure_of

        return failure_of(view)
    details = {} if view.error is None else view.error.details
    return Interrupted(
        f"Cancelled: {undone_text(view)}.",
        code="operation-cancelled",
        details={**details, "operation": view.id},
    )


def undone_text(view: OperationView) -> str:
    """What was undone of an operation that was cancelled, in words."""
    undone = None if view.error is None else view.error.details.get("undone")
    return str(undone) if undone else "nothing had been changed"


def how_to_see(operation: str) -> str:
    """How somebody who does not wait any more finds out how it ended."""
    return f"How it ends: ray-ext operations wait {operation}"


def _lost(error: RuntimeUnreachable, operation: str) -> RuntimeUnreachable:
    """The same error, with how to find out what became of the operation."""
    return RuntimeUnreachable(
        f"{error.what}; what became of the operation is not known",
        where=error.where,
        fix=f"start the runtime if it is down (ray-ext up), then see how it ended: ray-ext operations wait {operation}",
        details={**error.details, "operation": operation},
    )
