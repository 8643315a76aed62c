"""One instance: a guest, the link to it, and the ledger of its calls. No Ray: the host actor is a shell around this.

Everything here runs on one event loop; the thread of that loop must live as long as the guest (the kernel ends a guest
with the thread that spawned it).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ray_ext.actors.guests import ConfinedGuest, GuestProcess, TrustedGuest
from ray_ext.actors.logbook import Logbook
from ray_ext.actors.spec import Exit, InstanceSpec
from ray_ext.control.views import InstanceStatus
from ray_ext.errors import (
    CallCancelled,
    DeadlineExceeded,
    ExtensionCrashed,
    ExtensionError,
    LoadFailed,
    ProtocolViolation,
    RayExtError,
)
from ray_ext.routing.ledger import CallLedger, Deliver, Entry, Limits
from ray_ext.sdk.methods import not_exported
from ray_ext.wire import values
from ray_ext.wire.exchange import OK
from ray_ext.wire.frames import FrameError, FrameLink
from ray_ext.wire.messages import (
    PROTOCOLS,
    Bye,
    Call,
    Cancel,
    ErrorParts,
    ExportedMethod,
    Failure,
    Hello,
    Load,
    Loaded,
    LoadRefused,
    Log,
    Result,
    Shutdown,
    Welcome,
    decode_from_guest,
    encode_message,
)

__all__ = ["Instance"]

T = TypeVar("T")

#: What a guest may say about a call; any other code would let it speak for its host.
_GUEST_CODES = frozenset(
    {
        "argument-mismatch",
        "call-cancelled",
        "extension-error",
        "not-exported",
        "payload-too-large",
        "result-not-serialisable",
    }
)
#: Room for what surrounds a body at its limit.
_BODY_SLACK = 1024


class Instance:
    """Starts, serves and ends one instance."""

    def __init__(self, spec: InstanceSpec) -> None:
        self.spec = spec
        self.id = spec.metadata.id
        self.ledger = CallLedger(self.id, Limits.for_memory(spec.memory_bytes))
        self.methods: dict[str, ExportedMethod] = {}
        self.exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._logbook = Logbook.of_instance(spec.log_file, self.id, spec.generation, spec.secrets)
        self._link: FrameLink | None = None
        self._guest: GuestProcess | None = None
        self._greeted: asyncio.Future[Hello] = self._loop.create_future()
        self._loaded: asyncio.Future[Loaded] = self._loop.create_future()
        #: No new calls are taken.
        self.is_stopping = False
        self._exit_kind: str | None = None
        self._exit_cause = ""
        self._watching: asyncio.Task[None] | None = None
        #: Called when everything that one read of the socket brought has been handed on.
        self.after_read: list[Callable[[], None]] = []

    # ---- start

    async def start(self) -> None:
        """Spawn, shake hands, load. Raises LoadFailed, ExtensionCrashed, ProtocolViolation or IsolationUnavailable."""
        spec = self.spec
        try:
            guest = (TrustedGuest if spec.is_trusted else ConfinedGuest).start(spec, self._on_output)
        except RayExtError as error:
            self._set_exit("crashed", error.what)
            raise
        except OSError as error:
            failure = LoadFailed(
                f"the guest of {self.id} could not be started: {error}",
                where=self.id,
                fix="check the rights and the free space of the state home",
                details={"step": "spawn"},
            )
            self._set_exit("crashed", failure.what)
            raise failure from error
        self._guest = guest
        guest.when_dead(self._on_guest_dead)
        self._link = await FrameLink.open(
            guest.channel,
            self._on_frame,
            self._on_close,
            self.ledger.limits.payload_bytes + _BODY_SLACK,
            self._on_read,
        )
        try:
            async with asyncio.timeout(spec.load_timeout_s):
                await self._handshake()
                loaded = await self._until_exit(self._loaded)
        except TimeoutError:
            late = LoadFailed(
                f"{self.id} was not loaded within {spec.load_timeout_s:g} s",
                fix="make on_load return sooner: start long work in a task",
                details={"step": "on_load"},
            )
            self._end("crashed", late.what)
            raise late from None
        except RayExtError as error:
            self._end("crashed", error.what)
            raise
        self.methods = {method.name: method for method in loaded.methods}
        self._logbook.note(logging.INFO, f"generation {self.spec.generation} is loaded")
        self._watching = self._loop.create_task(self._watch())

    async def _handshake(self) -> None:
        hello = await self._until_exit(self._greeted)
        common = [protocol for protocol in PROTOCOLS if protocol in hello.protocols]
        if not common:
            raise ProtocolViolation(
                f"the guest speaks the protocols {hello.protocols}, this host {list(PROTOCOLS)}", where=self.id
            )
        spec = self.spec
        self._send(Welcome(common[0], self.ledger.limits.payload_bytes))
        load = Load(
            spec.metadata, spec.generation, spec.entry_point, list(spec.code_paths), spec.env_vars, spec.data_dir
        )
        self._send(load, spec.config)

    async def _until_exit(self, wanted: asyncio.Future[T]) -> T:
        both: set[asyncio.Future[Any]] = {wanted, self.exit}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if wanted.done():
            return wanted.result()
        raise self._crash_error(self.exit.result())

    def _crash_error(self, gone: Exit) -> RayExtError:
        cls = ProtocolViolation if gone.kind == "protocol-violation" else ExtensionCrashed
        return cls(
            f"the guest of {self.id} ended while it was loading: {gone.cause}",
            where=self.id,
            fix=f"see its log: ray-ext logs {self.id}",
            details={"cause": gone.cause},
        )

    # ---- calls

    def submit(self, method: str, timeout_s: float | None, encoding: int, body: bytes, deliver: Deliver) -> Entry:
        """Send a call to the guest; ``deliver`` gets its outcome. Raises when it is refused (nothing was started)."""
        if method not in self.methods:
            self.ledger.counts.refused += 1
            raise not_exported(method, list(self.methods))
        if encoding != values.MSGPACK and not self.spec.is_trusted:
            self.ledger.counts.refused += 1
            raise ProtocolViolation("pickled arguments are taken by trusted extensions only", where=self.id)
        if timeout_s is not None and timeout_s <= 0:
            self.ledger.counts.refused += 1
            raise _too_late(self.id, method, timeout_s, has_started=False)
        link = self._link
        if link is None:
            # Between the end of its stream and the end of its process.
            self.ledger.counts.refused += 1
            raise ExtensionCrashed(
                f"{self.id} ended before it started {method}",
                where=self.id,
                fix="the call did not run: send it again",
                details={"cause": self._exit_cause},
            )
        entry = self.ledger.accept(method, len(body), deliver)
        if timeout_s is not None:
            timer = self._loop.call_later(timeout_s, self._time_out, entry, timeout_s)
            entry.on_settled = timer.cancel
        link.send(encode_message(Call(entry.sequence, method, encoding)), body)
        return entry

    def flush(self) -> None:
        """Send what was submitted now, without waiting for this turn of the event loop to end."""
        if self._link is not None:
            self._link.flush()

    def cancel(self, entry: Entry) -> None:
        """End the call for its caller now, and cancel it in the guest."""
        if self.ledger.fail(entry, CallCancelled(f"{self.id}.{entry.method} was cancelled", where=self.id)):
            self._send(Cancel(entry.sequence))

    def cancel_sequence(self, sequence: int) -> None:
        """The same by sequence; unknown ones are ignored."""
        entry = self.ledger.get(sequence)
        if entry is not None:
            self.cancel(entry)

    def _time_out(self, entry: Entry, timeout_s: float) -> None:
        has_started = self._guest is not None and self._guest.pulse.started >= entry.sequence
        if self.ledger.fail(entry, _too_late(self.id, entry.method, timeout_s, has_started=has_started)):
            self._send(Cancel(entry.sequence))

    # ---- frames

    def _send(self, message: object, body: bytes = b"") -> None:
        if self._link is not None:
            self._link.send(encode_message(message), body)

    def _on_read(self) -> None:
        if self.after_read:
            callbacks, self.after_read = self.after_read, []
            for callback in callbacks:
                callback()

    def _on_frame(self, envelope: bytes, body: bytes) -> None:
        try:
            message = decode_from_guest(envelope)
        except Exception as error:  # a guest can send any bytes
            raise FrameError(f"an envelope that is no message: {type(error).__name__}") from error
        kind = type(message)
        if kind is Result:
            self._on_result(message, body)
        elif kind is Failure:
            self._on_failure(message)
        elif kind is Log:
            self._logbook.write(message.time, message.level, message.logger, message.message, message.traceback)
        else:
            self._on_lifecycle(message)

    def _on_result(self, message: Result, body: bytes) -> None:
        if message.encoding != values.MSGPACK and not self.spec.is_trusted:
            raise FrameError("a pickled result of a confined guest")
        entry = self.ledger.finish(message.sequence)
        if entry is None:
            raise FrameError(f"a result for call {message.sequence}, which there is not")
        self.ledger.settle(entry, OK, message.encoding, body)

    def _on_failure(self, message: Failure) -> None:
        entry = self.ledger.finish(message.sequence)
        if entry is None:
            raise FrameError(f"a failure for call {message.sequence}, which there is not")
        error = message.error.to_error()
        if error.code not in _GUEST_CODES:
            error = ExtensionError(error.what, where=self.id, details={"type": message.error.code})
        error.where = error.where or self.id
        self.ledger.fail(entry, error)

    def _on_lifecycle(self, message: object) -> None:
        if isinstance(message, Hello) and not self._greeted.done():
            self._greeted.set_result(message)
        elif isinstance(message, Loaded) and self._greeted.done() and not self._loaded.done():
            self._loaded.set_result(message)
        elif isinstance(message, LoadRefused) and self._greeted.done() and not self._loaded.done():
            self._loaded.set_exception(self._load_error(message.error))
        elif isinstance(message, Bye) and self.is_stopping:
            self._exit_kind, self._exit_cause = self._exit_kind or "stopped", self._exit_cause or "unloaded"
        else:
            raise FrameError(f"{type(message).__name__} at the wrong time")

    def _load_error(self, parts: ErrorParts) -> LoadFailed:
        hidden = self._logbook.redacted
        details = {name: hidden(value) if isinstance(value, str) else value for name, value in parts.details.items()}
        return LoadFailed(hidden(parts.what), where=self.id, fix=hidden(parts.fix), details=details)

    # ---- the end

    async def stop(self, grace_s: float) -> Exit:
        """End in order: running calls get ``grace_s`` seconds, then ``on_unload``; returns how it ended."""
        self.is_stopping = True
        if not self.exit.done() and self._link is not None:
            self._send(Shutdown(grace_s))
            await asyncio.wait({self.exit}, timeout=2 * grace_s + 5.0)
        self._end("stopped", "did not end in time and was killed")
        await asyncio.wait({self.exit}, timeout=5.0)
        return self._set_exit("stopped", "unloaded")

    async def _watch(self) -> None:
        """End a guest whose heartbeat stops; warn once per spell when its event loop is blocked."""
        limit = self.spec.hang_after_s
        is_warned = False
        while not self.exit.done() and self._guest is not None:
            await asyncio.wait({self.exit}, timeout=min(1.0, limit / 4))
            beat_age, lag = self._ages()
            if beat_age is not None and beat_age > limit and not self.spec.is_trusted:
                self._end("hung", f"its heartbeat was silent for {beat_age:.1f} s")
                return
            if lag is not None and lag > 5.0 and not is_warned:
                self._logbook.note(logging.WARNING, f"the event loop has been blocked for {lag:.1f} s")
            is_warned = lag is not None and lag > 5.0

    def _ages(self) -> tuple[float | None, float | None]:
        if self._guest is None or self.exit.done() or not self._guest.pulse.beat_ns:
            return None, None
        now = time.monotonic_ns()
        pulse = self._guest.pulse
        return max(0, now - pulse.beat_ns) / 1e9, max(0, now - pulse.loop_beat_ns) / 1e9

    def _end(self, kind: str, cause: str) -> None:
        """End the guest at once, for this reason (the first one counts)."""
        if self.exit.done():
            return
        if self._exit_kind is None:
            self._exit_kind, self._exit_cause = kind, cause
        if self._guest is not None:
            self._guest.kill()
        if self._link is not None:
            self._link.abort()

    def _on_close(self, error: Exception | None) -> None:
        # What the guest wrote before it died has been read by now: what is still pending has no answer.
        if isinstance(error, FrameError):
            self._end("protocol-violation", f"it broke the protocol: {error}")
        self._link = None
        if self._guest is not None and self._exit_kind != "stopped":
            self._guest.kill()
        self._conclude()

    def _on_guest_dead(self, cause: str) -> None:
        if not self._exit_cause:
            self._exit_cause = cause
        self._conclude()

    def _conclude(self) -> None:
        guest = self._guest
        if guest is None or self._link is not None or not guest.is_dead or self.exit.done():
            return
        self._set_exit(self._exit_kind or "crashed", self._exit_cause or guest.death)

    def _set_exit(self, kind: str, cause: str) -> Exit:
        if self.exit.done():
            return self.exit.result()
        guest = self._guest
        started = guest.pulse.started if guest is not None else 0
        unknown, unstarted = self.ledger.lose(started, cause, kind)
        # What a guest says of its end is read in status, show and the registry's log, too.
        cause = self._logbook.redacted(cause)
        gone = Exit(kind=kind, cause=cause, unknown_calls=unknown, unstarted_calls=unstarted)
        self.exit.set_result(gone)
        level = logging.INFO if kind == "stopped" else logging.ERROR
        self._logbook.note(level, f"generation {self.spec.generation} ended: {kind} ({cause})")
        if guest is not None:
            guest.close()
        return gone

    def _on_output(self, stream: str, line: str) -> None:
        self._logbook.write(time.time(), logging.INFO, stream, line, "")

    def status(self) -> InstanceStatus:
        """The instance's figures now."""
        counts, guest = self.ledger.counts, self._guest
        beat_age, lag = self._ages()
        return InstanceStatus(
            generation=self.spec.generation,
            host_pid=os.getpid(),
            guest_pid=None if guest is None else guest.pid,
            stub_pid=None if guest is None else guest.stub_pid,
            level="none" if guest is None else guest.level,
            methods={name: method.signature for name, method in self.methods.items()},
            accepted=counts.accepted,
            completed=counts.completed,
            failed=counts.failed,
            refused=counts.refused,
            unknown=counts.unknown,
            pending=len(self.ledger),
            beat_age_s=beat_age,
            loop_lag_s=lag,
        )


def _too_late(extension: str, method: str, timeout_s: float, *, has_started: bool) -> DeadlineExceeded:
    what = f"{extension}.{method} was not done within {max(timeout_s, 0):.3g} s"
    return DeadlineExceeded(
        what if has_started else f"{what}; it had not started",
        where=extension,
        fix="give it more time with .options(timeout_s=…), or make the method faster",
        details={"timeout_s": timeout_s, "started": has_started},
    )
