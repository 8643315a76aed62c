"""From each earlier schema version to the next. A migration is frozen: it never names the tables of today's schema."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping

from sqlalchemy import Connection, text

from ray_ext.errors import StoreFailed

__all__ = ["MIGRATIONS"]


def _from_1(connection: Connection) -> None:
    """Facts, yanks, locks, claims, operations and the audit; generations move to a table of their own."""
    for statement in _TO_2.split(";"):
        connection.exec_driver_sql(statement)
    rows = connection.exec_driver_sql("SELECT extension, version, manifest FROM releases").all()
    for extension, version, manifest in rows:
        # Version 1 refused dependencies and Python packages: nothing else can be in its manifests.
        facts = {"requires_runtime": _requires_runtime(extension, version, manifest)}
        connection.execute(
            text("UPDATE releases SET facts = :facts WHERE extension = :extension AND version = :version"),
            {"facts": json.dumps(facts), "extension": extension, "version": version},
        )


def _from_2(connection: Connection) -> None:
    """Entries of the audit are found by their operation: what is applied once is looked up there."""
    connection.exec_driver_sql("CREATE INDEX audit_operation ON audit (operation)")


def _requires_runtime(extension: str, version: str, manifest: bytes) -> str:
    try:
        return str(tomllib.loads(manifest.decode()).get("requires_runtime", ""))
    except ValueError as error:
        raise StoreFailed(
            f"the store holds no readable manifest of {extension} {version}: {error}",
            fix="put the state home's last good copy back; this one was left as it was",
        ) from error


_TO_2 = """
ALTER TABLE runtime ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
ALTER TABLE releases ADD COLUMN facts JSON NOT NULL DEFAULT '{}';
ALTER TABLE releases ADD COLUMN yanked_reason TEXT;
ALTER TABLE releases ADD COLUMN updated_at FLOAT NOT NULL DEFAULT 0;
UPDATE releases SET updated_at = created_at;
CREATE TABLE generations (extension VARCHAR NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (extension));
INSERT INTO generations (extension, last) SELECT extension, last_generation FROM installations;
ALTER TABLE installations DROP COLUMN last_generation;
ALTER TABLE installations ADD COLUMN lock TEXT;
CREATE TABLE claims (
    kind VARCHAR NOT NULL, name VARCHAR NOT NULL, extension VARCHAR NOT NULL,
    PRIMARY KEY (kind, name), FOREIGN KEY (extension) REFERENCES installations (extension)
);
CREATE TABLE operations (
    number INTEGER NOT NULL, operation VARCHAR NOT NULL, verb VARCHAR NOT NULL, subject VARCHAR NOT NULL,
    plan BLOB NOT NULL, before BLOB NOT NULL, step INTEGER NOT NULL, outcome VARCHAR, detail JSON NOT NULL,
    created_at FLOAT NOT NULL, updated_at FLOAT NOT NULL,
    PRIMARY KEY (number), UNIQUE (operation)
);
CREATE TABLE audit (
    number INTEGER NOT NULL, at FLOAT NOT NULL, operation VARCHAR, actor VARCHAR NOT NULL,
    verb VARCHAR NOT NULL, extension VARCHAR, version VARCHAR, outcome VARCHAR NOT NULL, detail JSON NOT NULL,
    PRIMARY KEY (number)
)
"""

#: By the version that each starts from; each runs in one transaction, which also counts the version up.
MIGRATIONS: Mapping[int, Callable[[Connection], None]] = {1: _from_1, 2: _from_2}
