"""The main loop of a guest: handshake, load, calls, shutdown.

The same session serves a confined guest (a process of its own, :func:`main`) and a trusted extension (a thread of its
host, :func:`serve`): only what surrounds it differs.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from mmap import mmap
from pathlib import Path
from typing import Any

from ray_ext.errors import (
    ArgumentMismatch,
    CallCancelled,
    LoadFailed,
    PayloadTooLarge,
    RayExtError,
    ResultNotSerialisable,
)
from ray_ext.sdk.extension import Context, Extension, bind
from ray_ext.sdk.failures import extension_error, load_failed, traceback_text
from ray_ext.sdk.logs import WireHandler
from ray_ext.sdk.methods import Method, MethodTable
from ray_ext.wire import values
from ray_ext.wire.frames import ENVELOPE_LIMIT, FrameError, FrameLink
from ray_ext.wire.messages import (
    PROTOCOLS,
    Bye,
    Call,
    Cancel,
    ErrorParts,
    Failure,
    Hello,
    Load,
    Loaded,
    LoadRefused,
    Log,
    Result,
    Shutdown,
    Welcome,
    decode_to_guest,
    encode_message,
)
from ray_ext.wire.pulse import Pulse

__all__ = ["SDK_VERSION", "main", "serve"]

SDK_VERSION = "0.1.0"

#: How often the heartbeat thread and the event loop write into the pulse page, in seconds.
BEAT_INTERVAL_S = 0.5
#: The threads in which plain (not async) methods run.
SYNC_THREADS = 32
#: Until ``Welcome`` says otherwise.
_FIRST_BODY_LIMIT = 1 << 20


def main(channel: socket.socket, pulse: mmap) -> int:
    """Serve the host at the other end of ``channel`` until it says shutdown or goes away; the exit status.

    Called by the bootstrap after lock-down, in the only thread of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    logging.captureWarnings(True)
    with asyncio.Runner() as runner:
        # Not runner.run(), which minds SIGINT: no terminal sends a guest one, and the handlers cost 0.2 MiB.
        status = runner.get_loop().run_until_complete(serve(channel, Pulse(pulse)))
    # Threads of the extension may still run: they must not keep the process.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


async def serve(channel: socket.socket, pulse: Pulse, *, pickler: values.Pickler | None = None) -> int:
    """Run one session on the current event loop. ``pickler`` is given where host and extension share a process."""
    session = _Session(pulse, pickler)
    link = await FrameLink.open(channel, session.on_frame, session.on_close, _FIRST_BODY_LIMIT, None)
    stop_beating = _start_beating(pulse)
    ticking = asyncio.create_task(_tick(pulse))
    try:
        return await session.run(link)
    finally:
        stop_beating.set()
        ticking.cancel()


def _start_beating(pulse: Pulse) -> threading.Event:
    stop = threading.Event()

    def beat() -> None:
        while True:
            pulse.beat_ns = time.monotonic_ns()
            if stop.wait(BEAT_INTERVAL_S):
                return

    threading.Thread(target=beat, name="heartbeat", daemon=True).start()
    return stop


async def _tick(pulse: Pulse) -> None:
    while True:
        pulse.loop_beat_ns = time.monotonic_ns()
        await asyncio.sleep(BEAT_INTERVAL_S)


