"""The part of the store that knows generations, their routes and their tombstones."""

from __future__ import annotations

from msgspec import structs
from sqlalchemy import delete, func, insert, select, update

from ray_ext.store.installations import find_installation, not_installed
from ray_ext.store.records import StoredRoute, Tombstone
from ray_ext.store.schema import generations, routes, runtime, tombstones
from ray_ext.store.transactions import Transactions

__all__ = ["RouteStore"]


class RouteStore(Transactions):
    """Generations and epochs only grow, whatever else happens."""

    def next_generation(self, extension: str) -> int:
        """A generation that no instance of the extension ever had; raises ExtensionNotFound when it is not
        installed."""
        with self._write("next-generation", f"count a generation of {extension}") as connection:
            if find_installation(connection, extension) is None:
                raise not_installed(connection, extension)
            mine = generations.c.extension == extension
            connection.execute(update(generations).where(mine).values(last=generations.c.last + 1))
            return int(connection.execute(select(generations.c.last).where(mine)).scalar_one())

    def next_epoch(self) -> int:
        """The epoch of the next change of the routing table; gaps are harmless, going back is not."""
        with self._write("next-epoch", "count an epoch") as connection:
            connection.execute(update(runtime).values(route_epoch=runtime.c.route_epoch + 1))
            return int(connection.execute(select(runtime.c.route_epoch)).scalar_one())

    def put_route(self, route: StoredRoute) -> None:
        """Make this the extension's route."""
        with self._write("put-route", f"route {route.extension}") as connection:
            connection.execute(delete(routes).where(routes.c.extension == route.extension))
            connection.execute(insert(routes).values(structs.asdict(route)))

    def retire(self, tombstone: Tombstone) -> None:
        """Bury a generation: its tombstone is set and its route, if it is still the route, taken away."""
        with self._write("retire", f"retire {tombstone.extension} generation {tombstone.generation}") as connection:
            connection.execute(
                delete(routes).where(
                    routes.c.extension == tombstone.extension, routes.c.generation == tombstone.generation
                )
            )
            key = (
                tombstones.c.extension == tombstone.extension,
                tombstones.c.generation == tombstone.generation,
            )
            if connection.execute(select(tombstones).where(*key)).one_or_none() is None:
                values = structs.asdict(tombstone) | {"cause": tombstone.cause[:2000]}
                connection.execute(insert(tombstones).values(values))

    def list_routes(self) -> list[StoredRoute]:
        """The routing table."""
        with self._read("list routes") as connection:
            return [StoredRoute(**row._mapping) for row in connection.execute(select(routes))]

    def last_tombstone(self, extension: str) -> Tombstone | None:
        """How the latest retired generation ended."""
        with self._read("read a tombstone") as connection:
            row = connection.execute(
                select(tombstones)
                .where(tombstones.c.extension == extension)
                .order_by(tombstones.c.generation.desc())
                .limit(1)
            ).one_or_none()
            return None if row is None else Tombstone(**row._mapping)

    def last_tombstones(self) -> dict[str, Tombstone]:
        """The same of all extensions, by extension."""
        last = (
            select(tombstones.c.extension, func.max(tombstones.c.generation).label("generation"))
            .group_by(tombstones.c.extension)
            .subquery()
        )
        is_last = (tombstones.c.extension == last.c.extension) & (tombstones.c.generation == last.c.generation)
        with self._read("read the last tombstones") as connection:
            rows = connection.execute(select(tombstones).join(last, is_last))
            return {row.extension: Tombstone(**row._mapping) for row in rows}
