"""How long a guest takes to start, and what it costs while it idles.

    python benchmarks/guest_start.py [GUESTS]

Prints the median time from the decision to spawn until the guest is verified, and the mean memory of that many idle
guests with the real main loop, side by side (Linux ``smaps_rollup``; run it as root, for guests are not dumpable).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from ray_ext.sandbox.guest import Guest
from ray_ext.sandbox.layer import guest_layer
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


def until_idle(guest: Guest) -> None:
    """Wait for the first beat of the guest's event loop."""
    deadline = time.monotonic() + DEADLINE_S
    pulse = Pulse(guest.pulse)
    while not pulse.loop_beat_ns:
        if time.monotonic() > deadline:
            raise TimeoutError("the guest's event loop does not beat")
        time.sleep(0.01)


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        layer = guest_layer(root / "layers")
        started = time.perf_counter()
        guest_layer(root / "layers")
        layer_ms = (time.perf_counter() - started) * 1e3
        guests = [
            spawn_guest(
                GuestSpec(
                    extension=f"idle-{number}",
                    layer=layer,
                    code_paths=(),
                    data_dir=root / f"data-{number}",
                    memory_bytes=64 << 20,
                )
            )
            for number in range(count)
        ]
        for guest in guests:
            until_idle(guest)
        rollups = [f"/proc/{guest.pid}/smaps_rollup" for guest in guests]
        uss = [kib(path, "Private_Clean") + kib(path, "Private_Dirty") for path in rollups]
        print(f"layer, present              {layer_ms:8.1f} ms")
        print(f"start, median               {statistics.median(g.report.start_s for g in guests) * 1e3:8.1f} ms")
        print(f"idle guest, PSS, mean       {statistics.mean(kib(p, 'Pss') for p in rollups) / 1024:8.1f} MiB")
        print(f"idle guest, USS, mean       {statistics.mean(uss) / 1024:8.1f} MiB")
        print(
            f"idle guest, VmData, max     {max(kib(f'/proc/{g.pid}/status', 'VmData') for g in guests) / 1024:8.1f} MiB"
        )
        for guest in guests:
            guest.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
