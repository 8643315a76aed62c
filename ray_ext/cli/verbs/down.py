"""``down``."""

from __future__ import annotations

from ray_ext.cli.verb import verb

__all__ = ["command"]


@verb(section="Runtime", examples=("ray-ext down",))
def command() -> None:
    """End the runtime that `up` started, and every process of it; nothing else.

    What is loaded is loaded again by the next `up`. Cleans up after a crash, too. A cluster that was joined goes on.
    """
    from ray_ext.cli.exits import Interrupted
    from ray_ext.cli.output import answer, note
    from ray_ext.cli.waiting import waiting
    from ray_ext.client.ending import end_runtime
    from ray_ext.home import Home

    home = Home.default()
    with waiting() as waits:
        try:
            was_up = end_runtime(home, waits.tell)
        except KeyboardInterrupt:
            state = "the runtime goes on ending by itself" if waits.has_told else "perhaps before it was asked to end"
            raise Interrupted(f"Interrupted: {state}. Whether anything is left: ray-ext down") from None
    note("The runtime is down." if was_up else "No runtime is up.")
    answer("down", {"was_up": was_up, "home": str(home.root)})
