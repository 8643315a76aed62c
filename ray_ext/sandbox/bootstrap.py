"""The first code of a guest: ``python -I -S -B bootstrap.py CHANNEL PULSE EXTENSION``, from its layer.

It loads what is trusted, locks the process down as the host says, waits until the host has verified that, and then
hands over to the guest's main loop. A guest that is forked from the zygote begins at :func:`run`. Arguments: the file
descriptors of the channel and of the pulse page, and the extension's id, which only names the process for those who
look at it.
"""

from __future__ import annotations

import importlib
import mmap
import os
import socket
import sys
from collections.abc import Callable

Main = Callable[[socket.socket, mmap.mmap], int]


def _trust_layer() -> None:
    layer = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sys.path.insert(0, layer)


def _map_pulse(descriptor: int) -> mmap.mmap:
    from ray_ext.wire.pulse import PULSE_SIZE

    pulse = mmap.mmap(descriptor, PULSE_SIZE)
    os.close(descriptor)
    return pulse


def _load_main() -> Main:
    from ray_ext.sandbox.late_ssl import import_asyncio

    import_asyncio()
    main: Main = importlib.import_module("ray_ext.sdk.guest").main
    return main


def run(channel: socket.socket, pulse_descriptor: int, main: Main | None = None) -> int:
    """Start, lock down, and run the guest's main loop; returns the process's exit status.

    ``main`` is given where it is loaded already: in a fork of the zygote.
    """
    from ray_ext.sandbox import handshake, kernel, lockdown

    step, is_isolation = "policy", False
    try:
        policy = handshake.receive_policy(channel)
        kernel.set_task_name(policy.extension)
        step = "pulse"
        pulse = _map_pulse(pulse_descriptor)
        step = "import"
        main = main or _load_main()
        is_isolation = True
        steps = lockdown.lock_down(policy)
    except Exception as error:  # noqa: BLE001 - the host raises it, whatever it is; this process ends
        if isinstance(error, lockdown.StepFailed):
            step = error.step
        cause = error.__cause__ or error
        failure = handshake.Failure(step, f"{type(cause).__name__}: {cause}", is_isolation)
        handshake.send_failure(channel, failure)
        return 1
    handshake.send_ready(channel, handshake.Report(steps))
    handshake.await_go(channel)
    return main(channel, pulse)


if __name__ == "__main__":
    _trust_layer()
    sys.exit(run(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])))
