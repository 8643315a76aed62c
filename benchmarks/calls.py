"""How fast calls to extensions are, against calls to Ray actors in the same run.

    python benchmarks/calls.py [--rounds N] [--quick] [--json FILE]

A machine's speed drifts more within a run than what is compared differs, so every round visits all variants in turn in
short slices (six times what design §11 asks about). What counts is the median of the ratios, each within one pass, to
the raw async actor with the same body and as many calls in flight. Latencies are those of a closed loop.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
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
    extension_folder,
    load_of,
    median,
    print_rows,
    print_table,
    write_json,
)

BASELINE = "raw async"
VARIANTS = [BASELINE, "raw sync", "strict .remote()", "strict await", "trusted .remote()", "trusted await"]
MIX_VARIANTS = [BASELINE, "strict .remote()", "strict await", "trusted await"]
PROCESS_VARIANTS = [BASELINE, "strict .remote()", "strict await", "trusted await"]
SIZES = {"100 B": 100, "10 kB": 10_000, "1 MB": 1_000_000}
IN_FLIGHT = {"100 B": (1, 16, 64, 256), "10 kB": (1, 16, 64, 256), "1 MB": (1, 16, 64, 256)}

#: What design §11 asks about is visited so often in each round, because a few pairs of slices scatter by a quarter.
ASKED_VISITS = 6
ASKED = {("echo", "100 B", 1), ("echo", "100 B", 64)}

MIX_IN_FLIGHT = 64
#: Every 200th call of the mix takes this long, in seconds: 0.5 % (design §11).
MIX_SLOW_EVERY = 200
MIX_SLOW_S = 0.5
#: Without slow calls; 64 in flight in all, some of them slow; 64 fast ones in flight all the time, slow ones besides.
MIXES = ["none slow", "some slow", "slow besides"]

#: 256 arguments and results of 1 MB at the same time are in a guest.
_MEMORY = "1GiB"

CALLERS = 8
CALLER_IN_FLIGHT = 8


@dataclass(frozen=True)
class Plan:
    """How long it takes, in rounds and seconds."""

    rounds: int
    slice_s: float
    mix_slice_s: float
    sizes: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One thing that every round measures."""

    section: str
    load: str
    in_flight: int
    variant: str


#: Of every cell, one load per visit; the visits of a group that is compared are in the same order.
Measured = dict[Cell, list[Load]]