class _Session:
    """One conversation with a host."""

    def __init__(self, pulse: Pulse, pickler: values.Pickler | None) -> None:
        self._pulse = pulse
        self._pickler = pickler
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._cancelled: set[int] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="sync-method")
        self._payload_limit = _FIRST_BODY_LIMIT
        self._link: FrameLink | None = None
        self._extension: Extension | None = None
        self._methods: MethodTable | None = None
        self._log_handler: WireHandler | None = None
        self._logger: logging.Logger | None = None

    async def run(self, link: FrameLink) -> int:
        self._link = link
        link.send(encode_message(Hello(list(PROTOCOLS), SDK_VERSION, sys.version.split()[0])))
        try:
            return await self._ended
        finally:
            if self._log_handler is not None and self._logger is not None:
                self._logger.removeHandler(self._log_handler)
            self._threads.shutdown(wait=False, cancel_futures=True)

    # ---- frames

    def on_frame(self, envelope: bytes, body: bytes) -> None:
        message = decode_to_guest(envelope)
        if type(message) is Call:
            self._start_call(message, body)
        elif type(message) is Cancel:
            self._cancel_call(message.sequence)
        elif type(message) is Load:
            self._spawn(self._load(message, body))
        elif type(message) is Shutdown:
            self._spawn(self._shut_down(message.grace_s))
        elif type(message) is Welcome:
            if message.protocol not in PROTOCOLS:
                raise FrameError(f"the host chose protocol {message.protocol}")
            self._payload_limit = message.payload_limit
            assert self._link is not None
            self._link.body_limit = message.payload_limit

    def on_close(self, error: Exception | None) -> None:
        self._set_ended(0 if error is None else 1)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _send(self, message: object, body: bytes = b"") -> None:
        if self._link is not None:
            self._link.send(encode_message(message), body)

    # ---- load

    async def _load(self, load: Load, body: bytes) -> None:
        try:
            self._start_logging(load.metadata.id)
            step = "import"
            try:
                cls = _import_entry_point(load, is_alone=self._pickler is None)
                step = "construct"
                extension = cls()
                config = values.decode_value(body) if body else {}
                assert self._logger is not None
                bind(
                    extension,
                    Context(load.metadata, load.generation, Path(load.data_dir), config, self._logger),
                )
                methods = MethodTable(extension)
                step = "on_load"
                await extension.on_load()
            except LoadFailed:
                raise
            except BaseException as error:  # noqa: BLE001 - the extension's code may raise SystemExit as well
                raise load_failed(error, step, load.metadata.id) from None
        except RayExtError as error:
            self._send(LoadRefused(ErrorParts.of(error)))
            self._end(0)
            return
        self._extension, self._methods = extension, methods
        self._send(Loaded(methods.descriptions()))

    def _start_logging(self, extension: str) -> None:
        is_alone = self._pickler is None
        self._log_handler = WireHandler(self._send_log)
        self._logger = logging.getLogger() if is_alone else logging.getLogger(f"ray_ext.extension.{extension}")
        self._logger.addHandler(self._log_handler)
        self._logger.setLevel(logging.INFO)
        if is_alone:
            self._logger = logging.getLogger(extension)
            logging.getLogger("asyncio").setLevel(logging.WARNING)

    def _send_log(self, record: Log) -> None:
        if threading.get_ident() == getattr(self._loop, "_thread_id", None):
            self._send(record)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._send, record)

    # ---- calls

    def _start_call(self, call: Call, body: bytes) -> None:
        sequence = call.sequence
        self._pulse.started = sequence
        try:
            if self._methods is None:
                raise FrameError("a call before the extension was loaded")
            method = self._methods.get(call.method)
            if call.encoding != values.MSGPACK and self._pickler is None:
                raise ArgumentMismatch(f"{call.method}: a confined guest takes no pickled arguments")
            # Decoded here, so that the bytes are not held while the method runs.
            args, kwargs = method.arguments(body, call.encoding)
        except RayExtError as error:
            self._send(Failure(sequence, ErrorParts.of(error)))
            return
        self._running[sequence] = self._loop.create_task(self._run_call(sequence, method, args, kwargs))

    async def _run_call(self, sequence: int, method: Method, args: list[Any], kwargs: dict[str, Any]) -> None:
        try:
            try:
                outcome, data = await self._outcome(sequence, method, args, kwargs)
                envelope = encode_message(outcome)
                if len(envelope) > ENVELOPE_LIMIT:
                    raise FrameError(f"an outcome of {len(envelope)} bytes")
            except BaseException as error:  # noqa: BLE001 - converters and encoders run the extension's code as well
                failure = extension_error(error, method.description.name)
                envelope, data = encode_message(Failure(sequence, ErrorParts.of(failure))), b""
            if self._link is not None:
                self._link.send(envelope, data)
            if len(self._running) == 1 and self._link is not None:
                # Nothing else could share the write.
                self._link.flush()
        finally:
            self._running.pop(sequence, None)
            self._cancelled.discard(sequence)

    async def _outcome(
        self, sequence: int, method: Method, args: list[Any], kwargs: dict[str, Any]
    ) -> tuple[Result | Failure, bytes]:
        name = method.description.name
        try:
            running = method.start(args, kwargs, self._threads)
        except RayExtError as error:
            return Failure(sequence, ErrorParts.of(error)), b""
        try:
            result = await running
        except asyncio.CancelledError as error:
            is_ours = sequence in self._cancelled
            failure = CallCancelled(f"{name} was cancelled") if is_ours else extension_error(error, name)
            return Failure(sequence, ErrorParts.of(failure)), b""
        except BaseException as error:  # noqa: BLE001 - SystemExit of a method is its own failure, not the guest's end
            return Failure(sequence, ErrorParts.of(extension_error(error, name))), b""
        try:
            result_encoding, data = self._encode(name, result)
        except RayExtError as error:
            return Failure(sequence, ErrorParts.of(error)), b""
        return Result(sequence, result_encoding), data

    def _encode(self, name: str, result: object) -> tuple[int, bytes]:
        try:
            encoding, data = values.encode_result(result, pickler=self._pickler)
        except Exception as error:
            found = values.find_unserialisable(result, "result")
            path, kind = found or ("result", type(result).__qualname__)
            raise ResultNotSerialisable(
                f"{name} returned something that cannot be sent: {path} is a {kind}",
                fix=f"return {values.SENDABLE}",
                details={"path": path, "type": kind},
            ) from error
        if len(data) > self._payload_limit:
            raise PayloadTooLarge(
                f"the result of {name} has {len(data)} bytes; the limit is {self._payload_limit}",
                fix="return less at a time, or raise resources.memory: the limit is a quarter of it, at most 64 MiB",
                details={"size_bytes": len(data), "limit_bytes": self._payload_limit, "which": "result"},
            )
        return encoding, data

    def _cancel_call(self, sequence: int) -> None:
        task = self._running.get(sequence)
        if task is None or task.done():
            return
        self._cancelled.add(sequence)
        task.cancel()
        task.add_done_callback(lambda _: self._answer_unstarted(sequence))

    def _answer_unstarted(self, sequence: int) -> None:
        # A task that is cancelled before its first step never runs its own handlers.
        if self._running.pop(sequence, None) is not None:
            self._cancelled.discard(sequence)
            self._send(Failure(sequence, ErrorParts.of(CallCancelled("the call was cancelled before it ran"))))

    # ---- the end

    async def _shut_down(self, grace_s: float) -> None:
        running = list(self._running.values())
        if running:
            await asyncio.wait(running, timeout=grace_s)
        for sequence in list(self._running):
            self._cancel_call(sequence)
        problem: ErrorParts | None = None
        if self._extension is not None:
            try:
                await asyncio.wait_for(self._extension.on_unload(), max(grace_s, 1.0))
            except BaseException as error:  # noqa: BLE001 - on_unload is the extension's code; the end goes on regardless
                failure = extension_error(error, "on_unload")
                self._send_log(Log(time.time(), logging.ERROR, "ray_ext", failure.what, traceback_text(error)))
                problem = ErrorParts.of(failure)
        self._send(Bye(problem))
        self._end(0)

    def _end(self, status: int) -> None:
        if self._link is not None:
            self._link.close()
        self._loop.call_soon(self._set_ended, status)

    def _set_ended(self, status: int) -> None:
        if not self._ended.done():
            self._ended.set_result(status)


def _import_entry_point(load: Load, *, is_alone: bool) -> Callable[[], Extension]:
    os.environ.update(load.env_vars)
    paths = [path for path in load.code_paths if path not in sys.path]
    if is_alone:
        sys.path += paths
    else:
        # Before the host's own packages, whose versions the extension did not ask for. What the host has imported it
        # keeps, Ray above all: a package that is loaded finds its submodules where it lies.
        sys.path[:0] = paths
    module_name, _, class_name = load.entry_point.partition(":")
    module = importlib.import_module(module_name)
    cls = getattr(module, class_name, None)
    if not (isinstance(cls, type) and issubclass(cls, Extension)):
        raise LoadFailed(
            f"entry_point {load.entry_point!r} names no subclass of ray_ext.Extension",
            fix=f"define class {class_name}(Extension) in {module_name}, or correct entry_point in extension.toml",
            details={"step": "import"},
        )
    return cls
