"""The tables. ``SCHEMA_VERSION`` grows with every change of them."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, ForeignKeyConstraint, Integer, LargeBinary, MetaData, String, Table

__all__ = ["SCHEMA_VERSION", "installations", "metadata", "releases", "routes", "runtime", "tombstones"]

SCHEMA_VERSION = 1

metadata = MetaData()

#: One row: which schema this is, the epoch of the registry that may write, and the routing table's epoch.
runtime = Table(
    "runtime",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("schema_version", Integer, nullable=False),
    Column("writer_epoch", Integer, nullable=False),
    Column("route_epoch", Integer, nullable=False),
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
)

installations = Table(
    "installations",
    metadata,
    Column("extension", String, primary_key=True),
    Column("version", String, nullable=False),
    Column("configuration", JSON, nullable=False),
    Column("grant", String, nullable=False),
    Column("desired", String, nullable=False),
    Column("last_generation", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    ForeignKeyConstraint(["extension", "version"], ["releases.extension", "releases.version"]),
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
