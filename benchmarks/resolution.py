"""How long it takes to choose releases among a thousand, against parsing their versions and ranges once.

    python benchmarks/resolution.py [--rounds N] [--json FILE]

Three universes of 1,000 releases: 100 extensions with ten releases that need up to three others each, a chain of 1,000
extensions, and the first one again with a range at its end that no release fits, where the whole refusal is timed. The
baseline is the parsing of the same versions and ranges by ``packaging``, in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from harness import RESULTS, Row, median, print_table, write_json
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ray_ext.errors import DependencyConflict
from ray_ext.resolve.resolution import resolve
from ray_ext.resolve.universe import KnownRelease, Universe

BOUND_S = 0.5
TARGET = "e0"


def universe_of(extensions: int, versions: int, steps: tuple[int, ...], *, last_needs: Mapping[str, str]) -> Universe:
    """Extensions e0, e1, …; version V of each needs those that are ``steps`` further on, in a version near V."""

    def needs(number: int, version: int) -> Mapping[str, str]:
        others = [number + step for step in steps if number + step < extensions]
        return {f"e{other}": f">={version - 1},<{version + 2}" for other in others} or last_needs

    releases = {
        f"e{number}": tuple(
            KnownRelease(id=f"e{number}", version=f"{version}.0", sha256="", dependencies=needs(number, version))
            for version in range(1, versions + 1)
        )
        for number in range(extensions)
    }
    return Universe(runtime_version="1.0", releases=releases, installed={})


UNIVERSES = {
    "resolve, 100 extensions of 10 releases": universe_of(100, 10, (1, 2, 7), last_needs={}),
    "resolve, a chain of 1,000 extensions": universe_of(1000, 1, (1,), last_needs={}),
    "refuse, for one range at the end": universe_of(100, 10, (1, 2, 7), last_needs={"unknown": ">=1"}),
}


def seconds(work: Callable[[Universe], None], universe: Universe) -> float:
    started = time.perf_counter()
    work(universe)
    return time.perf_counter() - started


def answer(universe: Universe) -> None:
    with suppress(DependencyConflict):
        resolve(universe, TARGET)


def parse_all(universe: Universe) -> None:
    for releases in universe.releases.values():
        for release in releases:
            Version(release.version)
            for specifier in release.dependencies.values():
                SpecifierSet(specifier)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    parser.add_argument("--json", type=Path, default=RESULTS / "resolution.json", help="default: %(default)s")
    arguments = parser.parse_args()
    cells, table, rows = [], [], []
    for what, universe in UNIVERSES.items():
        # The first round also fills the caches of parsed versions and ranges.
        times_s = [seconds(answer, universe) for _ in range(arguments.rounds)]
        baseline_s = median([seconds(parse_all, universe) for _ in range(arguments.rounds)])
        median_s = median(times_s)
        ratio = median_s / baseline_s
        row = Row(what, BOUND_S, None, median_s, "s")
        shown = [f"{each * 1e3:.1f} ms" for each in (times_s[0], median_s, BOUND_S, baseline_s)]
        rows.append(row)
        table.append([what, *shown, f"{ratio:.2f} x", row.verdict])
        cells.append({"what": what, "times_s": times_s, "baseline_s": baseline_s, "ratio": ratio})
    print_table(
        "1,000 releases; x is the ratio of the median to the parsing",
        ["what", "first", "median", "bound", "parsing", "x", "reached"],
        table,
    )
    write_json(arguments.json, {"rounds": arguments.rounds, "resolutions": cells}, rows)


if __name__ == "__main__":
    main()
