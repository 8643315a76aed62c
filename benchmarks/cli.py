"""How long a command takes, from the start of its process to its end.

    python benchmarks/cli.py [--rounds N] [--json FILE]

Times whole processes, taking turns: a bare interpreter, `ray-ext --version`, `list`, and `call` of an extension that is
warm. Beside them the same call awaited in a Python process that is connected, and a Python program that connects first.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness import (
    RESULTS,
    Row,
    benchmark_runtime,
    extension_folder,
    median,
    percentile,
    print_rows,
    print_table,
    write_json,
)

from ray_ext.client.runtime import Runtime

EXTENSION = "cli-bench"
CONNECTING = f"""
import asyncio, ray_ext
async def main(handle):
    await handle.slow(0.0)
with ray_ext.connect(is_embedding=False) as runtime:
    asyncio.run(main(runtime.extension({EXTENSION!r})))
"""


def python_calls_s(runtime: Runtime, rounds: int) -> list[float]:
    """The same call, awaited where everything is warm."""

    async def run() -> list[float]:
        handle = runtime.extension(EXTENSION)
        await handle.slow(0.0)
        taken = []
        for _ in range(rounds):
            begun = time.perf_counter()
            await handle.slow(0.0)
            taken.append(time.perf_counter() - begun)
        return taken

    return asyncio.run(run())


def process_s(command: Sequence[str], environment: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def await_answer(command: Sequence[str], environment: dict[str, str]) -> None:
    """The control actor of an embedded runtime starts in the background."""
    give_up = time.monotonic() + 60
    while subprocess.run(command, env=environment, capture_output=True, check=False).returncode != 0:
        if time.monotonic() > give_up:
            raise RuntimeError("the control API does not answer")


def measure(rounds: int) -> dict[str, list[float]]:
    with benchmark_runtime() as (runtime, scratch):
        runtime.install(extension_folder(scratch, EXTENSION))
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        environment["RAY_EXT_HOME"] = str(runtime.home)
        ray_ext = str(Path(sys.executable).parent / "ray-ext")
        commands = {
            "a bare interpreter": [sys.executable, "-c", "pass"],
            "ray-ext --version": [ray_ext, "--version"],
            "ray-ext list": [ray_ext, "list"],
            "ray-ext call": [ray_ext, "call", EXTENSION, "slow", "[0]"],
        }
        await_answer(commands["ray-ext call"], environment)
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                taken[name].append(process_s(command, environment))
        taken["the same call, awaited in Python"] = python_calls_s(runtime, 20 * rounds)
        connecting = [sys.executable, "-c", CONNECTING]
        taken["a Python program that connects and calls"] = [process_s(connecting, environment) for _ in range(5)]
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=21, help="default: %(default)s")
    parser.add_argument("--json", type=Path, default=RESULTS / "cli.json", help="default: %(default)s")
    arguments = parser.parse_args()
    taken = measure(arguments.rounds)
    form: Callable[[float], str] = lambda seconds: f"{seconds * 1e3:.1f}"  # noqa: E731 - a format, used below only
    print_table(
        "whole processes (and one call), ms",
        ["what", "median", "p90"],
        [[name, form(median(each)), form(percentile(sorted(each), 0.9))] for name, each in taken.items()],
    )
    above_ms = (median(taken["ray-ext call"]) - median(taken["the same call, awaited in Python"])) * 1e3
    interpreter_ms = median(taken["a bare interpreter"]) * 1e3
    rows = [
        Row("ray-ext --version, whole process", None, None, median(taken["ray-ext --version"]), "s"),
        Row("ray-ext list, whole process", 0.4, 0.15, median(taken["ray-ext list"]), "s"),
        Row("ray-ext call, whole process, above the call from Python", 50, None, above_ms, "ms"),
        Row("the same, without the start of Python itself", None, None, above_ms - interpreter_ms, "ms"),
    ]
    print_rows(rows)
    write_json(arguments.json, {"rounds": arguments.rounds, "seconds": taken}, rows)


if __name__ == "__main__":
    main()
