"""How long it takes to load an extension: cold and with a spare host, and with the Python packages that it requires.

    python benchmarks/load.py [--rounds N] [--json FILE]

Measured from ``runtime.load`` until the first call is answered. Every round visits all variants in turn, and starts a
bare Ray actor until its first answer, which is the baseline. A *cold* load starts a host, because the extension asks
for other resources than spare hosts have; the other takes a spare host. The packages are *present*, or *absent*: then
they are installed from a folder of wheels at the load.
"""

from __future__ import annotations

import argparse
import os
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from harness import RESULTS, Row, benchmark_runtime, extension_folder, median, print_rows, print_table, write_json

from ray_ext.client.runtime import Runtime
from ray_ext.packages.unpacking import remove
from ray_ext.packages.wheel_writer import record_hash

BASELINE = "bare Ray actor"
PACKAGES = 5
MODULES = 20
_SPARE_RESOURCES = "[resources]\n"
_COLD_RESOURCES = "[resources]\ncpus = 0.05\n"
_DEADLINE_S = 60.0


@dataclass(frozen=True)
class Variant:
    """A way to load: with which host, and with which packages (``none``, ``present``, ``absent``)."""

    host: str
    packages: str

    @property
    def what(self) -> str:
        return f"{self.host}, packages {self.packages}"

    @property
    def extension(self) -> str:
        return f"load-{self.host.split()[0]}-{'none' if self.packages == 'none' else 'packages'}"


VARIANTS = [Variant(host, packages) for host in ("cold", "spare host") for packages in ("none", "present", "absent")]


@dataclass(frozen=True)
class Sample:
    """Of one load, in seconds: until it returned, and until the first answer."""

    loaded_s: float
    answered_s: float


class Echo:
    """The bare actor."""

    async def echo(self, value: bytes) -> bytes:
        return value


def write_wheel(folder: Path, name: str) -> None:
    """A pure wheel with some modules."""
    info = f"{name}-1.0.dist-info"
    files = {f"{name}/m{number}.py": b"".join(b"x%d = %d\n" % (n, n) for n in range(300)) for number in range(MODULES)}
    files |= {
        f"{name}/__init__.py": b"",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: benchmark\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},{record_hash(data)},{len(data)}\n" for path, data in files.items())
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, data in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}.items():
            archive.writestr(path, data)


def install(runtime: Runtime, scratch: Path) -> None:
    """The extensions of all variants, unloaded."""
    links = scratch / "links"
    links.mkdir()
    names = [f"package_{number}" for number in range(PACKAGES)]
    for name in names:
        write_wheel(links, name)
    for variant in {each.extension: each for each in VARIANTS}.values():
        folder = extension_folder(scratch, variant.extension)
        manifest = folder / "extension.toml"
        head, _, _ = manifest.read_text().partition("[resources]")
        resources = _COLD_RESOURCES if variant.host == "cold" else _SPARE_RESOURCES
        pip = "" if variant.packages == "none" else f"[runtime_env]\npip = {names}\n"
        manifest.write_text(head + resources + pip)
        runtime.install(folder, load=False, find_links=[links])


def await_spare(runtime: Runtime) -> None:
    give_up = time.monotonic() + _DEADLINE_S
    while not runtime.status().spare_hosts:
        if time.monotonic() > give_up:
            raise TimeoutError("there is no spare host")
        time.sleep(0.05)


def start_bare() -> Sample:
    begun = time.perf_counter()
    actor = ray.remote(Echo).options(num_cpus=0, max_concurrency=1000).remote()
    ray.get(actor.echo.remote(b""))
    took_s = time.perf_counter() - begun
    ray.kill(actor)
    return Sample(took_s, took_s)


def load(runtime: Runtime, variant: Variant) -> Sample:
    await_spare(runtime)
    if variant.packages == "absent":
        remove(runtime.home / "environments")
    handle: Any = runtime.extension(variant.extension)
    begun = time.perf_counter()
    runtime.load(variant.extension)
    loaded_s = time.perf_counter() - begun
    ray.get(handle.echo.remote(b""))
    answered_s = time.perf_counter() - begun
    runtime.unload(variant.extension)
    return Sample(loaded_s, answered_s)


def measure(rounds: int) -> dict[str, list[Sample]]:
    os.environ["UV_OFFLINE"] = "1"  # the folder of wheels alone
    with benchmark_runtime() as (runtime, scratch):
        install(runtime, scratch)
        work: dict[str, Callable[[], Sample]] = {BASELINE: start_bare}
        work |= {variant.what: partial(load, runtime, variant) for variant in VARIANTS}
        # Ray starts some workers with itself, which the first actors get: they are spent here.
        for each in work.values():
            each()
        samples: dict[str, list[Sample]] = {what: [] for what in work}
        for number in range(rounds):
            for what, each in work.items():
                samples[what].append(each())
            print(f"round {number + 1} of {rounds}", flush=True)
    return samples


def answered(samples: dict[str, list[Sample]], what: str) -> float:
    return median([sample.answered_s for sample in samples[what]])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    parser.add_argument("--json", type=Path, default=RESULTS / "load.json", help="default: %(default)s")
    arguments = parser.parse_args()
    samples = measure(arguments.rounds)
    table = []
    for what, each in samples.items():
        ratios = [mine.answered_s / bare.answered_s for mine, bare in zip(each, samples[BASELINE], strict=True)]
        longest_s = max(sample.answered_s for sample in each)
        loaded_s = median([sample.loaded_s for sample in each])
        times = [f"{seconds:.3f}" for seconds in (loaded_s, answered(samples, what), longest_s)]
        table.append([what, *times, f"{median(ratios):.2f}"])
    print_table(
        f"seconds, medians of {arguments.rounds}; x is the median ratio to the bare actor in the same round",
        ["what", "loaded", "first answer", "longest", "x"],
        table,
    )
    rows = [
        Row("load, environment present: cold", 2, 1.2, answered(samples, "cold, packages present"), "s"),
        Row("load, environment present: spare host", 0.5, 0.15, answered(samples, "spare host, packages present"), "s"),
    ]
    print_rows(rows)
    report = {"rounds": arguments.rounds, "loads": {what: list(map(asdict, each)) for what, each in samples.items()}}
    write_json(arguments.json, report, rows)


if __name__ == "__main__":
    main()
