"""The part of the store that remembers who did what."""

from __future__ import annotations

from sqlalchemy import select

from ray_ext.store.records import AuditEntry
from ray_ext.store.schema import audit
from ray_ext.store.transactions import Transactions

__all__ = ["AuditStore"]

_ENTRY = select(*(column for column in audit.c if column.name != "number"))


class AuditStore(Transactions):
    """Entries are only added. One that tells of a write is given to that write, and recorded with it or not at all."""

    def record(self, entry: AuditEntry) -> None:
        """Record what no write of the store tells: a refusal, a failure."""
        with self._write("record", f"record {entry.verb}", audit_entry=entry):
            pass

    def list_audit(self, extension: str | None = None, *, limit: int = 100) -> list[AuditEntry]:
        """The last entries, or those of one extension, the newest first."""
        query = _ENTRY if extension is None else _ENTRY.where(audit.c.extension == extension)
        with self._read("list the audit") as connection:
            rows = connection.execute(query.order_by(audit.c.number.desc()).limit(limit))
            return [AuditEntry(**row._mapping) for row in rows]

    def audit_of(self, operation: str) -> AuditEntry | None:
        """The first entry that names this operation, or None."""
        with self._read("find an operation in the audit") as connection:
            row = connection.execute(
                _ENTRY.where(audit.c.operation == operation).order_by(audit.c.number).limit(1)
            ).one_or_none()
            return None if row is None else AuditEntry(**row._mapping)
