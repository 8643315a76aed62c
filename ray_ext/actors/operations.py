"""Operations: a plan's steps, carried out one after the other; undone when one of them fails, or the registry dies.

One operation at a time. Before its first step the store has its plan and a snapshot of what it will change; an
operation that the next registry finds unfinished is undone before anything else happens.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import logging
import shutil
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol

from ray_ext.actors.commands import Command
from ray_ext.actors.fleet import Fleet
from ray_ext.actors.home import Home
from ray_ext.actors.node_link import NodeLink, StoredLock
from ray_ext.actors.planner import Planner, Prepared
from ray_ext.errors import OperationConflict, OperationFailed, RayExtError, error_from_parts
from ray_ext.packages import PackageCache
from ray_ext.packages.environments import Progress
from ray_ext.resolve.plans import Step, StepKind
from ray_ext.store.store import AuditEntry, Operation, Store

__all__ = ["Operations"]

_log = logging.getLogger(__name__)

#: The outcomes of an operation, as the store records them.
DONE, FAILED, INTERRUPTED = "done", "failed", "interrupted"
_NEWS = 1000


class _Blocking(Protocol):
    async def __call__(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any: ...


class _News(NamedTuple):
    number: int
    text: str


class _Progress:
    """What an operation tells those who watch it."""

    def __init__(self) -> None:
        self.news: deque[_News] = deque(maxlen=_NEWS)
        self.is_over = False
        self._changed = asyncio.Event()

    def tell(self, text: str) -> None:
        self.news.append(_News(self.news[-1].number + 1 if self.news else 1, text))
        self._notify()

    def end(self) -> None:
        self.is_over = True
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def after(self, number: int, wait_s: float) -> list[_News]:
        try:
            async with asyncio.timeout(wait_s):
                while not self.is_over and (not self.news or self.news[-1].number <= number):
                    await self._changed.wait()
        except TimeoutError:
            pass
        return [each for each in self.news if each.number > number]


class Operations:
    """Belongs to the registry's event loop."""

    def __init__(
        self,
        home: Home,
        store: Store,
        packages: PackageCache,
        fleet: Fleet,
        node: NodeLink,
        blocking: _Blocking,
    ) -> None:
        self._home = home
        self._store = store
        self._packages = packages
        self._fleet = fleet
        self._node = node
        self._blocking = blocking
        self._planner = Planner(store, packages)
        self._turn = asyncio.Lock()
        self._running = ""
        self._progress: dict[str, _Progress] = {}

    async def prepare(self, command: Command) -> Prepared:
        """The plan for a command, as of now; nothing is changed."""
        prepared: Prepared = await self._blocking(self._planner.prepare, command, self._fleet.busy())
        return prepared

    async def perform(self, command: Command, operation: str) -> str:
        """Carry a command out, once for each ``operation``; returns the extension's id.

        Raises what refused it, and what a step raised: then everything is as before, and the error says what was
        undone. An operation that is sent again after it has ended has the same end.
        """
        async with self._my_turn(command, operation) as progress:
            prepared = await self.prepare(command)
            name = f"{command.verb} {prepared.subject}"
            self._running = name
            if not prepared.plan.steps:
                return prepared.subject
            begun = await self._begin(prepared, operation)
            if begun.outcome is not None:
                return _recorded(begun)
            await self._run(prepared, begun, progress)
        return prepared.subject

    @asynccontextmanager
    async def _my_turn(self, command: Command, operation: str) -> AsyncIterator[_Progress]:
        try:
            async with asyncio.timeout(command.wait_s):
                await self._turn.acquire()
        except TimeoutError:
            raise OperationConflict(
                f"{command.verb} {command.extension or 'an extension'} waits for another operation: {self._running}",
                fix="wait until it has ended, and try again",
                details={"running": self._running},
            ) from None
        progress = self._progress.setdefault(operation, _Progress())
        try:
            yield progress
        finally:
            self._running = ""
            self._turn.release()
            progress.end()
            asyncio.get_running_loop().call_later(60.0, self._progress.pop, operation, None)

    async def news(self, operation: str, after: int, wait_s: float) -> tuple[list[_News], bool]:
        """What the operation has told since the news of number ``after``, and whether that is all."""
        progress = self._progress.setdefault(operation, _Progress())
        return await progress.after(after, wait_s), progress.is_over

    async def _begin(self, prepared: Prepared, operation: str) -> Operation:
        touched = {step.extension for step in prepared.plan.steps}
        before: bytes = await self._blocking(self._store.snapshot, touched)
        attempt = 1
        while True:
            begun: Operation = await self._blocking(
                self._store.begin_operation,
                f"{operation}.{attempt}",
                prepared.command.verb,
                prepared.subject,
                json.dumps(asdict(prepared.plan)).encode(),
                before,
                revision=None if attempt > 1 else prepared.plan.revision,
            )
            if begun.outcome != INTERRUPTED:
                return begun
            attempt += 1

    # ---- steps

    async def _run(self, prepared: Prepared, begun: Operation, progress: _Progress) -> None:
        was_busy = self._fleet.busy()
        done: list[Step] = []
        steps = prepared.plan.steps
        actor = prepared.command.actor or getpass.getuser()
        locks: dict[str, str] = {}
        try:
            for number, step in enumerate(steps, 1):
                progress.tell(f"[{number}/{len(steps)}] {step.kind} {step.extension} {step.version}: {step.why}")
                await self._take(step, prepared, locks, progress, actor, begun.operation)
                done.append(step)
                await self._blocking(self._store.advance_operation, begun.operation, number)
        except BaseException as error:
            failed = steps[min(len(done), len(steps) - 1)]
            raised = await asyncio.shield(self._fail(error, done, failed, prepared, begun, was_busy, progress, actor))
            if raised is error:
                raise
            raise raised from error
        await self._finish(prepared, begun, DONE, {}, {"steps": [_short(step) for step in steps]}, actor)
        await self._tidy(prepared)

    async def _finish(
        self,
        prepared: Prepared,
        begun: Operation,
        outcome: str,
        result: dict[str, Any],
        audited: dict[str, Any],
        actor: str,
    ) -> None:
        await self._blocking(
            self._store.finish_operation,
            begun.operation,
            outcome,
            {"subject": prepared.subject, **result},
            audit_entry=AuditEntry(
                actor=actor,
                verb=prepared.command.verb,
                outcome=outcome,
                operation=begun.operation,
                extension=prepared.subject,
                detail=audited,
            ),
        )

    async def _take(
        self,
        step: Step,
        prepared: Prepared,
        locks: dict[str, str],
        progress: _Progress,
        actor: str,
        operation: str,
    ) -> None:
        extension = step.extension
        command = prepared.command
        match step.kind:
            case StepKind.ENVIRONMENT:
                requirements = list(prepared.arrivals[extension].facts.requirements)
                environment = await self._node.provide(requirements, None, command.sources, _teller(progress))
                locks[extension] = StoredLock(lock=environment.lock, sources=command.sources).encoded
            case StepKind.INSTALL:
                arrival = prepared.arrivals[extension]
                if arrival.offer is not None:
                    await self._blocking(self._packages.add, arrival.offer.wheel)
                old = await self._blocking(self._store.installation, extension)
                is_same = old is not None and old.version == step.version
                entry = AuditEntry(
                    actor=actor,
                    verb="install",
                    outcome=DONE,
                    operation=operation,
                    extension=extension,
                    version=step.version,
                    detail={"configuration_keys": sorted(arrival.configuration), "grant": arrival.grant},
                )
                await self._blocking(
                    self._store.install,
                    arrival.release,
                    arrival.configuration,
                    arrival.grant,
                    facts=arrival.facts,
                    lock=old.lock if is_same and extension not in locks else locks.get(extension),
                    claims=arrival.claims,
                    audit_entry=entry,
                )
            case StepKind.LOAD:
                await self._blocking(self._store.set_desired, extension, "loaded")
                await self._fleet.start(extension)
            case StepKind.UNLOAD:
                await self._blocking(self._store.set_desired, extension, "unloaded")
                await self._fleet.stop(extension, command.grace_s)
            case StepKind.REMOVE:
                entry = AuditEntry(
                    actor=actor,
                    verb="remove",
                    outcome=DONE,
                    operation=operation,
                    extension=extension,
                    version=step.version,
                )
                await self._blocking(self._store.remove, extension, audit_entry=entry)
            case StepKind.PURGE:
                await self._blocking(shutil.rmtree, self._home.data_dir(extension), ignore_errors=True)

    async def _tidy(self, prepared: Prepared) -> None:
        """After an operation that can no longer be undone: nothing stays of what was removed."""
        removed = [step for step in prepared.plan.steps if step.kind is StepKind.REMOVE]
        for step in removed:
            await self._blocking(self._store.forget_release, step.extension, step.version)
            log_folder = self._home.log_file(step.extension).parent
            await self._blocking(shutil.rmtree, log_folder, ignore_errors=True)
        if any(step.kind in (StepKind.REMOVE, StepKind.INSTALL) for step in prepared.plan.steps):
            await self.collect(is_thorough=False)

    async def collect(self, *, is_thorough: bool) -> int:
        """Remove the packages and environments that nothing known or installed needs; returns the bytes freed."""
        releases = await self._blocking(self._store.list_releases)
        freed: int = await self._blocking(self._packages.collect, {each.sha256 for each in releases})
        installations = await self._blocking(self._store.list_installations)
        keep = [StoredLock.decoded(each.lock).lock.digest for each in installations if each.lock is not None]
        return freed + await self._node.collect(keep, is_thorough=is_thorough)

    # ---- undoing

    async def _fail(
        self,
        error: BaseException,
        done: list[Step],
        failed: Step,
        prepared: Prepared,
        begun: Operation,
        was_busy: set[str],
        progress: _Progress,
        actor: str,
    ) -> BaseException:
        """Undo, record the end, and return what is to be raised."""
        try:
            story = await self._undo(done, failed, begun, was_busy, progress)
        except RayExtError as trouble:
            _log.exception("%s %s could not be undone", begun.verb, begun.subject)
            return OperationFailed(
                f"{_short(failed)} failed ({error}), and undoing it did, too: {trouble.what}",
                where=prepared.subject,
                fix="restart the runtime: it undoes what is unfinished before anything else",
                details={"step": _short(failed), "cause": str(error), "undone": None, "left": trouble.what},
            )
        raised = _explained(error, failed, story)
        parts = [raised.code, raised.what, raised.where, raised.fix] if isinstance(raised, RayExtError) else []
        await self._finish(prepared, begun, FAILED, {"error": parts}, {"error": parts[:2]}, actor)
        return raised

    async def _undo(
        self, done: list[Step], failed: Step, begun: Operation, was_busy: set[str], progress: _Progress
    ) -> str:
        """Bring everything back; returns what was undone and what is left, in words."""
        undone, left = [], []
        for step in reversed([*done, failed]):
            if step.kind is StepKind.LOAD:
                await self._fleet.stop(step.extension, 0.0)
        await self._blocking(self._store.restore, begun.before)
        for step in reversed(done):
            undone.append(_short(step))
            progress.tell(f"undone: {_short(step)}")
        # What was stopped last is needed by what was stopped before it.
        stopped = [step.extension for step in [*done, failed] if step.kind is StepKind.UNLOAD]
        for extension in reversed(stopped):
            if extension in was_busy and not self._fleet.is_live(extension):
                try:
                    await self._fleet.start(extension)
                except RayExtError as error:
                    left.append(f"{extension} is not loaded again yet: {error.what}")
                    self._fleet.restart(extension)
        story = f"undone: {'; '.join(undone)}" if undone else "nothing had been changed"
        return f"{story}; left: {'; '.join(left) if left else 'everything as it was'}"

    async def recover(self) -> None:
        """Undo what an earlier registry has left unfinished: in the store; the fleet follows it."""
        for operation in await self._blocking(self._store.unfinished_operations):
            _log.warning("%s %s was interrupted and is undone", operation.verb, operation.subject)
            await self._blocking(self._store.restore, operation.before)
            await self._blocking(
                self._store.finish_operation,
                operation.operation,
                INTERRUPTED,
                {"subject": operation.subject},
                audit_entry=AuditEntry(
                    actor="registry",
                    verb=operation.verb,
                    outcome=INTERRUPTED,
                    operation=operation.operation,
                    extension=operation.subject,
                ),
            )


def _short(step: Step) -> str:
    return f"{step.kind} {step.extension} {step.version}"


def _teller(progress: _Progress) -> Callable[[Progress], None]:
    return lambda news: progress.tell(f"{news.stage}: {news.text}")


def _explained(error: BaseException, failed: Step, story: str) -> BaseException:
    """The same error, which also says what became of the operation."""
    if not isinstance(error, Exception):
        return error
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


def _recorded(begun: Operation) -> str:
    """The end of an operation that was sent again after it had ended."""
    if begun.outcome == FAILED and begun.detail["error"]:
        code, what, where, fix = begun.detail["error"]
        raise error_from_parts(code, what, where, fix, {})
    return str(begun.detail["subject"])
