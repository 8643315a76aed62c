"""Operations: a plan's steps, carried out one after the other; undone when one of them fails, or the registry dies.

One operation at a time. Before its first step the store has its plan and a snapshot of what it will change; an
operation that is found unfinished is undone before anything else happens.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
from collections.abc import Coroutine
from typing import Any

from ray_ext.actors.fleet import Fleet
from ray_ext.actors.planner import Planner, Prepared
from ray_ext.actors.progress import Progress
from ray_ext.actors.steps import DONE, Blocking, RecordedPlan, Run, Steps
from ray_ext.actors.turns import Turns
from ray_ext.actors.undertaking import (
    FAILED,
    INTERRUPTED,
    Phase,
    Undertaking,
    error_parts,
    other_operation,
    short,
    view_of_attempt,
    view_of_entry,
)
from ray_ext.control.commands import Command
from ray_ext.control.views import News, OperationView
from ray_ext.errors import OperationCancelled, OperationFailed, RayExtError, error_from_parts
from ray_ext.resolve.plans import Step, StepKind
from ray_ext.store.operations import attempt_name
from ray_ext.store.store import AuditEntry, Operation, Store

__all__ = ["Operations"]

_log = logging.getLogger(__name__)

#: How long after its end an operation's news can be asked for, in seconds.
_KEPT_S = 60.0
#: How long an operation that its registry left unfinished is expected to be sent again, in seconds.
_SENT_AGAIN_S = 5.0


class Operations:
    """Belongs to the registry's event loop."""

    def __init__(
        self, store: Store, planner: Planner, steps: Steps, fleet: Fleet, turns: Turns, blocking: Blocking
    ) -> None:
        self._store = store
        self._planner = planner
        self._steps = steps
        self._fleet = fleet
        self._turns = turns
        self._blocking = blocking
        #: By their ids, also for a while after their ends.
        self._undertakings: dict[str, Undertaking] = {}
        self._working: Undertaking | None = None
        self._begun = asyncio.Event()

    async def prepare(self, command: Command) -> Prepared:
        """The plan for a command, as of now; nothing is changed."""
        prepared: Prepared = await self._blocking(self._planner.prepare, command, self._fleet.live())
        return prepared

    async def perform(self, command: Command, operation: str) -> str:
        """Carry a command out, once for each ``operation``; returns the extension's id.

        Raises what refused it, and what a step raised: then everything is as before, and the error says what was
        undone. An operation that is sent again has the same end. It goes on when nobody waits for it any more.
        Raises OperationConflict where the id stands for something else.
        """
        undertaking = self._undertakings.get(operation)
        if undertaking is not None:
            undertaking.refuse_other(command)
        if undertaking is None or (undertaking.phase is Phase.OVER and undertaking.run is not None):
            undertaking = self._undertake(command, operation)
        return await asyncio.shield(undertaking.task)

    def _undertake(self, command: Command, operation: str) -> Undertaking:
        undertaking = Undertaking(command, operation, Progress(self._store.writer_epoch))
        self._undertakings[operation] = undertaking
        # In a context of its own: in the caller's, Ray would cancel what the operation asks of hosts with the call.
        undertaking.task = asyncio.create_task(self._perform(command, undertaking), context=contextvars.Context())
        # Nobody may be waiting for it any more.
        undertaking.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        begun, self._begun = self._begun, asyncio.Event()
        begun.set()
        return undertaking

    # ---- what clients see

    async def view(self, operation: str) -> OperationView | None:
        """An operation that has begun or ended; None for one that is not known, or not any more."""
        undertaking = self._undertakings.get(operation)
        if undertaking is not None:
            return undertaking.view
        entry: AuditEntry | None = await self._blocking(self._store.audit_of, operation)
        if entry is not None:
            return view_of_entry(entry) if entry.outcome == FAILED else None
        attempt: Operation | None = await self._blocking(self._store.last_attempt, operation)
        return None if attempt is None else view_of_attempt(attempt)

    async def views(self, limit: int) -> list[OperationView]:
        """The last operations, the newest first."""
        views = {
            each.id: each for each in map(view_of_attempt, await self._blocking(self._store.list_last_attempts, limit))
        }
        views |= {each.operation: each.view for each in self._undertakings.values()}
        return sorted(views.values(), key=lambda view: view.created_at, reverse=True)[:limit]

    async def news(self, operation: str, after: str, wait_s: float) -> tuple[list[News], bool]:
        """What an operation has told since the news with the id ``after``, and whether that is all.

        One that is not known may still be sent; an interrupted one is over if it is not sent again in a few seconds.
        """
        undertaking = self._undertakings.get(operation)
        if undertaking is None:
            view = await self.view(operation)
            if view is not None and view.state != "interrupted":
                return [], True
            undertaking = await self._sent(operation, wait_s if view is None else _SENT_AGAIN_S)
            if undertaking is None:
                return [], view is not None
        progress = undertaking.progress
        return await progress.after(after, wait_s), progress.is_over

    async def _sent(self, operation: str, wait_s: float) -> Undertaking | None:
        try:
            async with asyncio.timeout(wait_s):
                while operation not in self._undertakings:
                    await self._begun.wait()
        except TimeoutError:
            return None
        return self._undertakings[operation]

    # ---- ending early

    async def cancel(self, operation: str) -> bool:
        """Let an operation come to nothing; returns when that is so, False where it has ended, or is ending, otherwise.

        What it has done is undone. Its end is an OperationCancelled, however often it is sent again.
        """
        undertaking = self._undertakings.get(operation)
        if undertaking is None:
            view = await self.view(operation)
            undertaking = self._undertakings.get(operation)
            if undertaking is None:
                if view is None or view.state != "interrupted":
                    return view is not None and view.error is not None and view.error.code == OperationCancelled.code
                # Whoever sends it again later must hear of it: from here to the store's queue there is no await.
                await self._record_cancelled(operation, "an operator", view.verb, view.extension)
                return True
        undertaking.cancel()
        await asyncio.wait({undertaking.task})
        return isinstance(undertaking.error, OperationCancelled)

    async def _record_cancelled(self, operation: str, actor: str, verb: str, subject: str) -> OperationCancelled:
        error = OperationCancelled(
            f"{verb} {subject or 'of a package'} was cancelled before its first step",
            fix="nothing: everything is as it was; to have it after all, ask for it anew",
            details={"step": None, "undone": None},
        )
        entry = AuditEntry(
            actor=actor,
            verb=verb,
            outcome=FAILED,
            operation=operation,
            extension=subject or None,
            detail={"error": list(error_parts(error))},
        )
        await self._blocking(self._store.record, entry)
        return error

    async def recover(self) -> set[str]:
        """After a start of the registry: undo in the store what the earlier one left unfinished, tidy up after it.

        Returns the extensions of which it may have started an instance that must not serve.
        """
        undone = await self._undo_unfinished()
        last: Operation | None = await self._blocking(self._store.last_operation)
        await self._steps.tidy(RecordedPlan.of(last).steps if last is not None and last.outcome == DONE else ())
        return undone

    async def close(self) -> None:
        """Begin nothing any more; what is at work is undone, and whoever waits for it is told."""
        self._turns.is_closing = True
        if self._working is not None and self._working.step is not None:
            self._working.step.cancel()
        await self._turns.close()

    # ---- from a command to its end

    async def _perform(self, command: Command, undertaking: Undertaking) -> str:
        what = f"{command.verb} {command.extension or 'an extension'}"
        try:
            async with self._turns.take(what, command.wait_s):
                undertaking.phase = Phase.PLANNING
                self._working = undertaking
                try:
                    subject = await self._carry_out(command, undertaking)
                finally:
                    self._working = None
        except asyncio.CancelledError:
            if not undertaking.is_cancelled:
                raise
            undertaking.error = await self._record_cancelled(
                undertaking.operation, undertaking.actor, undertaking.verb, undertaking.subject
            )
            raise undertaking.error from None
        except RayExtError as error:
            undertaking.error = error
            raise
        except Exception as error:
            undertaking.error = OperationFailed(f"{what} failed: {type(error).__name__}: {error}")
            raise
        finally:
            undertaking.phase = Phase.OVER
            undertaking.progress.end()
            kept_s = 0.0 if undertaking.is_unfounded else _KEPT_S
            asyncio.get_running_loop().call_later(kept_s, self._forget, undertaking)
        return subject

    def _forget(self, undertaking: Undertaking) -> None:
        if self._undertakings.get(undertaking.operation) is undertaking:
            del self._undertakings[undertaking.operation]

    async def _carry_out(self, command: Command, undertaking: Undertaking) -> str:
        if await self._blocking(self._store.unfinished_operations):
            # It could not be undone when it failed, for want of space say.
            await self._fleet.follow(await self._undo_unfinished())
        operation = undertaking.operation
        entry: AuditEntry | None = await self._blocking(self._store.audit_of, operation)
        if entry is not None:
            if (entry.verb, entry.outcome) != (command.verb, FAILED):
                undertaking.is_unfounded = True
                raise other_operation(operation, f"{entry.verb} {entry.extension or ''}".rstrip())
            raise error_from_parts(*entry.detail["error"])
        for attempt in itertools.count(1):
            name = attempt_name(operation, attempt)
            known: Operation | None = await self._blocking(self._store.operation, name)
            if known is None:
                break
            asked = await self._blocking(self._planner.subject, command)
            if (known.verb, known.subject) != (command.verb, asked):
                undertaking.is_unfounded = True
                raise other_operation(operation, f"{known.verb} {known.subject}")
            if known.outcome != INTERRUPTED:
                return _ended(known)
        prepared = await self.prepare(command)
        self._turns.holder = f"{command.verb} {prepared.subject}"
        undertaking.subject = prepared.subject
        if undertaking.is_cancelled:
            raise asyncio.CancelledError
        if prepared.plan.steps:
            undertaking.run = Run(prepared, await self._begin(prepared, name), undertaking.progress)
            undertaking.phase = Phase.WORKING
            await self._run(undertaking, undertaking.run)
        undertaking.phase = Phase.ENDING
        return prepared.subject

    async def _begin(self, prepared: Prepared, name: str) -> Operation:
        plan = prepared.plan
        releases = [each.release for each in prepared.arrivals.values()]
        new = [
            (each.extension, each.version)
            for each in releases
            if await self._blocking(self._store.release, each.extension, each.version) is None
        ]
        begun: Operation = await self._blocking(
            self._store.begin_operation,
            name,
            prepared.command.verb,
            prepared.subject,
            RecordedPlan(steps=plan.steps, new_releases=tuple(new)).encoded,
            await self._blocking(self._store.snapshot, {step.extension for step in plan.steps}),
            revision=plan.revision,
        )
        steps = "; ".join(map(short, plan.steps))
        _log.info("operation %s, %s %s, has begun: %s", name, prepared.command.verb, prepared.subject, steps)
        return begun

    async def _run(self, undertaking: Undertaking, run: Run) -> None:
        was_live, was_busy = self._fleet.live(), self._fleet.busy()
        steps = run.plan.steps
        try:
            for number, step in enumerate(steps, 1):
                run.progress.tell(f"[{number}/{len(steps)}] {step.kind} {step.extension} {step.version}: {step.why}")
                await self._until_cut_short(self._steps.take(step, run), undertaking)
                run.done.append(step)
                await self._blocking(self._store.advance_operation, run.operation, number)
            undertaking.refuse_when_cancelled()
            undertaking.phase = Phase.ENDING
            await self._finish(run)
        except Exception as error:
            _log.warning("operation %s failed and is undone: %s", run.operation, error)
            undertaking.phase = Phase.ENDING
            raise await self._fail(error, run, was_live, was_busy) from error
        _log.info("operation %s is done", run.operation)
        await self._steps.tidy(steps)

    async def _until_cut_short(self, taking: Coroutine[Any, Any, None], undertaking: Undertaking) -> None:
        """Wait for a step, which :meth:`close` and :meth:`cancel` cut short."""
        undertaking.step = asyncio.create_task(taking)
        try:
            if self._turns.is_closing or undertaking.is_cancelled:
                undertaking.step.cancel()
            await undertaking.step
        except asyncio.CancelledError:
            self._turns.refuse_when_closing()
            undertaking.refuse_when_cancelled()
            raise
        finally:
            undertaking.step = None

    async def _finish(self, run: Run) -> None:
        removed = [step.extension for step in run.plan.steps if step.kind is StepKind.REMOVE]
        forgotten = [
            (extension, each.version)
            for extension in removed
            for each in await self._blocking(self._store.list_releases, extension)
        ]
        await self._blocking(
            self._store.finish_operation,
            run.operation,
            DONE,
            {"subject": run.prepared.subject},
            forgotten=forgotten,
            audit_entry=run.entry(run.prepared.command.verb, DONE, {"steps": [short(step) for step in run.plan.steps]}),
        )

    # ---- undoing

    async def _fail(self, error: Exception, run: Run, was_live: set[str], was_busy: set[str]) -> RayExtError:
        """Undo, record the end, and return what is to be raised."""
        failed = run.attempted[-1]
        try:
            story = await self._undo(run, was_live, was_busy)
            raised = _explained(error, failed, story)
            await self._blocking(
                self._store.finish_operation,
                run.operation,
                FAILED,
                {"error": list(error_parts(raised))},
                forgotten=run.plan.new_releases,
                audit_entry=run.entry(run.prepared.command.verb, FAILED, {"error": [raised.code, raised.what]}),
            )
        except Exception as trouble:  # noqa: BLE001 - whatever it is, the operation stays unfinished, and says so
            _log.exception("%s could not be undone", run.operation)
            return OperationFailed(
                f"{short(failed)} failed ({error}), and undoing it did, too: {trouble}",
                where=run.prepared.subject,
                fix="see to what kept it from being undone: the next operation, or start of the runtime, tries again",
                details={"step": short(failed), "cause": str(error), "undone": None, "left": str(trouble)},
            )
        await self._steps.tidy(())
        return raised

    async def _undo(self, run: Run, was_live: set[str], was_busy: set[str]) -> str:
        """Bring everything back; returns what was undone and what is left, in words."""
        attempted, left = run.attempted, []
        for step in reversed(attempted):
            if step.kind is StepKind.LOAD:
                await self._fleet.stop(step.extension, 0.0)
        await self._blocking(self._store.restore, run.before)
        for step in reversed(run.done):
            run.progress.tell(f"undone: {short(step)}")
        # What was stopped last is needed by what was stopped before it.
        stopped = [step.extension for step in reversed(attempted) if step.kind is StepKind.UNLOAD]
        loaded = [step.extension for step in attempted if step.kind is StepKind.LOAD]
        for extension in dict.fromkeys([*stopped, *loaded]):
            if extension not in was_busy or extension in self._fleet.busy():
                continue
            try:
                if extension in was_live:
                    await self._fleet.start(extension)
                    continue
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and supervision goes on
                left.append(f"{extension} is not loaded again yet: {error}")
            self._fleet.restart(extension)
        undone = "; ".join(short(step) for step in reversed(run.done))
        story = f"undone: {undone}" if undone else "nothing had been changed"
        return f"{story}; left: {'; '.join(left) if left else 'everything as it was'}"

    async def _undo_unfinished(self) -> set[str]:
        """Undo in the store what is unfinished; returns the extensions of which it may have started an instance."""
        started: set[str] = set()
        for operation in await self._blocking(self._store.unfinished_operations):
            _log.warning("%s %s was interrupted and is undone", operation.verb, operation.subject)
            plan = RecordedPlan.of(operation)
            begun = plan.steps[: operation.step + 1]
            started |= {step.extension for step in begun if step.kind is StepKind.LOAD}
            await self._blocking(self._store.restore, operation.before)
            await self._blocking(
                self._store.finish_operation,
                operation.operation,
                INTERRUPTED,
                {"subject": operation.subject},
                forgotten=plan.new_releases,
                audit_entry=AuditEntry(
                    actor="registry",
                    verb=operation.verb,
                    outcome=INTERRUPTED,
                    operation=operation.operation,
                    extension=operation.subject,
                ),
            )
        return started


def _explained(error: Exception, failed: Step, story: str) -> RayExtError:
    """The same error, which also says what became of the operation."""
    where = f"step {short(failed)}; {story}"
    if isinstance(error, OperationCancelled):
        error.details.update(step=short(failed), undone=story)
    if isinstance(error, RayExtError):
        where = f"{error.where}; {where}" if error.where else where
        return error_from_parts(error.code, error.what, where, error.fix, error.details)
    return OperationFailed(
        f"{short(failed)} failed: {type(error).__name__}: {error}",
        where=where,
        fix="see the registry's log",
        details={"step": short(failed), "cause": str(error), "undone": story, "left": None},
    )


def _ended(operation: Operation) -> str:
    """The end of an operation that is sent again after it."""
    if operation.outcome == FAILED:
        raise error_from_parts(*operation.detail["error"])
    return str(operation.detail["subject"])
