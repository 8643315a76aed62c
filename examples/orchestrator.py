"""An orchestrator: three extensions, every shipped webhook payload, one table. Run it with ``make demo``."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
from collections import Counter, defaultdict
from pathlib import Path

import ray
from webhooks import Delivery, shipped

import ray_ext
from ray_ext.control.views import ExtensionView

FOLDERS = {"github-triage": "github_triage", "linear-sync": "linear_sync", "slack-notifier": "slack_notifier"}
SECRETS = {extension: secrets.token_hex(32) for extension in FOLDERS}


async def route(runtime: ray_ext.Runtime, deliveries: list[Delivery]) -> list[tuple[Delivery, str, str, float]]:
    """Hand every delivery to its extension, at most 32 at once; the outcome, what it was about, and the seconds."""
    room = asyncio.Semaphore(32)

    async def send(delivery: Delivery) -> tuple[Delivery, str, str, float]:
        async with room:
            started = time.perf_counter()
            try:
                told = await runtime.extension(delivery.to).deliver(headers=delivery.headers, body=delivery.body)
                outcome, about = told["outcome"], f"{delivery.name}: {', '.join(told.get('labels', []))}"
            except ray_ext.ExtensionError as error:
                outcome, about = "rejected", f"{delivery.name}: {error.what}"
            return delivery, outcome, about, time.perf_counter() - started

    return await asyncio.gather(*(send(delivery) for delivery in deliveries))


def main() -> None:
    """Install, route, count, close."""
    with ray_ext.connect() as runtime:
        print(f"a runtime was started on Ray, in namespace {runtime.namespace}")
        for extension, folder in FOLDERS.items():
            view = runtime.install(Path(__file__).parent / folder, config={"webhook_secret": SECRETS[extension]})
            print_installed(runtime.show(view.id))
        deliveries = list(shipped(SECRETS))
        forged = Delivery("github-triage", "forged", {**deliveries[0].headers, "X-GitHub-Event": "push"}, b"{}")
        results = asyncio.run(route(runtime, [*deliveries, forged]))
        print_table(results)
        labels = runtime.extension("github-triage").triage.remote(title="Crash on start", body="See the README")
        print(f"\n'Crash on start' would be labelled {ray.get(labels)}")
    print("everything was unloaded and stopped")


def print_installed(view: ExtensionView) -> None:
    """Which processes an extension is."""
    if view.instance is not None:
        host, guest, level = view.instance.host_pid, view.instance.guest_pid, view.instance.level
        print(f"  {view.id} {view.version}: host (Ray actor) pid {host}, guest pid {guest}, confined at {level}")


def print_table(results: list[tuple[Delivery, str, str, float]]) -> None:
    """One line for each extension, then what was labelled or rejected."""
    rows: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for delivery, outcome, _, seconds in results:
        rows[delivery.to].append((outcome, seconds))
    print(f"{'extension':<16}{'delivered':>10}{'p50 ms':>8}   what was done")
    for extension, done in rows.items():
        p50_ms = 1000 * statistics.median(seconds for _, seconds in done)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in Counter(outcome for outcome, _ in done).items())
        print(f"{extension:<16}{len(done):>10}{p50_ms:>8.1f}   {counts}")
    for _, outcome, about, _ in results:
        if outcome in ("labelled", "rejected"):
            print(f"  {outcome}: {about}")


if __name__ == "__main__":
    main()
