"""The process that keeps a runtime started by ``ray-ext up``: it starts Ray and the system actors, and waits.

Ray's own processes end with it, whatever ends it, and the hosts and guests with them.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

from ray_ext.client.boot import start
from ray_ext.client.runtime import Runtime
from ray_ext.errors import RayExtError
from ray_ext.home import Home

__all__ = ["main"]

#: How often the registry is asked whether it is well, in seconds; one that was restarted then begins to supervise.
_PING_S = 5.0


def main() -> int:
    """``python -m ray_ext.client.keeper HOME SPARES``: keep the runtime of this home until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    home = Home(Path(sys.argv[1]))
    # Ray's dashboard leaves temporary folders behind when it is ended: below this one they go with it.
    os.environ["TMPDIR"] = str(home.ray_temp)
    try:
        connection = start(home, kind="up", with_dashboard=True, spares=int(sys.argv[2]))
        runtime = Runtime(connection)
    except RayExtError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    logging.info("the runtime is up")
    try:
        while not stop.wait(_PING_S):
            runtime._client().call("ping")
    finally:
        # Ray's start may have replaced the handlers.
        runtime.close()
        logging.info("the runtime is down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
