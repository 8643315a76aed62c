"""The part of the store that carries plans over crashes: operations, and the snapshots that undo them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct, structs
from sqlalchemy import Connection, delete, insert, select, update

from ray_ext.errors import OperationConflict, PlanStale
from ray_ext.store.installations import delete_installation, find_installation, put_claims
from ray_ext.store.records import AuditEntry, Claim, Installation, Operation
from ray_ext.store.releases import delete_release
from ray_ext.store.schema import claims, installations, operations, routes, runtime
from ray_ext.store.transactions import Transactions, grow_revision

__all__ = ["OperationStore", "attempt_name", "operation_of"]

_OPERATION = select(*(column for column in operations.c if column.name != "number"))


def attempt_name(operation: str, attempt: int) -> str:
    """What the store calls the attempt, counted from 1, to carry an operation out: each is undone or finished whole."""
    return f"{operation}.{attempt}"


def operation_of(name: str) -> str:
    """The operation of an attempt; what is no attempt's name is returned as it is."""
    operation, dot, attempt = name.rpartition(".")
    return operation if dot and attempt.isdecimal() else name


class _Before(Struct, frozen=True):
    """One extension in a snapshot; None stands for "not installed"."""

    extension: str
    installation: Installation | None
    claims: list[Claim]


class OperationStore(Transactions):
    """An operation is begun, advances and is finished once; a failed or crashed one is undone by its snapshot."""

    def begin_operation(
        self, operation: str, verb: str, subject: str, plan: bytes, before: bytes, *, revision: int | None = None
    ) -> Operation:
        """Record a plan before its first step; ``before`` is the :meth:`snapshot` that undoes it.

        An id that is known is not begun again: its operation is returned as it is, with its outcome if it is finished.
        Raises :class:`PlanStale` unless ``revision`` (None: any) is the store's, and :class:`OperationConflict` when
        the id stands for another verb or subject.
        """
        with self._write("begin-operation", f"begin operation {operation}") as connection:
            known = _find(connection, operation)
            if known is not None:
                if (known.verb, known.subject) != (verb, subject):
                    raise OperationConflict(
                        f"operation {operation} is known already: {known.verb} {known.subject}",
                        where=f"known: {known.verb} {known.subject}; offered: {verb} {subject}",
                        fix="give every operation an id of its own",
                        details={"running": operation if known.outcome is None else None},
                    )
                return known
            current = int(connection.execute(select(runtime.c.revision)).scalar_one())
            if revision not in {None, current}:
                raise PlanStale(
                    f"the runtime has changed since {verb} {subject} was planned",
                    where=f"planned at revision {revision}; now {current}",
                    fix="plan it again",
                    details={"planned": revision, "current": current},
                )
            now = time.time()
            begun = Operation(
                operation=operation,
                verb=verb,
                subject=subject,
                plan=plan,
                before=before,
                step=0,
                outcome=None,
                detail={},
                created_at=now,
                updated_at=now,
            )
            connection.execute(insert(operations).values(structs.asdict(begun)))
            return begun

    def advance_operation(self, operation: str, step: int) -> None:
        """Record how far the operation came; raises :class:`OperationConflict` when it is not at work."""
        with self._write("advance-operation", f"advance operation {operation}") as connection:
            _update_running(connection, operation, {"step": step})

    def finish_operation(
        self,
        operation: str,
        outcome: str,
        detail: Mapping[str, Any],
        *,
        forgotten: Iterable[tuple[str, str]] = (),
        audit_entry: AuditEntry | None = None,
    ) -> None:
        """Record the one outcome, and drop the snapshot; raises :class:`OperationConflict` when it is not at work.

        The releases in ``forgotten``, by id and version, are known no longer; none of them may be installed.
        """
        what = f"finish operation {operation}"
        with self._write("finish-operation", what, audit_entry=audit_entry) as connection:
            _update_running(connection, operation, {"outcome": outcome, "detail": dict(detail), "before": b""})
            for extension, version in forgotten:
                delete_release(connection, extension, version)

    def operation(self, operation: str) -> Operation | None:
        """The operation, or None."""
        with self._read("read an operation") as connection:
            return _find(connection, operation)

    def last_operation(self) -> Operation | None:
        """The one that was begun last, or None."""
        with self._read("read the last operation") as connection:
            row = connection.execute(_OPERATION.order_by(operations.c.number.desc()).limit(1)).one_or_none()
            return None if row is None else Operation(**row._mapping)

    def last_attempt(self, operation: str) -> Operation | None:
        """The attempt at an operation that was begun last, or None."""
        last, number = None, 1
        with self._read("find the last attempt at an operation") as connection:
            while (found := _find(connection, attempt_name(operation, number))) is not None:
                last, number = found, number + 1
        return last

    def list_last_attempts(self, limit: int) -> list[Operation]:
        """The last attempt at each of the operations that were begun last, the newest first."""
        found: dict[str, Operation] = {}
        with self._read("list operations") as connection:
            for row in connection.execute(_OPERATION.order_by(operations.c.number.desc())):
                if len(found) == limit:
                    break
                found.setdefault(operation_of(row.operation), Operation(**row._mapping))
        return list(found.values())

    def unfinished_operations(self) -> list[Operation]:
        """The operations at work, in the order of their beginnings."""
        with self._read("list unfinished operations") as connection:
            rows = connection.execute(_OPERATION.where(operations.c.outcome.is_(None)).order_by(operations.c.number))
            return [Operation(**row._mapping) for row in rows]

    def snapshot(self, extensions: Iterable[str]) -> bytes:
        """What is installed of these ids, for :meth:`restore`; as secret as the configurations in it."""
        with self._read("take a snapshot") as connection:
            taken = [_before(connection, extension) for extension in sorted(set(extensions))]
        # As the store keeps configurations: json knows every value in them (msgpack has no large integers).
        return json.dumps(msgspec.to_builtins(taken)).encode()

    def restore(self, snapshot: bytes, *, audit_entry: AuditEntry | None = None) -> None:
        """Bring the installations of a snapshot's ids back exactly as they were, their claims and desired states too.

        What was not installed is removed. Generations go on counting. Raises :class:`InstallationConflict` when a claim
        has gone to an extension outside the snapshot.
        """
        taken = msgspec.convert(json.loads(snapshot), list[_Before])
        what = f"restore {', '.join(each.extension for each in taken)}"
        with self._write("restore", what, audit_entry=audit_entry) as connection:
            # All go before the first comes back: a claim may have moved from one of them to another.
            for each in taken:
                delete_installation(connection, each.extension)
            for each in taken:
                if each.installation is None:
                    connection.execute(delete(routes).where(routes.c.extension == each.extension))
                else:
                    values = structs.asdict(each.installation)
                    del values["last_generation"]
                    connection.execute(insert(installations).values(values))
                    put_claims(connection, each.extension, each.claims)
            grow_revision(connection)


def _before(connection: Connection, extension: str) -> _Before:
    held = connection.execute(select(claims).where(claims.c.extension == extension))
    return _Before(
        extension, find_installation(connection, extension), [Claim(claim.kind, claim.name) for claim in held]
    )


def _find(connection: Connection, operation: str) -> Operation | None:
    row = connection.execute(_OPERATION.where(operations.c.operation == operation)).one_or_none()
    return None if row is None else Operation(**row._mapping)


def _update_running(connection: Connection, operation: str, values: Mapping[str, Any]) -> None:
    updated = connection.execute(
        update(operations)
        .where(operations.c.operation == operation, operations.c.outcome.is_(None))
        .values({**values, "updated_at": time.time()})
    )
    if updated.rowcount != 1:
        raise OperationConflict(
            f"operation {operation} is not at work",
            fix="begin it first; one that is finished stays as it is",
            details={"running": None},
        )
