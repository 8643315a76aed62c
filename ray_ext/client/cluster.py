"""The runtime's actors in a Ray cluster that goes on without them."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

import ray
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from ray_ext.errors import RuntimeUnreachable
from ray_ext.home import Home
from ray_ext.runtime_record import read_last

__all__ = ["choose_authentication", "end_actors", "main"]

#: How long killed actors may take to be gone, in seconds.
_GONE_S = 30.0


def choose_authentication(mode: str, token_path: str) -> None:
    """Use it for Ray, in this process and its children."""
    os.environ["RAY_AUTH_MODE"] = mode
    if token_path:
        os.environ["RAY_AUTH_TOKEN_PATH"] = token_path
    # Ray reads the mode once, when it is imported; this is how ray.init() itself makes a later choice count. It keeps
    # the token of the last cluster, too.
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def end_actors(namespace: str) -> None:
    """End every actor of a namespace, whatever it is doing, and wait until they are gone; this process is connected.

    Raises RuntimeUnreachable where some stay.
    """
    give_up = time.monotonic() + _GONE_S
    # An actor that is just starting others is gone before the second look.
    while names := _names(namespace):
        for name in names:
            try:
                ray.kill(ray.get_actor(name, namespace=namespace), no_restart=True)
            except ValueError:
                continue
        if time.monotonic() > give_up:
            raise RuntimeUnreachable(
                f"these actors do not end: {', '.join(names)}", where=namespace, fix="see whether their nodes answer"
            )
        time.sleep(0.05)


def _names(namespace: str) -> list[str]:
    named = ray.util.list_named_actors(all_namespaces=True)
    # Of the actors that start others, the registry is the first to go.
    return sorted((each["name"] for each in named if each["namespace"] == namespace), key=lambda name: "/" in name)


def main() -> int:
    """``python -m ray_ext.client.cluster HOME``: end the actors of this home's last runtime, which is gone."""
    record = read_last(Home(Path(sys.argv[1])))
    if record is None:
        return 0
    choose_authentication(record.auth_mode, record.token_path)
    try:
        ray.init(address=record.address, namespace=record.namespace, log_to_driver=False, logging_level=logging.ERROR)
        end_actors(record.namespace)
    except (RuntimeUnreachable, ConnectionError, RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
