"""The process that keeps a runtime started by ``ray-ext up``: it starts Ray and the system actors, and waits.

Ray's own processes end with it, whatever ends it, and the hosts and guests with them.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType

from ray_ext.actors.system_log import record_system_log
from ray_ext.client.boot import Connection, start
from ray_ext.client.runtime import Runtime
from ray_ext.client.start_options import StartOptions
from ray_ext.client.starting import keeper_log
from ray_ext.errors import RayExtError, RuntimeUnreachable
from ray_ext.home import Home

__all__ = ["main"]

_log = logging.getLogger("ray_ext.client.keeper")  # this module runs as __main__

#: How often the registry is asked whether it is well, in seconds; one that was restarted then begins to supervise.
_PING_S = 5.0

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main() -> int:
    """``python -m ray_ext.client.keeper HOME OPTIONS REPORT``: keep the runtime of this home until SIGTERM or SIGINT.

    ``OPTIONS`` are :class:`StartOptions`. What is being started is told to the file descriptor ``REPORT``, as JSON
    lines: ``{"phase": text}``, and ``{"error": {parts}}`` where the start fails. It is closed when the runtime is up.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    home, options, report = Home(Path(sys.argv[1])), StartOptions.from_text(sys.argv[2]), int(sys.argv[3])
    record_system_log(home, "keeper")
    # Nothing that is started here may keep it open.
    os.set_inheritable(report, False)
    for number in _SIGNALS:
        signal.signal(number, _end_start)
    if not options.address:
        # Ray's dashboard leaves temporary folders behind when it is ended: below this one they go with it.
        os.environ["TMPDIR"] = str(home.ray_temp)
    try:
        connection = _start(home, options, report)
    except RayExtError as error:
        _log.error("the runtime could not be started: %s", error)
        _tell_error(report, error)
        return 1
    except Exception as error:  # noqa: BLE001 - whatever it is, the one who waits for the start is told
        _log.exception("the runtime could not be started")
        _tell_error(report, _unexpected(home, error))
        return 1
    stop = threading.Event()
    for number in _SIGNALS:
        # Ray's start has replaced the handlers.
        signal.signal(number, lambda *_: stop.set())
    os.close(report)
    _log.info("the runtime is up")
    _keep(connection, stop)
    _log.info("the runtime is down")
    return 0


def _start(home: Home, options: StartOptions, report: int) -> Connection:
    def tell_phase(phase: str) -> None:
        _log.info("waiting for %s", phase)
        _tell(report, {"phase": phase})

    return start(
        home,
        kind="up",
        address=options.address or None,
        spares=options.spares,
        listen=options.listen,
        on_phase=tell_phase,
    )


def _tell(report: int, said: dict[str, object]) -> None:
    # Nobody may be there to hear it any more.
    with suppress(BrokenPipeError):
        os.write(report, json.dumps(said).encode() + b"\n")


def _tell_error(report: int, error: RayExtError) -> None:
    parts = {"code": error.code, "what": error.what, "where": error.where, "fix": error.fix, "details": error.details}
    _tell(report, {"error": parts})


def _unexpected(home: Home, error: Exception) -> RayExtError:
    return RuntimeUnreachable(
        f"the runtime did not start: {type(error).__name__}: {error}",
        where=str(keeper_log(home)),
        fix="see the log; what a runtime needs on this machine is checked by: ray-ext doctor",
        details={"home": str(home.root)},
    )


def _end_start(number: int, _frame: FrameType | None) -> None:
    # What was started is ended on the way out, once.
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def _keep(connection: Connection, stop: threading.Event) -> None:
    runtime = Runtime(connection)
    try:
        while not stop.wait(_PING_S):
            runtime._client().call("ping")
    finally:
        try:
            runtime.close()
        except Exception:
            _log.exception("the extensions could not be unloaded in order")
            connection.close()
            raise


if __name__ == "__main__":
    sys.exit(main())
