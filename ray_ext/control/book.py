"""The operations in flight, as the control API knows them: one task for each, and for a while how it ended.

The registry carries operations out and remembers them. What it does not remember is here: what was refused before it
began, and what has not reached it yet.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from ray_ext.control.backend import Backend
from ray_ext.control.commands import Command
from ray_ext.control.requests import CommandRequest
from ray_ext.control.views import ErrorView, ExtensionView, OperationView
from ray_ext.errors import OperationConflict, RayExtError, RuntimeUnreachable

__all__ = ["KEPT_S", "Book", "Entry"]

_log = logging.getLogger(__name__)

#: How long after its end an operation's outcome is kept here, in seconds.
KEPT_S = 600.0


class Entry:
    """One operation that was sent here, at work or over. ``error`` is why it failed."""

    def __init__(self, operation: str, request: CommandRequest) -> None:
        self.operation = operation
        self.verb = request.verb
        self.extension = request.extension
        self.package = request.package
        self.error: RayExtError | None = None
        self.created_at = self.updated_at = time.time()
        self.task: asyncio.Task[ExtensionView | None] | None = None
        #: Set at its end.
        self.over = asyncio.Event()

    @property
    def is_lost(self) -> bool:
        """Whether it is over without an outcome, so that sending it again tries again."""
        return isinstance(self.error, RuntimeUnreachable)

    @property
    def view(self) -> OperationView:
        """All that is known here."""
        error = self.error
        return OperationView(
            id=self.operation,
            verb=self.verb,
            extension=self.extension,
            state="running" if not self.over.is_set() else "done" if error is None else "failed",
            error=None
            if error is None
            else ErrorView(
                code=error.code, what=error.what, where=error.where, fix=error.fix, details=dict(error.details)
            ),
            created_at=self.created_at,
            updated_at=self.updated_at,
        )


class Book:
    """Belongs to an event loop. ``kept_s`` is how long outcomes are kept."""

    def __init__(self, backend: Backend, *, kept_s: float = KEPT_S) -> None:
        self._backend = backend
        self._kept_s = kept_s
        self._entries: dict[str, Entry] = {}

    def entry(self, operation: str) -> Entry | None:
        """The operation, if it was sent here."""
        return self._entries.get(operation)

    def entry_for(self, operation: str, request: CommandRequest) -> Entry | None:
        """The same, unless sending it again tries again; raises OperationConflict where the id stands for another."""
        entry = self._entries.get(operation)
        if entry is None or entry.is_lost:
            return None
        if (entry.verb, entry.extension, entry.package) != (request.verb, request.extension, request.package):
            raise other_operation(operation, entry.verb, entry.extension)
        return entry

    def begin(self, operation: str, request: CommandRequest, make_command: Callable[[], Command]) -> Entry:
        """Have it carried out; it goes on whoever is there to see it."""
        entry = Entry(operation, request)
        self._entries[operation] = entry
        entry.task = asyncio.create_task(self._perform(entry, make_command()), name=f"operation {operation}")
        # Its error is in the entry.
        entry.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return entry

    async def view(self, operation: str) -> OperationView | None:
        """How it stands; None where nobody knows it."""
        entry = self._entries.get(operation)
        if entry is not None and entry.error is not None:
            return await self._failed(entry)
        known = await self._known(operation, entry)
        # It may have ended meanwhile.
        if entry is None:
            return known
        if entry.error is not None:
            return await self._failed(entry)
        if known is None or known.state == "interrupted":
            return entry.view
        return known

    async def _known(self, operation: str, entry: Entry | None) -> OperationView | None:
        """What the registry knows of it; nothing if it stays away, where the book can tell something by itself."""
        try:
            return await self._backend.operation(operation)
        except RayExtError:
            if entry is None:
                raise
            return None

    async def _failed(self, entry: Entry) -> OperationView:
        """What failed before it began is known here alone; of the rest the registry knows the steps."""
        if entry.is_lost:
            return entry.view
        known = await self._known(entry.operation, entry)
        return entry.view if known is None or known.state != "failed" else known

    async def _perform(self, entry: Entry, command: Command) -> ExtensionView | None:
        try:
            return await self._backend.perform(command, entry.operation)
        except RayExtError as error:
            entry.error = error
            raise
        except asyncio.CancelledError:
            entry.error = RuntimeUnreachable("the control API ended while it waited", fix="send it again")
            raise
        except Exception as error:
            _log.exception("operation %s failed", entry.operation)
            entry.error = RayExtError(f"the runtime failed: {type(error).__name__}: {error}")
            raise
        finally:
            entry.updated_at = time.time()
            entry.over.set()
            asyncio.get_running_loop().call_later(self._kept_s, self._forget, entry)

    def _forget(self, entry: Entry) -> None:
        if self._entries.get(entry.operation) is entry:
            del self._entries[entry.operation]


def other_operation(operation: str, verb: str, extension: str) -> OperationConflict:
    """The id stands for something else."""
    return OperationConflict(
        f"operation {operation} is known already: {verb} {extension or 'of a package'}",
        fix="give every operation an id of its own",
        details={"running": None},
    )