class Echo:
    """The raw actor: what an orchestrator would write without us."""

    async def echo(self, value: bytes) -> bytes:
        return value

    async def slow(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds


class SyncEcho:
    """The raw actor without an event loop: Ray's default."""

    def echo(self, value: bytes) -> bytes:
        return value


def starter(target: Any, variant: str, method: str, argument: object) -> StartCall:
    """Starts a call of the variant. Attributes are looked up in each call, as an orchestrator's code does it."""
    if variant.endswith("await"):
        return lambda: getattr(target, method)(argument)
    return lambda: getattr(target, method).remote(argument)


class Caller:
    """One of several processes that call at the same time."""

    def __init__(self, targets: dict[str, Any], body: bytes) -> None:
        self._calls = {variant: starter(target, variant, "echo", body) for variant, target in targets.items()}

    async def run(self, variant: str, begin_at: float, seconds: float) -> tuple[list[float], float]:
        """A closed loop that begins at the wall clock's ``begin_at``."""
        await asyncio.sleep(max(0.0, begin_at - time.time()))
        return await closed_loop(self._calls[variant], CALLER_IN_FLIGHT, seconds)


async def measure_echo(call: StartCall, in_flight: int, seconds: float) -> Load:
    return load_of(*await closed_loop(call, in_flight, seconds))


async def measure_mix(fast: StartCall, slow: StartCall, mix: str, seconds: float) -> Load:
    """The fast calls of a mix."""
    clock = time.perf_counter
    latencies: list[float] = []
    aside: list[asyncio.Future[Any]] = []
    started = 0
    end = clock() + seconds

    async def work() -> None:
        nonlocal started
        now = clock()
        while now < end:
            started += 1
            if mix != "none slow" and started % MIX_SLOW_EVERY == 0:
                if mix == "some slow":
                    await slow()
                    now = clock()
                    continue
                aside.append(asyncio.ensure_future(slow()))
                now = clock()
            begun = now
            await fast()
            now = clock()
            latencies.append(now - begun)

    await asyncio.gather(*[work() for _ in range(MIX_IN_FLIGHT)])
    await asyncio.gather(*aside)
    return load_of(latencies, seconds)


async def measure_callers(callers: Sequence[Any], variant: str, seconds: float) -> Load:
    begin_at = time.time() + 0.1
    runs = await asyncio.gather(*[caller.run.remote(variant, begin_at, seconds) for caller in callers])
    latencies = [latency for run, _ in runs for latency in run]
    return load_of(latencies, max(window for _, window in runs))


def cells_of(plan: Plan, targets: dict[str, Any], callers: Sequence[Any]) -> dict[Cell, Callable[[], Awaitable[Load]]]:
    """Everything that a round measures, in its order."""
    work: dict[Cell, Callable[[], Awaitable[Load]]] = {}
    for size in plan.sizes:
        for in_flight in IN_FLIGHT[size]:
            for variant in VARIANTS:
                call = starter(targets[variant], variant, "echo", b"x" * SIZES[size])
                work[Cell("echo", size, in_flight, variant)] = partial(measure_echo, call, in_flight, plan.slice_s)
    for variant in MIX_VARIANTS:
        fast = starter(targets[variant], variant, "echo", b"x" * 100)
        slow = starter(targets[variant], variant, "slow", MIX_SLOW_S)
        for mix in MIXES:
            cell = Cell("mix", mix, MIX_IN_FLIGHT, variant)
            work[cell] = partial(measure_mix, fast, slow, mix, plan.mix_slice_s)
    for variant in PROCESS_VARIANTS:
        cell = Cell("processes", f"{CALLERS} processes", CALLER_IN_FLIGHT, variant)
        work[cell] = partial(measure_callers, callers, variant, plan.slice_s)
    return work


def in_turn(cells: Sequence[Cell], number: int) -> list[Cell]:
    """The visits of a round: in each group that is compared, every pass begins with another variant."""
    groups: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in cells:
        # Of the mix, the loads of one variant are compared.
        key = (cell.section, cell.variant if cell.section == "mix" else cell.load, cell.in_flight)
        groups.setdefault(key, []).append(cell)
    visits = []
    for key, group in groups.items():
        passes = ASKED_VISITS if key in ASKED else 1
        for turn in range(number * passes, (number + 1) * passes):
            first = turn % len(group)
            visits += group[first:] + group[:first]
    return visits


async def measure(plan: Plan, targets: dict[str, Any], callers: Sequence[Any]) -> Measured:
    work = cells_of(plan, targets, callers)
    for variant in VARIANTS:
        await measure_echo(starter(targets[variant], variant, "echo", b"x" * 100), 64, plan.slice_s)
    for variant in PROCESS_VARIANTS:
        await measure_callers(callers, variant, plan.slice_s)
    measured: Measured = {cell: [] for cell in work}
    for number in range(plan.rounds):
        begun = time.monotonic()
        for cell in in_turn(list(work), number):
            measured[cell].append(await work[cell]())
        print(f"round {number + 1} of {plan.rounds}: {time.monotonic() - begun:.0f} s", flush=True)
    return measured


def ratio(measured: Measured, cell: Cell, base: Cell, field: str) -> float | None:
    """The median of the ratios within a pass; None when it was not measured."""
    pairs = zip(measured.get(cell, []), measured.get(base, []), strict=True)
    ratios = [getattr(ours, field) / getattr(theirs, field) for ours, theirs in pairs]
    return median(ratios) if ratios else None


def base_of(cell: Cell) -> Cell:
    """What a cell is compared with: the raw actor under the same load; in the mix, itself without slow calls."""
    if cell.section == "mix":
        return Cell(cell.section, MIXES[0], cell.in_flight, cell.variant)
    return Cell(cell.section, cell.load, cell.in_flight, BASELINE)


def print_section(title: str, measured: Measured, section: str) -> None:
    rows = []
    for cell, loads in measured.items():
        if cell.section != section:
            continue
        row = [cell.variant, cell.load, str(cell.in_flight)]
        for field, form in (("throughput", ",.0f"), ("p50_ms", ".2f"), ("p99_ms", ".2f")):
            row.append(format(median([getattr(load, field) for load in loads]), form))
            row.append(f"{ratio(measured, cell, base_of(cell), field):.2f}")
        rows.append(row)
    print_table(title, ["variant", "load", "in flight", "calls/s", "x", "p50 ms", "x", "p99 ms", "x"], rows)


def design_rows(measured: Measured) -> list[Row]:
    """The rows on calls of design §11."""

    def echo(variant: str, in_flight: int, field: str) -> float | None:
        cell = Cell("echo", "100 B", in_flight, variant)
        return ratio(measured, cell, base_of(cell), field)

    mixed = Cell("mix", "some slow", MIX_IN_FLIGHT, "strict await")
    besides = Cell("mix", "slow besides", MIX_IN_FLIGHT, "strict await")
    return [
        Row("await, strict, 1 in flight: p50 / raw", 1.3, 1.1, echo("strict await", 1, "p50_ms"), "x"),
        Row("await, strict, 64 in flight: calls/s / raw", 6, 12, echo("strict await", 64, "throughput"), "x", True),
        Row("0.5 % slow, 64 in flight in all: fast p99 / none slow", 2, 1.2, _p99(measured, mixed), "x"),
        Row("0.5 % slow, besides 64 fast: fast p99 / none slow", 2, 1.2, _p99(measured, besides), "x"),
        Row(
            ".remote(), strict, 64 in flight: calls/s / raw", 0.8, 0.95, echo(VARIANTS[2], 64, "throughput"), "x", True
        ),
        Row(".remote(), strict, 1 in flight: calls/s / raw", 0.8, 0.95, echo(VARIANTS[2], 1, "throughput"), "x", True),
    ]


def _p99(measured: Measured, cell: Cell) -> float | None:
    return ratio(measured, cell, base_of(cell), "p99_ms")


def start_callers(targets: dict[str, Any]) -> list[Any]:
    theirs = {variant: targets[variant] for variant in PROCESS_VARIANTS}
    actor = ray.remote(Caller).options(num_cpus=0)
    return [actor.remote(theirs, b"x" * 100) for _ in range(CALLERS)]


def run(plan: Plan) -> Measured:
    with benchmark_runtime() as (runtime, scratch):
        runtime.install(extension_folder(scratch, "strict-echo", memory=_MEMORY), grant="requested")
        runtime.install(
            extension_folder(scratch, "trusted-echo", isolation="trusted", memory=_MEMORY), grant="requested"
        )
        strict, trusted = runtime.extension("strict-echo"), runtime.extension("trusted-echo")
        targets: dict[str, Any] = {
            BASELINE: ray.remote(Echo).options(num_cpus=0, max_concurrency=1000).remote(),
            "raw sync": ray.remote(SyncEcho).options(num_cpus=0).remote(),
            "strict .remote()": strict,
            "strict await": strict,
            "trusted .remote()": trusted,
            "trusted await": trusted,
        }
        return asyncio.run(measure(plan, targets, start_callers(targets)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, help="default: 5, or 2 with --quick")
    parser.add_argument("--quick", action="store_true", help="short slices and small bodies only: does it work?")
    parser.add_argument("--json", type=Path, default=RESULTS / "calls.json", help="default: %(default)s")
    arguments = parser.parse_args()
    if arguments.quick:
        plan = Plan(arguments.rounds or 2, 0.15, 0.8, ("100 B",))
    else:
        plan = Plan(arguments.rounds or 5, 0.4, 1.5, tuple(SIZES))
    measured = run(plan)
    print_section("echo; x is the ratio to the raw async actor with the same load", measured, "echo")
    print_section("fast calls of the mix; x is the ratio to the same without slow calls", measured, "mix")
    print_section("several caller processes; x is the ratio to the raw async actor", measured, "processes")
    rows = design_rows(measured)
    print_rows(rows)
    cells = [{**asdict(cell), "visits": [asdict(load) for load in loads]} for cell, loads in measured.items()]
    write_json(arguments.json, {"plan": asdict(plan), "cells": cells}, rows)


if __name__ == "__main__":
    main()
