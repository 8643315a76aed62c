"""Operations: a plan's steps, carried out one after the other; undone when one of them fails, or the registry dies.

One operation at a time. Before its first step the store has its plan and a snapshot of what it will change; an
operation that is found unfinished is undone before anything else happens.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from ray_ext.actors.fleet import Fleet
from ray_ext.actors.node_link import NodeLink
from ray_ext.actors.planner import Planner, Prepared, facts_of, release_of
from ray_ext.actors.progress import News, Progress
from ray_ext.actors.steps import DONE, Blocking, RecordedPlan, Run, Steps
from ray_ext.control.commands import Command
from ray_ext.errors import OperationConflict, OperationFailed, RayExtError, RuntimeClosed, error_from_parts
from ray_ext.home import Home
from ray_ext.packages import PackageCache
from ray_ext.resolve.plans import Step, StepKind
from ray_ext.store.store import AuditEntry, ListedRelease, Operation, Store

__all__ = ["Operations"]

_log = logging.getLogger(__name__)

#: The outcomes of operations that came to nothing, as the store records them.
FAILED, INTERRUPTED = "failed", "interrupted"
#: How long what changes no installation (a registration, say) waits for its turn, in seconds.
_WAIT_S = 60.0
#: How long after its end an operation's news can be asked for, in seconds.
_NEWS_KEPT_S = 60.0


class Operations:
    """Belongs to the registry's event loop."""

    def __init__(
        self, home: Home, store: Store, packages: PackageCache, fleet: Fleet, node: NodeLink, blocking: Blocking
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._blocking = blocking
        self._planner = Planner(store, packages)
        self._steps = Steps(home, store, packages, fleet, node, blocking)
        self._turn = asyncio.Lock()
        self._running = ""
        self._step: asyncio.Task[None] | None = None
        self._is_closing = False
        self._performing: dict[str, asyncio.Task[str]] = {}
        self._progress: dict[str, Progress] = {}

    async def prepare(self, command: Command) -> Prepared:
        """The plan for a command, as of now; nothing is changed."""
        prepared: Prepared = await self._blocking(self._planner.prepare, command, self._fleet.live())
        return prepared

    async def perform(self, command: Command, operation: str) -> str:
        """Carry a command out, once for each ``operation``; returns the extension's id.

        Raises what refused it, and what a step raised: then everything is as before, and the error says what was
        undone. An operation that is sent again has the same end. It goes on when nobody waits for it any more.
        """
        performing = self._performing.get(operation)
        if performing is None:
            # In a context of its own: in the caller's, Ray would cancel what the operation asks of hosts with the call.
            performing = self._performing[operation] = asyncio.create_task(
                self._perform(command, operation), context=contextvars.Context()
            )
            performing.add_done_callback(lambda _: self._performing.pop(operation))
        return await asyncio.shield(performing)

    async def news(self, operation: str, after: int, wait_s: float) -> tuple[list[News], bool]:
        """What the operation has told since the news of number ``after``, and whether that is all."""
        progress = self._progress.setdefault(operation, Progress())
        return await progress.after(after, wait_s), progress.is_over

    async def register(self, wheel: bytes, source: str, actor: str) -> ListedRelease:
        """Make a package's release known without installing it; raises ReleaseConflict and what refuses packages."""
        async with self._my_turn("register a release"):
            offer = await self._blocking(self._planner.check, wheel, source)
            release = release_of(offer.source, offer.sha256, source)
            entry = AuditEntry(
                actor=actor, verb="register", outcome=DONE, extension=release.extension, version=release.version
            )
            await self._steps.keep(wheel)
            await self._blocking(self._store.register, release, facts_of(offer.source.manifest), audit_entry=entry)
            listed: list[ListedRelease] = await self._blocking(self._store.list_releases, release.extension)
        return next(each for each in listed if each.version == release.version)

    async def yank(self, extension: str, version: str, reason: str | None, actor: str) -> None:
        """Keep plans from choosing a release; None takes that back."""
        verb = "unyank" if reason is None else "yank"
        entry = AuditEntry(actor=actor, verb=verb, outcome=DONE, extension=extension, version=version)
        async with self._my_turn(f"{verb} {extension} {version}"):
            if reason is None:
                await self._blocking(self._store.unyank, extension, version, audit_entry=entry)
            else:
                await self._blocking(self._store.yank, extension, version, reason, audit_entry=entry)

    async def forget(self, extension: str, version: str, actor: str) -> None:
        """Know a release no longer, and delete its package; raises InstallationConflict where it is installed."""
        entry = AuditEntry(actor=actor, verb="forget", outcome=DONE, extension=extension, version=version)
        async with self._my_turn(f"forget {extension} {version}"):
            await self._blocking(self._store.forget_release, extension, version, audit_entry=entry)
            await self._steps.collect_packages()

    async def collect(self) -> int:
        """Remove the packages, environments and downloads that nothing needs; returns the bytes freed."""
        async with self._my_turn("collect what nothing needs"):
            return await self._steps.collect_packages() + await self._steps.collect_environments(is_thorough=True)

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
        self._is_closing = True
        if self._step is not None:
            self._step.cancel()
        async with self._turn:
            pass

    # ---- turns

    @asynccontextmanager
    async def _my_turn(self, what: str, wait_s: float = _WAIT_S) -> AsyncIterator[None]:
        """Exclude everything else that changes releases or installations, so that plans hold until they are done."""
        try:
            async with asyncio.timeout(wait_s):
                await self._turn.acquire()
        except TimeoutError:
            raise OperationConflict(
                f"{what} waits for another operation: {self._running}",
                fix="wait until it has ended, and try again",
                details={"running": self._running},
            ) from None
        try:
            self._refuse_when_closing()
            self._running = what
            yield
        finally:
            self._running = ""
            self._turn.release()

    def _refuse_when_closing(self) -> None:
        if self._is_closing:
            raise RuntimeClosed("the runtime is being closed", fix="connect again: ray_ext.connect()")

    async def _perform(self, command: Command, operation: str) -> str:
        progress = self._progress.setdefault(operation, Progress())
        try:
            async with self._my_turn(f"{command.verb} {command.extension or 'an extension'}", command.wait_s):
                return await self._carry_out(command, operation, progress)
        finally:
            progress.end()
            asyncio.get_running_loop().call_later(_NEWS_KEPT_S, self._progress.pop, operation, None)

    # ---- from a command to its end

    async def _carry_out(self, command: Command, operation: str, progress: Progress) -> str:
        if await self._blocking(self._store.unfinished_operations):
            # It could not be undone when it failed, for want of space say.
            await self._fleet.follow(await self._undo_unfinished())
        for attempt in itertools.count(1):
            name = f"{operation}.{attempt}"
            known: Operation | None = await self._blocking(self._store.operation, name)
            if known is None:
                break
            if known.outcome != INTERRUPTED:
                return _ended(known)
        prepared = await self.prepare(command)
        self._running = f"{command.verb} {prepared.subject}"
        if prepared.plan.steps:
            await self._run(Run(prepared, await self._begin(prepared, name), progress))
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
        return begun

    async def _run(self, run: Run) -> None:
        was_live, was_busy = self._fleet.live(), self._fleet.busy()
        steps = run.plan.steps
        try:
            for number, step in enumerate(steps, 1):
                run.progress.tell(f"[{number}/{len(steps)}] {step.kind} {step.extension} {step.version}: {step.why}")
                await self._until_closed(self._steps.take(step, run))
                run.done.append(step)
                await self._blocking(self._store.advance_operation, run.operation, number)
            await self._finish(run)
        except Exception as error:
            raise await self._fail(error, run, was_live, was_busy) from error
        await self._steps.tidy(steps)

    async def _until_closed(self, taking: Coroutine[Any, Any, None]) -> None:
        """Wait for a step, which :meth:`close` cuts short."""
        self._step = asyncio.create_task(taking)
        try:
            if self._is_closing:
                self._step.cancel()
            await self._step
        except asyncio.CancelledError:
            self._refuse_when_closing()
            raise
        finally:
            self._step = None

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
            audit_entry=run.entry(
                run.prepared.command.verb, DONE, {"steps": [_short(step) for step in run.plan.steps]}
            ),
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
                {"error": [raised.code, raised.what, raised.where, raised.fix, raised.details]},
                forgotten=run.plan.new_releases,
                audit_entry=run.entry(run.prepared.command.verb, FAILED, {"error": [raised.code, raised.what]}),
            )
        except Exception as trouble:  # noqa: BLE001 - whatever it is, the operation stays unfinished, and says so
            _log.exception("%s could not be undone", run.operation)
            return OperationFailed(
                f"{_short(failed)} failed ({error}), and undoing it did, too: {trouble}",
                where=run.prepared.subject,
                fix="see to what kept it from being undone: the next operation, or start of the runtime, tries again",
                details={"step": _short(failed), "cause": str(error), "undone": None, "left": str(trouble)},
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
            run.progress.tell(f"undone: {_short(step)}")
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
        undone = "; ".join(_short(step) for step in reversed(run.done))
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


def _short(step: Step) -> str:
    return f"{step.kind} {step.extension} {step.version}"


def _explained(error: Exception, failed: Step, story: str) -> RayExtError:
    """The same error, which also says what became of the operation."""
    where = f"step {_short(failed)}; {story}"
    if isinstance(error, RayExtError):
        where = f"{error.where}; {where}" if error.where else where
        return error_from_parts(error.code, error.what, where, error.fix, error.details)
    return OperationFailed(
        f"{_short(failed)} failed: {type(error).__name__}: {error}",
        where=where,
        fix="see the registry's log",
        details={"step": _short(failed), "cause": str(error), "undone": story, "left": None},
    )


def _ended(operation: Operation) -> str:
    """The end of an operation that is sent again after it."""
    if operation.outcome == FAILED:
        raise error_from_parts(*operation.detail["error"])
    return str(operation.detail["subject"])
