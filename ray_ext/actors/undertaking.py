"""One operation from its arrival to its end, and how clients see it, now and from the store."""

from __future__ import annotations

import asyncio
import time
from enum import Enum

from ray_ext.actors.progress import Progress
from ray_ext.actors.steps import DONE, RecordedPlan, Run
from ray_ext.control.commands import Command
from ray_ext.control.views import ErrorView, OperationView
from ray_ext.errors import Detail, OperationCancelled, OperationConflict, RayExtError
from ray_ext.resolve.plans import Step
from ray_ext.store.operations import operation_of
from ray_ext.store.store import AuditEntry, Operation

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "Phase",
    "Undertaking",
    "error_parts",
    "other_operation",
    "short",
    "view_of_attempt",
    "view_of_entry",
]

#: The outcomes of operations that came to nothing, as the store records them.
FAILED, INTERRUPTED = "failed", "interrupted"


class Phase(Enum):
    """Where an undertaking is; it can be cancelled in the first three."""

    WAITING = "waiting"
    PLANNING = "planning"
    WORKING = "working"
    ENDING = "ending"
    OVER = "over"


class Undertaking:
    """An operation that was asked for; kept a while after its end. Belongs to an event loop.

    ``task`` carries it out, ``step`` is the step at work. ``run`` is None until its first step. ``is_unfounded``: its
    id stands for another operation.
    """

    task: asyncio.Task[str]

    def __init__(self, command: Command, operation: str, progress: Progress) -> None:
        self.operation = operation
        self.verb = command.verb
        self.subject = command.extension
        self.actor = command.actor
        self.progress = progress
        self.phase = Phase.WAITING
        self.is_cancelled = False
        self.is_unfounded = False
        self.step: asyncio.Task[None] | None = None
        self.run: Run | None = None
        self.error: RayExtError | None = None
        self._asked = command.extension
        # Not the package itself: this outlives the command.
        self._package = None if command.wheel is None else hash(command.wheel)
        self._created_at = time.time()

    def refuse_other(self, command: Command) -> None:
        """Raise OperationConflict if the command is not the one that this was undertaken for."""
        package = None if command.wheel is None else hash(command.wheel)
        if (command.verb, command.extension, package) != (self.verb, self._asked, self._package):
            raise other_operation(self.operation, f"{self.verb} {self.subject or 'a package'}")

    def cancel(self) -> None:
        """Let it come to nothing, if it can still be cancelled."""
        if self.phase in {Phase.ENDING, Phase.OVER}:
            return
        self.is_cancelled = True
        if self.phase is Phase.WAITING:
            self.task.cancel()
        elif self.step is not None:
            self.step.cancel()

    def refuse_when_cancelled(self) -> None:
        """Raise OperationCancelled once :meth:`cancel` was called."""
        if self.is_cancelled:
            raise OperationCancelled(
                f"{self.verb} {self.subject or 'of a package'} was cancelled",
                fix="nothing: everything is as it was before; to have it after all, ask for it anew",
                details={"step": None, "undone": None},
            )

    @property
    def view(self) -> OperationView:
        """As it is now."""
        steps = () if self.run is None else self.run.plan.steps
        is_over = self.phase is Phase.OVER
        return OperationView(
            id=self.operation,
            verb=self.verb,
            extension=self.subject,
            state="running" if not is_over else "done" if self.error is None else "failed",
            steps=[short(step) for step in steps],
            step=0 if self.run is None else len(self.run.done),
            error=None if self.error is None or not is_over else _error_view(*error_parts(self.error)),
            created_at=self._created_at,
            updated_at=self.progress.updated_at,
        )


def view_of_attempt(attempt: Operation) -> OperationView:
    """What the store tells of an operation that nobody is carrying out."""
    state, error = attempt.outcome, None
    if state is None:
        # It failed and could not be undone, or it would be in hand.
        state, error = (
            FAILED,
            ErrorView(
                code="operation-failed",
                what=f"{attempt.verb} {attempt.subject} failed and could not be undone yet",
                fix="see to what kept it from being undone: the next operation, or start of the runtime, tries again",
            ),
        )
    elif state == FAILED:
        error = _error_view(*attempt.detail["error"])
    assert state in (DONE, FAILED, INTERRUPTED), "the store has no other outcomes"
    return OperationView(
        id=operation_of(attempt.operation),
        verb=attempt.verb,
        extension=attempt.subject,
        state=state,  # type: ignore[arg-type]  # mypy does not narrow a str to literals
        steps=[short(step) for step in RecordedPlan.of(attempt).steps],
        step=attempt.step,
        error=error,
        created_at=attempt.created_at,
        updated_at=attempt.updated_at,
    )


def view_of_entry(entry: AuditEntry) -> OperationView:
    """What the audit tells of an operation that was cancelled before its first step."""
    return OperationView(
        id=entry.operation or "",
        verb=entry.verb,
        extension=entry.extension or "",
        state="failed",
        error=_error_view(*entry.detail["error"]),
        created_at=entry.at,
        updated_at=entry.at,
    )


def short(step: Step) -> str:
    """A step in a few words."""
    return f"{step.kind} {step.extension} {step.version}"


def error_parts(error: RayExtError) -> tuple[str, str, str, str, dict[str, Detail]]:
    """What :func:`ray_ext.errors.error_from_parts` makes the error of."""
    return error.code, error.what, error.where, error.fix, error.details


def other_operation(operation: str, known: str) -> OperationConflict:
    """The error of an id that stands for something else."""
    return OperationConflict(
        f"operation {operation} is known already: {known}",
        fix="give every operation an id of its own",
        details={"running": None},
    )


def _error_view(code: str, what: str, where: str, fix: str, details: dict[str, Detail]) -> ErrorView:
    return ErrorView(code=code, what=what, where=where, fix=fix, details=details)
