"""What a loaded extension costs in memory, against a bare Ray actor in the same run.

    python benchmarks/memory.py [--count N] [--calls N] [--json FILE]

PSS (Linux ``smaps_rollup``: private pages, and each shared page divided by the processes that share it) of the host
with its guest and the stub between them; after the same number of calls to each. Run it as
root, for guests are not dumpable.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from harness import RESULTS, Row, benchmark_runtime, extension_folder, print_rows, print_table, write_json

from ray_ext.control.views import InstanceStatus

BODY = b"x" * 100
MIB = 1024 * 1024


@dataclass(frozen=True)
class Memory:
    """Of one process, in bytes."""

    pss_bytes: int
    uss_bytes: int

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.pss_bytes + other.pss_bytes, self.uss_bytes + other.uss_bytes)


@dataclass(frozen=True)
class Loaded:
    """One extension: its host, and its guest with the stub."""

    host: Memory
    guest: Memory
    processes: int

    @property
    def total(self) -> Memory:
        return self.host + self.guest


class Echo:
    """The bare actor."""

    async def echo(self, value: bytes) -> bytes:
        return value

    async def pid(self) -> int:
        return os.getpid()


def memory_of(pid: int) -> Memory:
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        fields[name] = int(value.split()[0]) * 1024
    return Memory(fields["Pss"], fields["Private_Clean"] + fields["Private_Dirty"])


def memory_of_extension(instance: InstanceStatus) -> Loaded:
    """Its host, and its guest with the stub between them."""
    if instance.guest_pid is None:
        raise LookupError("an extension has no guest")
    below = [pid for pid in (instance.guest_pid, instance.stub_pid) if pid is not None]
    guest = sum((memory_of(pid) for pid in below), start=Memory(0, 0))
    return Loaded(memory_of(instance.host_pid), guest, 1 + len(below))


async def call_all(calls: int, handles: Sequence[Any], actors: Sequence[Any]) -> None:
    """The same calls to each: half of an extension's are awaited, half are made by ``.remote()``."""
    for number in range(calls):
        echoes: list[Any] = [actor.echo.remote(BODY) for actor in actors]
        echoes += [handle.echo(BODY) if number % 2 else handle.echo.remote(BODY) for handle in handles]
        await asyncio.gather(*echoes)


def measure(count: int, calls: int) -> tuple[list[Loaded], list[Memory]]:
    with benchmark_runtime() as (runtime, scratch):
        names = [f"memory-{number}" for number in range(count)]
        for name in names:
            runtime.install(extension_folder(scratch, name))
        actors = [ray.remote(Echo).options(num_cpus=0, max_concurrency=1000).remote() for _ in names]
        asyncio.run(call_all(calls, [runtime.extension(name) for name in names], actors))
        bare_pids = ray.get([actor.pid.remote() for actor in actors])
        instances = [runtime.show(name).instance for name in names]
        loaded = [memory_of_extension(instance) for instance in instances if instance is not None]
        return loaded, [memory_of(pid) for pid in bare_pids]


def mean(memories: Sequence[Memory]) -> tuple[float, float]:
    """PSS and USS in MiB."""
    return (
        statistics.mean(memory.pss_bytes for memory in memories) / MIB,
        statistics.mean(memory.uss_bytes for memory in memories) / MIB,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=10, help="how many of each; default: %(default)s")
    parser.add_argument("--calls", type=int, default=100, help="calls to each; default: %(default)s")
    parser.add_argument("--json", type=Path, default=RESULTS / "memory.json", help="default: %(default)s")
    arguments = parser.parse_args()
    loaded, bare = measure(arguments.count, arguments.calls)
    if len(loaded) != arguments.count:
        raise RuntimeError(f"only {len(loaded)} of {arguments.count} extensions are loaded")
    parts = {
        "extension": [each.total for each in loaded],
        "  its host": [each.host for each in loaded],
        "  its guest, with the stub": [each.guest for each in loaded],
        "bare Ray async actor": bare,
    }
    table = [[name, *(f"{value:.1f}" for value in mean(memories))] for name, memories in parts.items()]
    print_table(
        f"mean of {arguments.count}, after {arguments.calls} calls each, MiB ({loaded[0].processes} processes each)",
        ["what", "PSS", "USS"],
        table,
    )
    total = mean(parts["extension"])[0]
    # The design's figures are in MB, which is 10^6 bytes.
    scale = MIB / 1e6
    more = (total - mean(bare)[0]) * scale
    rows = [
        Row("PSS per extension above a bare actor", 10, None, more, "MB"),
        Row("PSS per extension in all", None, 50, total * scale, "MB"),
    ]
    print_rows(rows)
    report = {
        "count": arguments.count,
        "calls": arguments.calls,
        "extensions": [asdict(each) for each in loaded],
        "bare_actors": [asdict(each) for each in bare],
    }
    write_json(arguments.json, report, rows)


if __name__ == "__main__":
    main()
