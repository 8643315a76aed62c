"""``up``, ``down`` and ``status``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import click

from ray_ext.cli.joining import join_runtime
from ray_ext.cli.output import json_option, note, print_json, print_table, time_text
from ray_ext.client.record import RuntimeLock, RuntimeRecord, read_record
from ray_ext.errors import RuntimeConflict, RuntimeUnreachable
from ray_ext.home import Home

if TYPE_CHECKING:
    from ray_ext.control.views import NodeStatus

__all__ = ["down_command", "status_command", "up_command"]

#: How long a start may take, in seconds.
_UP_S = 120.0
#: How long an orderly end may take before it is enforced, in seconds.
_DOWN_S = 60.0


@click.command("up")
@click.option(
    "--spares",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    metavar="N",
    help="How many hosts are kept ready, so that loading is fast.",
)
@json_option
def up_command(spares: int, as_json: bool) -> None:
    """Start the runtime: Ray, the registry, and every extension that was loaded.

    A runtime that is up already is left as it is.
    """
    home = Home.default()
    home.ensure()
    record = read_record(home)
    if record is None:
        record = _start(home, spares)
        note("The runtime is up.")
    else:
        note("The runtime is already up.")
    if as_json:
        print_json("runtime", record)
        return
    print_table(
        ("what", "where"),
        [
            ("state home", str(home.root)),
            ("logs", str(home.logs)),
            ("ray", record.address),
            ("namespace", record.namespace),
            ("dashboard", f"http://{record.dashboard}" if record.dashboard else "none (embedded)"),
            ("keeper", f"pid {record.pid}"),
        ],
    )


def _start(home: Home, spares: int) -> RuntimeRecord:
    folder = home.logs / "system"
    folder.mkdir(mode=0o700, exist_ok=True)
    log = folder / "keeper.log"
    note("Starting …")
    with log.open("wb") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "ray_ext.client.keeper", str(home.root), str(spares)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    give_up = time.monotonic() + _UP_S
    while time.monotonic() < give_up:
        record = read_record(home)
        if record is not None:
            return record
        if keeper.poll() is not None:
            break
        time.sleep(0.1)
    keeper.kill()
    tail = log.read_text(errors="replace").strip()[-3000:]
    raise RuntimeUnreachable(
        "the runtime did not start" + (f":\n{tail}" if tail else ""),
        where=str(log),
        fix="see the log; a Ray that is left over is ended by: ray-ext down",
        details={"home": str(home.root)},
    )


@click.command("down")
def down_command() -> None:
    """End the runtime that `up` started, and every process of it. What is loaded is loaded again by the next `up`."""
    home = Home.default()
    record = read_record(home)
    if record is not None and record.kind != "up":
        raise RuntimeConflict(
            f"the runtime of this state home is embedded in process {record.pid}",
            where=str(home.root),
            fix="end that process, or let it call runtime.close()",
            details={"home": str(home.root), "pid": record.pid},
        )
    was_up = record is not None
    if record is not None:
        _end(home, record.pid)
    from ray_ext.client.boot import end_leftovers

    end_leftovers(home)
    note("The runtime is down." if was_up else "No runtime is up.")


def _end(home: Home, pid: int) -> None:
    lock = RuntimeLock(home)
    os.kill(pid, signal.SIGTERM)
    give_up = time.monotonic() + _DOWN_S
    while lock.is_held_elsewhere():
        if time.monotonic() > give_up:
            note("It does not end by itself: ending it now.")
            os.kill(pid, signal.SIGKILL)
            give_up = time.monotonic() + _DOWN_S
        time.sleep(0.05)


def _node_text(node: NodeStatus) -> str:
    zygote = "no zygote" if node.zygote_pid is None else f"zygote {node.zygote_pid}"
    return f"pid {node.pid}, {zygote} (replaced {node.zygote_restarts} times)"


@click.command("status")
@json_option
def status_command(as_json: bool) -> None:
    """What runs, and where it differs from what should. Exit status 1 when no runtime is up."""
    with join_runtime() as runtime:
        status = runtime.status()
    if as_json:
        print_json("status", status)
        return
    print_table(
        ("what", "value"),
        [
            ("version", status.version),
            ("state home", status.home),
            ("namespace", status.namespace),
            ("registry", f"pid {status.registry_pid}, writer epoch {status.writer_epoch}"),
            ("spare hosts", f"{status.spare_hosts} ready"),
            ("since", time_text(status.started_at)),
            *(("node agent", _node_text(node)) for node in status.nodes),
        ],
    )
    if status.extensions:
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
                for each in status.extensions
            ],
        )
