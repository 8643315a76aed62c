"""The tables. ``SCHEMA_VERSION`` grows with every change of them, and :mod:`ray_ext.store.migrations` with it."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

__all__ = [
    "SCHEMA_VERSION",
    "audit",
    "claims",
    "generations",
    "installations",
    "metadata",
    "operations",
    "releases",
    "routes",
    "runtime",
    "tombstones",
]

SCHEMA_VERSION = 3

metadata = MetaData()

#: One row: which schema this is, the epoch of the registry that may write, the routing table's epoch, and the revision
#: that plans are bound to.
runtime = Table(
    "runtime",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("schema_version", Integer, nullable=False),
    Column("writer_epoch", Integer, nullable=False),
    Column("route_epoch", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
)

releases = Table(
    "releases",
    metadata,
    Column("extension", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("sha256", String, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("source", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("yanked_reason", Text),
    Column("updated_at", Float, nullable=False),
)

installations = Table(
    "installations",
    metadata,
    Column("extension", String, primary_key=True),
    Column("version", String, nullable=False),
    Column("configuration", JSON, nullable=False),
    Column("grant", String, nullable=False),
    Column("desired", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("lock", Text),
    ForeignKeyConstraint(["extension", "version"], ["releases.extension", "releases.version"]),
)

#: What one extension alone may have. The key is what makes a second holder impossible.
claims = Table(
    "claims",
    metadata,
    Column("kind", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("extension", String, ForeignKey("installations.extension"), nullable=False),
)

#: The last generation of each extension that ever was installed; a row outlives its installation.
generations = Table(
    "generations",
    metadata,
    Column("extension", String, primary_key=True),
    Column("last", Integer, nullable=False),
)

#: The live instance of each loaded extension.
routes = Table(
    "routes",
    metadata,
    Column("extension", String, primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("host", String, nullable=False),
    Column("route", LargeBinary, nullable=False),
)

#: Retired generations: how each ended.
tombstones = Table(
    "tombstones",
    metadata,
    Column("extension", String, primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("kind", String, nullable=False),
    Column("cause", String, nullable=False),
    Column("ended_at", Float, nullable=False),
)

#: Plans at work and done, in the order of their beginnings. ``outcome`` is null while one is at work.
operations = Table(
    "operations",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("operation", String, nullable=False, unique=True),
    Column("verb", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("plan", LargeBinary, nullable=False),
    Column("before", LargeBinary, nullable=False),
    Column("step", Integer, nullable=False),
    Column("outcome", String),
    Column("detail", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

#: Who did what; rows are only ever added.
audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("operation", String),
    Column("actor", String, nullable=False),
    Column("verb", String, nullable=False),
    Column("extension", String),
    Column("version", String),
    Column("outcome", String, nullable=False),
    Column("detail", JSON, nullable=False),
    Index("audit_operation", "operation"),
)
