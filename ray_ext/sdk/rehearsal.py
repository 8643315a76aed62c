"""One whole session before the first guest: run in the zygote.

Python 3.11 specialises code while it runs, and caches look-ups in it. What is specialised in the zygote is shared by
all guests; what is specialised in a guest is a copy of its own. A rehearsal saves each guest some 0.5 MiB, and time.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
import sys
import threading

from ray_ext.sdk.extension import Extension, exported
from ray_ext.sdk.guest import serve
from ray_ext.wire import values
from ray_ext.wire.frames import FrameLink
from ray_ext.wire.messages import (
    PROTOCOLS,
    Bye,
    Call,
    Hello,
    Load,
    Loaded,
    Metadata,
    Result,
    Shutdown,
    Welcome,
    decode_from_guest,
    encode_message,
)
from ray_ext.wire.pulse import PULSE_SIZE, Pulse

__all__ = ["Rehearsal", "rehearse"]

#: After so many runs the interpreter has specialised what it will.
_CALLS = 64
#: This module, found as an extension's is: on a path of its own.
_FOLDER, _MODULE = os.path.dirname(__file__), "rehearsal"


class Rehearsal(Extension):
    """The extension of the rehearsal."""

    @exported
    async def echo(self, value: object) -> object:
        """Give it back."""
        return value


def rehearse() -> None:
    """Load an extension, call it, and end it, as a host would; no thread is left. Raises what went wrong."""
    with asyncio.Runner() as runner:
        runner.get_loop().run_until_complete(_rehearse())
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()
    sys.path.remove(_FOLDER)
    del sys.modules[_MODULE]


async def _rehearse() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    host = _Host()
    host.link = await FrameLink.open(ours, host.on_frame, host.on_close, 1 << 20)
    await serve(theirs, Pulse(mmap.mmap(-1, PULSE_SIZE)))
    await host.ended


class _Host:
    """A scripted one."""

    def __init__(self) -> None:
        self.link: FrameLink | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = _CALLS

    def on_frame(self, envelope: bytes, body: bytes) -> None:
        message = decode_from_guest(envelope)
        if isinstance(message, Hello):
            self._send(Welcome(PROTOCOLS[0], 1 << 20))
            metadata = Metadata("rehearsal", "Rehearsal", "0")
            load = Load(metadata, 1, f"{_MODULE}:{Rehearsal.__name__}", [_FOLDER], {}, "/")
            self._send(load, values.encode_value({}))
        elif isinstance(message, (Loaded, Result)):
            if self._left:
                encoding, data = values.encode_arguments(({"x": [1, b"x"]},), {})
                self._send(Call(self._left, "echo", encoding), data)
                self._left -= 1
            else:
                self._send(Shutdown(1.0))
        elif not isinstance(message, Bye):
            self.on_close(RuntimeError(f"the rehearsal failed: {message}"))

    def on_close(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(error) if error is not None else self.ended.set_result(None)

    def _send(self, message: object, body: bytes = b"") -> None:
        assert self.link is not None
        self.link.send(encode_message(message), body)
