"""How quick a runtime with a thousand registered releases is to list and to plan.

    python benchmarks/releases.py [--extensions N] [--rounds N] [--json FILE]

Registers ten releases each of so many extensions, which need up to three others; then times, from the caller's side,
what an operator waits for. The baseline is the registry's answer to nothing at all (``ping``), in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from harness import RESULTS, benchmark_runtime, extension_folder, median, print_table, write_json

from ray_ext.calling.registry_client import registry_client
from ray_ext.client.runtime import Runtime

VERSIONS = 10
STEPS = (1, 2, 7)
#: The version of the benchmark extension, as its files write it.
OLD = '"0.1.0"'


def register_all(runtime: Runtime, scratch: Path, extensions: int) -> None:
    for number in range(extensions):
        folder = extension_folder(scratch, f"e{number}")
        manifest, project = folder / "extension.toml", folder / "pyproject.toml"
        manifest_text, project_text = manifest.read_text(), project.read_text()
        others = [number + step for step in STEPS if number + step < extensions]
        for version in range(1, VERSIONS + 1):
            ranges = "".join(f'e{other} = ">={version - 1},<{version + 2}"\n' for other in others)
            new = f'"{version}.0"'
            project.write_text(project_text.replace(OLD, new))
            manifest.write_text(f"{manifest_text.replace(OLD, new)}\n[dependencies]\n{ranges}")
            runtime.register(folder)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--extensions", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    parser.add_argument("--json", type=Path, default=RESULTS / "releases.json", help="default: %(default)s")
    arguments = parser.parse_args()
    with benchmark_runtime() as (runtime, scratch):
        registering_s = seconds(lambda: register_all(runtime, scratch, arguments.extensions))
        count = len(runtime.releases())
        registry = registry_client(runtime.namespace)
        works: dict[str, Callable[[], object]] = {
            "ping": lambda: registry.call("ping"),
            "list": runtime.list,
            "releases": runtime.releases,
            "plan an installation with all that it needs": lambda: runtime.plan("install", "e0", to="10.0"),
        }
        times = {what: median([seconds(work) for _ in range(arguments.rounds)]) for what, work in works.items()}
    print_table(
        f"{count} releases, registered in {registering_s:.1f} s; medians of {arguments.rounds}",
        ["what", "ms", "x"],
        [[what, f"{time_s * 1e3:.1f}", f"{time_s / times['ping']:.1f}"] for what, time_s in times.items()],
    )
    write_json(arguments.json, {"releases": count, "registering_s": registering_s, "seconds": times}, [])


if __name__ == "__main__":
    main()
