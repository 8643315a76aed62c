"""The store: every write is one transaction, is on disk when the method returns, and is refused to an old writer.

A registry that is started anew raises the *writer epoch*; each transaction of an earlier incarnation then fails with
:class:`StoreFailed`. Methods block: the registry calls them from a thread.
"""

from __future__ import annotations

from sqlalchemy import select

from ray_ext.store.audit import AuditStore
from ray_ext.store.installations import InstallationStore
from ray_ext.store.operations import OperationStore
from ray_ext.store.records import (
    AuditEntry,
    Claim,
    Installation,
    ListedRelease,
    Operation,
    Release,
    ReleaseFacts,
    StoredRoute,
    Tombstone,
)
from ray_ext.store.releases import ReleaseStore
from ray_ext.store.routes import RouteStore
from ray_ext.store.schema import runtime

__all__ = [
    "AuditEntry",
    "Claim",
    "Installation",
    "ListedRelease",
    "Operation",
    "Release",
    "ReleaseFacts",
    "Store",
    "StoredRoute",
    "Tombstone",
]


class Store(ReleaseStore, InstallationStore, RouteStore, OperationStore, AuditStore):
    """One writer's view of the store; opening it migrates it, and takes over from every earlier writer."""

    def revision(self) -> int:
        """Grows with every change of releases, installations, claims and desired states: plans are bound to it.

        A plan reads it before it reads anything else, and gives it to :meth:`begin_operation`.
        """
        with self._read("read the revision") as connection:
            return int(connection.execute(select(runtime.c.revision)).scalar_one())
