"""``python -m tests.control.keep_runtime HOME UMASK LISTEN``: a runtime of its own, until standard input ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ray_ext.client.boot import start
from ray_ext.client.runtime import Runtime
from ray_ext.control.listening import parse_listen
from ray_ext.home import Home


def main() -> None:
    """Say "up" once it is."""
    os.umask(int(sys.argv[2], 8))
    with Runtime(
        start(Home(Path(sys.argv[1])), kind="embedded", spares=0, listen=parse_listen(sys.argv[3]))
    ) as runtime:
        for folder in sys.argv[4:]:
            runtime.install(folder)
        print("up", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
