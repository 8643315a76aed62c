"""What it takes to have many extensions loaded on one machine: time, memory, processor, and whether all of them answer.

    python benchmarks/many.py [--count N] [--calls N] [--json FILE]

Installs and loads them one after the other, calls all of them at once, and lists them. Memory is PSS (Linux
``smaps_rollup``) of hosts, and of guests with their stubs, after the calls; what the runtime itself takes is beside it.
The baseline is as many bare Ray actors with the same calls, before the extensions in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from harness import RESULTS, Row, benchmark_runtime, extension_folder, median, print_rows, print_table, write_json
from memory import BODY, MIB, Echo, Loaded, Memory, call_all, mean, memory_of, memory_of_extension

from ray_ext.client.runtime import Runtime

IDLE_S = 10.0
LISTS = 9


@dataclass(frozen=True)
class Crowd:
    """What was measured of as many extensions, or bare actors; times in seconds."""

    starts_s: list[float]
    call_all_s: float
    memory: list[Memory]
    idle_cpu_s: float


@dataclass(frozen=True)
class Report:
    """Everything; ``services`` are the registry, the node agent and the zygote."""

    bare: Crowd
    extensions: Crowd
    parts: list[Loaded]
    install_s: float
    services: Memory
    list_s: list[float]
    cli_list_s: list[float]


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def cpu_s(pids: Sequence[int]) -> float:
    """The processor time that processes have used."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def idle_cpu_s(pids: Sequence[int]) -> float:
    """What they use of it in :data:`IDLE_S` seconds without calls."""
    before = cpu_s(pids)
    time.sleep(IDLE_S)
    return cpu_s(pids) - before


def call_each_once(handles: Sequence[Any], actors: Sequence[Any]) -> float:
    async def run() -> None:
        answers = await asyncio.gather(
            *[each.echo(BODY) for each in handles], *[each.echo.remote(BODY) for each in actors]
        )
        if answers != [BODY] * len(answers):
            raise RuntimeError("an answer is wrong")

    return timed(lambda: asyncio.run(run()))


def measure_bare(count: int, calls: int) -> Crowd:
    actors: list[Any] = []

    def start() -> None:
        actors.append(ray.remote(Echo).options(num_cpus=0, max_concurrency=1000).remote())
        ray.get(actors[-1].echo.remote(BODY))

    starts_s = [timed(start) for _ in range(count)]
    asyncio.run(call_all(calls, [], actors))
    pids = ray.get([actor.pid.remote() for actor in actors])
    crowd = Crowd(starts_s, call_each_once([], actors), list(map(memory_of, pids)), idle_cpu_s(pids))
    for actor in actors:
        ray.kill(actor)
    return crowd


def install_all(runtime: Runtime, scratch: Path, names: Sequence[str]) -> None:
    for name in names:
        folder = extension_folder(scratch, name)
        manifest = folder / "extension.toml"
        head, _, _ = manifest.read_text().partition("[resources]")
        # Ray admits as many as the machine has room for; these are idle most of the time.
        manifest.write_text(f'{head}[resources]\ncpus = 0.01\nmemory = "64MiB"\n')
        runtime.install(folder, load=False)


def measure_extensions(runtime: Runtime, scratch: Path, bare: Crowd, calls: int) -> Report:
    names = [f"many-{number}" for number in range(len(bare.starts_s))]
    install_s = timed(partial(install_all, runtime, scratch, names))
    starts_s = [timed(partial(runtime.load, name)) for name in names]
    handles = [runtime.extension(name) for name in names]
    asyncio.run(call_all(calls, handles, []))
    instances = [each for name in names if (each := runtime.show(name).instance) is not None]
    parts = [memory_of_extension(each) for each in instances]
    pids = [pid for each in instances for pid in (each.host_pid, each.guest_pid, each.stub_pid) if pid is not None]
    status = runtime.status()
    services = [status.registry_pid, status.nodes[0].pid, status.nodes[0].zygote_pid]
    environment = {**os.environ, "RAY_EXT_HOME": str(runtime.home)}
    command = [str(Path(sys.executable).parent / "ray-ext"), "list"]
    return Report(
        bare=bare,
        extensions=Crowd(starts_s, call_each_once(handles, []), [each.total for each in parts], idle_cpu_s(pids)),
        parts=parts,
        install_s=install_s,
        services=sum((memory_of(pid) for pid in services if pid is not None), start=Memory(0, 0)),
        list_s=[timed(runtime.list) for _ in range(LISTS)],
        cli_list_s=[
            timed(lambda: subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL))
            for _ in range(LISTS)
        ],
    )


def measure(count: int, calls: int) -> Report:
    with benchmark_runtime() as (runtime, scratch):
        return measure_extensions(runtime, scratch, measure_bare(count, calls), calls)


def table_of(report: Report) -> list[list[str]]:
    """What it takes, of the extensions and of as many bare actors."""

    def row(what: str, of: Callable[[Crowd], float], form: str) -> list[str]:
        ours, bare = of(report.extensions), of(report.bare)
        return [what, format(ours, form), format(bare, form), f"{ours / bare:.2f}"]

    def total_mib(crowd: Crowd) -> float:
        return sum(each.pss_bytes for each in crowd.memory) / MIB

    return [
        row("start all, one after the other, s", lambda crowd: sum(crowd.starts_s), ".1f"),
        row("start one, median of the first ten, s", lambda crowd: median(crowd.starts_s[:10]), ".2f"),
        row("start one, median of the last ten, s", lambda crowd: median(crowd.starts_s[-10:]), ".2f"),
        row("one call to each at once, ms", lambda crowd: crowd.call_all_s * 1e3, ".0f"),
        row("PSS of all, MiB", total_mib, ".0f"),
        row("PSS of one, MiB", lambda crowd: mean(crowd.memory)[0], ".1f"),
        row("processor while idle, % of one", lambda crowd: crowd.idle_cpu_s / IDLE_S * 100, ".1f"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=50, help="how many; default: %(default)s")
    parser.add_argument("--calls", type=int, default=100, help="calls to each; default: %(default)s")
    parser.add_argument("--json", type=Path, default=RESULTS / "many.json", help="default: %(default)s")
    arguments = parser.parse_args()
    report = measure(arguments.count, arguments.calls)
    if len(report.parts) != arguments.count:
        raise RuntimeError(f"only {len(report.parts)} of {arguments.count} extensions are loaded")
    print_table(
        f"{arguments.count} loaded, after {arguments.calls} calls each",
        ["what", "extensions", "bare actors", "x"],
        table_of(report),
    )
    host, guest = (mean([getattr(each, part) for each in report.parts])[0] for part in ("host", "guest"))
    once = [
        ["install all, unloaded, s", f"{report.install_s:.1f}"],
        ["PSS of a host, MiB", f"{host:.1f}"],
        ["PSS of a guest with its stub, MiB", f"{guest:.1f}"],
        ["PSS of registry, node agent and zygote, MiB", f"{report.services.pss_bytes / MIB:.0f}"],
        ["runtime.list(), ms", f"{median(report.list_s) * 1e3:.0f}"],
    ]
    print_table("and", ["what", "measured"], once)
    rows = [
        Row(f"PSS per extension of {arguments.count}", None, 50, mean(report.extensions.memory)[0] * MIB / 1e6, "MB"),
        Row("ray-ext list, whole process", 0.4, 0.15, median(report.cli_list_s), "s"),
    ]
    print_rows(rows)
    write_json(arguments.json, {"count": arguments.count, "calls": arguments.calls, **asdict(report)}, rows)


if __name__ == "__main__":
    main()
