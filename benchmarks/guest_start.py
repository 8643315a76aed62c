"""How long a guest takes to start, and what it costs while it idles: from the zygote, and by exec.

    python benchmarks/guest_start.py [GUESTS]

Prints, for each way, the median time from the decision to spawn until the guest is verified, and the mean memory of
that many idle guests with the real main loop, side by side, stubs included (Linux ``smaps_rollup``; run it as root, for
guests are not dumpable).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from ray_ext.sandbox.guest import Guest
from ray_ext.sandbox.layer import guest_layer
from ray_ext.sandbox.nursery import Nursery
from ray_ext.sandbox.spawn import GuestSpec, spawn_guest
from ray_ext.wire.pulse import Pulse

DEADLINE_S = 10.0


def kib(path: str, name: str) -> int:
    """A field of a ``/proc`` file, in KiB."""
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0])
    raise LookupError(f"{name} is not in {path}")


def pss_mib(pid: int) -> float:
    return kib(f"/proc/{pid}/smaps_rollup", "Pss") / 1024


def until_idle(guest: Guest) -> None:
    """Wait for the first beat of the guest's event loop."""
    deadline = time.monotonic() + DEADLINE_S
    pulse = Pulse(guest.pulse)
    while not pulse.loop_beat_ns:
        if time.monotonic() > deadline:
            raise TimeoutError("the guest's event loop does not beat")
        time.sleep(0.01)


def measure(root: Path, layer: Path, count: int, nursery: Nursery | None) -> list[str]:
    """Median start in ms, mean PSS of a guest and of its stub in MiB, and the largest VmData in MiB."""
    guests = [
        spawn_guest(
            GuestSpec(
                extension=f"idle-{number}",
                layer=layer,
                code_paths=(),
                data_dir=root / f"data-{number}",
                memory_bytes=64 << 20,
            ),
            zygote=None if nursery is None else nursery.address,
        )
        for number in range(count)
    ]
    for guest in guests:
        until_idle(guest)
    stubs = [guest.stub_pid for guest in guests if guest.stub_pid is not None]
    row = [
        f"{statistics.median(g.report.start_s for g in guests) * 1e3:.1f}",
        f"{statistics.mean(pss_mib(g.pid) for g in guests):.1f}",
        f"{statistics.mean(map(pss_mib, stubs)):.1f}" if stubs else "",
        f"{max(kib(f'/proc/{g.pid}/status', 'VmData') for g in guests) / 1024:.1f}",
        f"{pss_mib(nursery.pid):.1f}" if nursery is not None else "",
    ]
    for guest in guests:
        guest.close()
    return row


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        layer = guest_layer(root / "layers")
        nursery = Nursery(root, layer, root / "zygote.log")
        # The first one waits for the zygote's imports.
        measure(root, layer, 1, nursery)
        print(f"{'':8}{'start ms':>10}{'guest MiB':>11}{'stub MiB':>10}{'VmData MiB':>12}{'zygote MiB':>12}")
        for way, owner in (("exec", None), ("zygote", nursery)):
            cells = measure(root, layer, count, owner)
            print(f"{way:8}{cells[0]:>10}{cells[1]:>11}{cells[2]:>10}{cells[3]:>12}{cells[4]:>12}")
        nursery.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
