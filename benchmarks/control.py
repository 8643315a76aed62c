"""What the control API serves with many extensions loaded: requests per second, and their latency.

    python benchmarks/control.py [--count N] [--seconds S] [--json FILE]

Clients keep their connections to the Unix socket open and ask one after the other, 1 and 16 of them at a time. The
baseline is a raw call to the registry actor that does nothing (`ping`), from the same process, in turn with the others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from harness import (
    RESULTS,
    Load,
    Row,
    StartCall,
    benchmark_runtime,
    closed_loop,
    load_of,
    print_rows,
    print_table,
    write_json,
)
from many import install_all

from ray_ext.calling.names import REGISTRY_NAME
from ray_ext.client.runtime import Runtime

IN_FLIGHT = (1, 16)
BASELINE = "raw Ray call: the registry's ping"


class Connection:
    """One kept connection; asks one thing at a time."""

    def __init__(self, socket: Path, head: str, body: bytes) -> None:
        self._socket = socket
        length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        self._request = f"{head} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n".encode() + body
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> bytes:
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(self._socket, limit=1 << 24)
        reader, writer = self._streams
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if " 200 " not in head.partition("\r\n")[0]:
            raise RuntimeError(head)
        size = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        return await reader.readexactly(size)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


class Clients:
    """As many connections as are in flight, each used by one call at a time."""

    def __init__(self, socket: Path, in_flight: int, head: str, body: bytes = b"") -> None:
        self._all = [Connection(socket, head, body) for _ in range(in_flight)]
        self._free = list(self._all)

    async def ask(self) -> bytes:
        connection = self._free.pop()
        try:
            return await connection.ask()
        finally:
            self._free.append(connection)

    def close(self) -> None:
        for each in self._all:
            each.close()


async def await_socket(socket: Path) -> None:
    """The control actor of an embedded runtime starts in the background."""
    give_up = time.monotonic() + 60
    while True:
        client = Connection(socket, "GET /v1/control", b"")
        try:
            await client.ask()
        except OSError:
            if time.monotonic() > give_up:
                raise
            await asyncio.sleep(0.05)
        else:
            return
        finally:
            client.close()


async def load(call: StartCall, in_flight: int, seconds: float) -> Load:
    await closed_loop(call, in_flight, 0.3)
    return load_of(*await closed_loop(call, in_flight, seconds))


async def measure_all(runtime: Runtime, one: str, seconds: float) -> dict[str, dict[str, Load]]:
    socket = runtime.home / "run" / "control.sock"
    await await_socket(socket)
    registry: Any = ray.get_actor(REGISTRY_NAME, namespace=runtime.namespace)
    body = json.dumps({"args": [0.0]}).encode()
    requests = {
        "GET /v1/control": ("GET /v1/control", b""),
        "GET /v1/extensions/{id}": (f"GET /v1/extensions/{one}", b""),
        "GET /v1/extensions": ("GET /v1/extensions", b""),
        "GET /v1/status": ("GET /v1/status", b""),
        "POST …/methods/slow": (f"POST /v1/extensions/{one}/methods/slow", body),
    }
    found: dict[str, dict[str, Load]] = {}
    for in_flight in IN_FLIGHT:
        key = str(in_flight)
        found.setdefault(BASELINE, {})[key] = await load(registry.ping.remote, in_flight, seconds)
        for name, (head, content) in requests.items():
            clients = Clients(socket, in_flight, head, content)
            found.setdefault(name, {})[key] = await load(clients.ask, in_flight, seconds)
            clients.close()
    return found


def measure(count: int, seconds: float) -> dict[str, dict[str, Load]]:
    with benchmark_runtime() as (runtime, scratch):
        names = [f"control-{number}" for number in range(count)]
        install_all(runtime, scratch, names)
        for name in names:
            runtime.load(name)
        return asyncio.run(measure_all(runtime, names[0], seconds))


def cells(name: str, found: Load, raw: Load) -> list[str]:
    figures = f"{found.throughput:.0f}", f"{found.p50_ms:.1f}", f"{found.p99_ms:.1f}"
    return [name, *figures, f"{found.throughput / raw.throughput:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=50, help="extensions that are loaded; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each cell; default: %(default)s")
    parser.add_argument("--json", type=Path, default=RESULTS / "control.json", help="default: %(default)s")
    arguments = parser.parse_args()
    found = measure(arguments.count, arguments.seconds)
    for in_flight in map(str, IN_FLIGHT):
        raw = found[BASELINE][in_flight]
        print_table(
            f"{arguments.count} extensions loaded, {in_flight} in flight",
            ["what", "per second", "p50 ms", "p99 ms", "x raw"],
            [cells(name, loads[in_flight], raw) for name, loads in found.items()],
        )
    listed = found["GET /v1/extensions"]["1"]
    rows = [Row(f"GET /v1/extensions of {arguments.count}, p99", None, None, listed.p99_ms, "ms")]
    print_rows(rows)
    plain = {name: {key: asdict(each) for key, each in loads.items()} for name, loads in found.items()}
    write_json(arguments.json, {"count": arguments.count, "loads": plain}, rows)


if __name__ == "__main__":
    main()
