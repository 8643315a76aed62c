"""What the benchmarks share: a runtime of their own, the benchmark extension under any id, closed loops, reports."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray

import ray_ext
from ray_ext.client.runtime import Runtime, connect

BENCHMARKS = Path(__file__).resolve().parent
RESULTS = BENCHMARKS / "results"
_EXTENSION = BENCHMARKS / "extension"

#: Starts one call; what it returns is awaited.
StartCall = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Load:
    """What a closed loop measured: calls per second, and percentiles in milliseconds."""

    calls: int
    throughput: float
    p50_ms: float
    p99_ms: float
    longest_ms: float


@dataclass(frozen=True)
class Row:
    """A row of design §11: what must be, what we want, what is. None: nothing is asked, or it was not measured."""

    what: str
    must: float | None
    want: float | None
    value: float | None
    unit: str
    is_floor: bool = False

    @property
    def verdict(self) -> str:
        """What the value reaches: ``want``, ``must``, ``short of want`` (no must), ``MISSED``, or ``not measured``."""
        if self.value is None:
            return "not measured"
        if self.must is not None and not self._reaches(self.must):
            return "MISSED"
        if self.want is not None:
            return "want" if self._reaches(self.want) else "must" if self.must is not None else "short of want"
        return "must"

    def _reaches(self, bound: float) -> bool:
        assert self.value is not None
        return self.value >= bound if self.is_floor else self.value <= bound

    def cells(self) -> list[str]:
        """The row as text."""
        sign = "≥" if self.is_floor else "≤"
        found = "-" if self.value is None else f"{self.value:.2f} {self.unit}"
        bounds = ["-" if bound is None else f"{sign} {bound:g} {self.unit}" for bound in (self.must, self.want)]
        return [self.what, *bounds, found, self.verdict]


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The nearest-rank percentile of sorted values."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))]


def load_of(latencies_s: list[float], window_s: float) -> Load:
    """Sum up the latencies of calls that ended within ``window_s`` seconds."""
    latencies_s.sort()
    return Load(
        calls=len(latencies_s),
        throughput=len(latencies_s) / window_s,
        p50_ms=percentile(latencies_s, 0.5) * 1e3,
        p99_ms=percentile(latencies_s, 0.99) * 1e3,
        longest_ms=latencies_s[-1] * 1e3,
    )


async def closed_loop(call: StartCall, in_flight: int, seconds: float) -> tuple[list[float], float]:
    """Keep ``in_flight`` calls under way for ``seconds``; the latencies, and the time until the last call ended."""
    clock = time.perf_counter
    latencies: list[float] = []
    start = clock()
    end = start + seconds

    async def work() -> None:
        now = clock()
        while now < end:
            begun = now
            await call()
            now = clock()
            latencies.append(now - begun)

    await asyncio.gather(*[work() for _ in range(in_flight)])
    return latencies, clock() - start


@contextmanager
def benchmark_runtime() -> Iterator[tuple[Runtime, Path]]:
    """An embedded runtime with a state home of its own, and a scratch folder; both are gone afterwards."""
    root = Path(tempfile.mkdtemp(prefix="rxb-"))
    try:
        runtime = connect(home=root / "home")
        try:
            yield runtime, root
        finally:
            runtime.close()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def extension_folder(scratch: Path, extension: str, *, isolation: str = "strict", memory: str = "128MiB") -> Path:
    """A copy of the benchmark extension with another id."""
    folder = scratch / extension
    shutil.copytree(_EXTENSION, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("extension.toml", "pyproject.toml"):
        path = folder / name
        text = path.read_text().replace('"benchmark-ext"', f'"{extension}"')
        text = text.replace('memory = "128MiB"', f'memory = "{memory}"')
        path.write_text(text.replace('isolation = "strict"', f'isolation = "{isolation}"'))
    return folder


def machine() -> dict[str, str | int | float]:
    """Where and with what this was measured."""
    model = ""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "processor": model,
        "processors": os.cpu_count() or 0,
        "load_average": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "ray": ray.__version__,
        "ray_ext": ray_ext.__version__,
    }


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print it: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    print(f"\n{title}")
    for row in [header, ["-" * width for width in widths], *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())


def print_rows(rows: Sequence[Row]) -> None:
    """Print what design §11 asks for beside what was measured."""
    print_table("design §11", ["what", "must", "we want", "measured", "reached"], [row.cells() for row in rows])


def write_json(path: Path, report: dict[str, Any], rows: Sequence[Row]) -> None:
    """Write the report with the machine it was made on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    verdicts = [{**asdict(row), "reached": row.verdict} for row in rows]
    path.write_text(json.dumps({"machine": machine(), **report, "design": verdicts}, indent=1) + "\n")
    print(f"\nwritten: {path}")


def median(values: Sequence[float]) -> float:
    """The median; NaN of nothing."""
    return statistics.median(values) if values else float("nan")
