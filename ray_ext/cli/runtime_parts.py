"""The parts of a runtime: waited for, and shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from ray_ext.cli.output import answer, print_table, time_text

if TYPE_CHECKING:
    from ray_ext.control.addresses import Address
    from ray_ext.control.views import ActorView, StatusView
    from ray_ext.home import Home
    from ray_ext.runtime_record import RuntimeRecord

__all__ = ["await_parts", "print_parts", "print_status", "runtime_status"]

#: How long a control actor that is being restarted is waited for before the rest is told without it, in seconds.
_PATIENCE_S = 2.0


def await_parts(home: Home, record: RuntimeRecord, on_phase: Callable[[str], None]) -> StatusView:
    """The status as soon as every system actor answers. Raises RuntimeUnreachable when one does not in time."""
    from ray_ext.client.starting import START_S
    from ray_ext.errors import RuntimeUnreachable

    give_up = time.monotonic() + START_S
    while True:
        status = _status_at(home, record)
        away = [each for each in status.actors if each.state == "away"]
        if not away:
            return status
        on_phase(", ".join(each.name for each in away))
        if time.monotonic() > give_up or not _is_kept(home, record):
            raise RuntimeUnreachable(
                "the runtime did not come up: " + "; ".join(f"{each.name} is away ({each.detail})" for each in away),
                where=str(home.logs / "system"),
                fix="see the logs there, then: ray-ext up",
                details={"home": str(home.root)},
            )
        time.sleep(0.1)


def _is_kept(home: Home, record: RuntimeRecord) -> bool:
    from ray_ext.runtime_record import read_record

    current = read_record(home)
    return current is not None and current.pid == record.pid


def runtime_status() -> StatusView:
    """The status by the control API, or what can be said without it. Raises RuntimeUnreachable when nothing is up."""
    from ray_ext.control.addresses import HomeAddress, configured_address
    from ray_ext.errors import RuntimeUnreachable
    from ray_ext.home import Home
    from ray_ext.runtime_record import read_record

    address = configured_address()
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return _asked(address)
        except RuntimeUnreachable:
            if address.absence("") is not None:
                raise
            if time.monotonic() > give_up:
                home = Home.default()
                # Of a runtime that is reached by TCP nothing else is known here.
                record = read_record(home) if isinstance(address, HomeAddress) else None
                if record is None:
                    raise
                return _partial(home, record)
        time.sleep(0.1)


def _status_at(home: Home, record: RuntimeRecord) -> StatusView:
    from ray_ext.control.addresses import HomeAddress
    from ray_ext.errors import RuntimeUnreachable

    try:
        return _asked(HomeAddress(home))
    except RuntimeUnreachable:
        return _partial(home, record)


def _asked(address: Address) -> StatusView:
    from ray_ext.control.remote import RemoteRuntime
    from ray_ext.control.transport import Transport

    with RemoteRuntime(Transport(address, patience_s=0.0)) as runtime:
        return runtime.status()


def _partial(home: Home, record: RuntimeRecord) -> StatusView:
    """What the state home itself tells, while the control actor is away."""
    import ray_ext
    from ray_ext.control.differences import differences
    from ray_ext.control.views import ActorView, StatusView

    actors = [
        ActorView(name="keeper", state="answers", pid=record.pid),
        ActorView(
            name="control",
            state="away",
            pid=None,
            detail="nothing else is known without it; if it stays away: ray-ext down && ray-ext up",
        ),
    ]
    return StatusView(
        version=ray_ext.__version__,
        kind=record.kind,
        home=str(home.root),
        logs=str(home.logs),
        namespace=record.namespace,
        address=record.address,
        dashboard=f"http://{record.dashboard}" if record.dashboard else "",
        control=None,
        actors=actors,
        runtime=None,
        differences=differences(actors, None),
    )


def print_parts(status: StatusView) -> None:
    """What runs where, as ``up`` ends with it."""
    answer("status", status, lambda: print_table(("what", "where"), _places(status)))


def print_status(status: StatusView) -> None:
    """All of it, with what differs from what should be."""
    runtime = status.runtime
    rows = [("version", status.version), *_places(status)]
    if runtime is not None:
        rows.append(("spare hosts", f"{runtime.spare_hosts} of {runtime.spare_hosts_wanted} ready"))
        rows.append(("since", time_text(runtime.started_at)))
    print_table(("what", "value"), rows)
    if runtime is not None and runtime.extensions:
        click.echo()
        print_table(
            ("extension", "desired", "state", "generation", "why"),
            [
                (
                    each.id,
                    each.desired,
                    each.state,
                    "" if each.generation is None else str(each.generation),
                    each.reason,
                )
                for each in runtime.extensions
            ],
        )
    click.echo()
    if status.differences:
        print_table(("difference",), [(each,) for each in status.differences])
    else:
        click.echo("Everything is as it should be.")


def _places(status: StatusView) -> list[tuple[str, str]]:
    from pathlib import Path

    from ray_ext.control.socket_file import socket_path

    listen = status.control.listen if status.control is not None else ""
    dashboard = status.dashboard or ("none (embedded)" if status.kind == "embedded" else "the cluster's own")
    return [
        ("state home", status.home),
        ("logs", status.logs),
        ("socket", str(socket_path(Path(status.home) / "run"))),
        *([("listens at", listen)] if listen else []),
        ("dashboard", dashboard),
        ("ray", status.address),
        ("namespace", status.namespace),
        *((each.name, _actor_text(each)) for each in status.actors),
    ]


def _actor_text(actor: ActorView) -> str:
    text = "away" if actor.state == "away" else f"pid {actor.pid}"
    return f"{text}, {actor.detail}" if actor.detail else text
