"""The runtime as seen through the control API, which is what ``ray-ext`` works with.

Imports neither Ray nor, for a call, msgspec. Types are imported where an answer is made into them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from ray_ext.control.addresses import configured_address
from ray_ext.control.transport import LOOK_S, PATIENCE_S, QUIET_S, Transport
from ray_ext.errors import ArgumentNotSerialisable, ExtensionNotFound, RayExtError, RuntimeClosed

if TYPE_CHECKING:
    from ray_ext.control.commands import PlanView, Verb
    from ray_ext.control.following import OnBegin, OnProgress
    from ray_ext.control.requests import CommandOptions, Grant, Target
    from ray_ext.control.views import ControlView, ExtensionView, OperationView, ReleaseView, StatusView
    from ray_ext.packages.discovery import Discovered
    from ray_ext.store.records import AuditEntry

__all__ = ["RemoteRuntime", "remote_runtime"]

T = TypeVar("T")

_GRACE_S = 10.0
#: How much later than a call's own deadline its answer may be.
_LATE_S = 30.0
#: The status is answered in less, whatever is away.
_STATUS_S = 10.0
_RESULT = b'{"result":'


def remote_runtime(*, patience_s: float = PATIENCE_S) -> RemoteRuntime:
    """The runtime that ``RAY_EXT_CONTROL`` or the state home leads to; one that is starting is waited for.

    Whenever it does not answer although it lives, it gets ``patience_s`` seconds. Raises RuntimeUnreachable where none
    is up, Unauthorised where it is another user's.
    """
    transport = Transport(configured_address(), patience_s=patience_s)
    transport.open()
    return RemoteRuntime(transport)


class RemoteRuntime:
    """Has the methods of :class:`ray_ext.Runtime`, with the same contracts and errors; a context manager.

    ``on_begin`` is told the id of an operation before it is sent: who is interrupted meanwhile may :meth:`cancel` it
    or :meth:`follow` it. ``on_progress`` is told its news, line by line, on the caller's own thread.
    """

    def __init__(self, transport: Transport) -> None:
        self._open_transport: Transport | None = transport

    # ---- changes

    def install(
        self,
        source: Target,
        *,
        version: str | None = None,
        config: Mapping[str, Any] | None = None,
        grant: Grant | None = None,
        load: bool = True,
        find_links: Sequence[str | os.PathLike[str]] = (),
        index_url: str | None = None,
        plan: str | None = None,
        on_progress: OnProgress | None = None,
        on_begin: OnBegin | None = None,
    ) -> ExtensionView:
        """See :meth:`ray_ext.Runtime.install`."""
        options: CommandOptions = {
            "to": version,
            "config": config,
            "grant": grant,
            "load": load,
            "find_links": find_links,
            "index_url": index_url,
            "plan": plan,
        }
        return self._changed("install", source, options, on_progress, on_begin)

    def load(
        self,
        extension: str,
        *,
        plan: str | None = None,
        on_progress: OnProgress | None = None,
        on_begin: OnBegin | None = None,
    ) -> ExtensionView:
        """See :meth:`ray_ext.Runtime.load`."""
        return self._changed("load", extension, {"plan": plan}, on_progress, on_begin)

    def unload(
        self,
        extension: str,
        *,
        grace_s: float = _GRACE_S,
        cascade: bool = False,
        plan: str | None = None,
        on_progress: OnProgress | None = None,
        on_begin: OnBegin | None = None,
    ) -> ExtensionView:
        """See :meth:`ray_ext.Runtime.unload`."""
        options: CommandOptions = {"grace_s": grace_s, "cascade": cascade, "plan": plan}
        return self._changed("unload", extension, options, on_progress, on_begin)

    def remove(
        self,
        extension: str,
        *,
        cascade: bool = False,
        purge: bool = False,
        grace_s: float = _GRACE_S,
        plan: str | None = None,
        on_progress: OnProgress | None = None,
        on_begin: OnBegin | None = None,
    ) -> None:
        """See :meth:`ray_ext.Runtime.remove`."""
        options: CommandOptions = {"cascade": cascade, "purge": purge, "grace_s": grace_s, "plan": plan}
        self._performed("remove", extension, options, on_progress, on_begin)

    def upgrade(
        self,
        extension: str,
        to: Target | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        grant: Grant | None = None,
        grace_s: float = _GRACE_S,
        find_links: Sequence[str | os.PathLike[str]] = (),
        index_url: str | None = None,
        plan: str | None = None,
        on_progress: OnProgress | None = None,
        on_begin: OnBegin | None = None,
    ) -> ExtensionView:
        """See :meth:`ray_ext.Runtime.upgrade`."""
        options: CommandOptions = {
            "to": to,
            "config": config,
            "grant": grant,
            "grace_s": grace_s,
            "find_links": find_links,
            "index_url": index_url,
            "plan": plan,
        }
        return self._changed("upgrade", extension, options, on_progress, on_begin)

    def plan(self, verb: Verb, target: Target, /, **options: Unpack[CommandOptions]) -> PlanView:
        """See :meth:`ray_ext.Runtime.plan`."""
        import msgspec

        from ray_ext.control.commands import PlanView
        from ray_ext.control.following import upload
        from ray_ext.control.requests import make_request

        request, wheel = make_request(verb, target, **options)
        if wheel is not None and request.package is not None:
            upload(self._transport(), wheel, request.package)
        return self._ask("POST", "/v1/plans", PlanView, body=msgspec.json.encode(request))

    def _performed(
        self,
        verb: Verb,
        target: Target,
        options: CommandOptions,
        on_progress: OnProgress | None,
        on_begin: OnBegin | None,
    ) -> OperationView:
        from ray_ext.control.following import perform
        from ray_ext.control.requests import make_request

        request, wheel = make_request(verb, target, **options)
        return perform(self._transport(), request, wheel, on_progress=on_progress, on_begin=on_begin)

    def _changed(
        self,
        verb: Verb,
        target: Target,
        options: CommandOptions,
        on_progress: OnProgress | None,
        on_begin: OnBegin | None,
    ) -> ExtensionView:
        from msgspec.structs import replace

        done = self._performed(verb, target, options, on_progress, on_begin)
        try:
            return replace(self.show(done.extension), instance=None)
        except ExtensionNotFound:
            raise ExtensionNotFound("it was removed by somebody else meanwhile", details={"installed": []}) from None

    # ---- operations

    def operation(self, operation: str) -> OperationView:
        """An operation, at work or over. Raises OperationNotFound."""
        from ray_ext.control.following import operation_path
        from ray_ext.control.views import OperationView

        return self._ask("GET", operation_path(operation), OperationView)

    def follow(self, operation: str, on_progress: OnProgress | None = None) -> OperationView:
        """Wait for an operation's end, whichever it is, and tell all its news. Raises OperationNotFound."""
        from ray_ext.control.following import follow

        return follow(self._transport(), operation, on_progress)

    def cancel(self, operation: str) -> OperationView:
        """End an operation; what it did is undone, which may take until after this. One that is over stays as it is.

        Raises OperationNotFound.
        """
        from ray_ext.control.following import operation_path
        from ray_ext.control.views import OperationView

        return self._ask("POST", f"{operation_path(operation)}/cancel", OperationView)

    # ---- releases

    def register(self, source: Target) -> ReleaseView:
        """See :meth:`ray_ext.Runtime.register`."""
        import hashlib

        import msgspec

        from ray_ext.control.following import upload
        from ray_ext.control.requests import package_of
        from ray_ext.control.views import ReleaseView

        wheel, origin = package_of(source)
        sha256 = hashlib.sha256(wheel).hexdigest()
        upload(self._transport(), wheel, sha256)
        body = msgspec.json.encode({"package": sha256, "source": origin})
        return self._ask("POST", "/v1/releases", ReleaseView, body=body, headers=_once())

    def yank(self, extension: str, version: str, reason: str | None) -> None:
        """See :meth:`ray_ext.Runtime.yank`."""
        path = f"{_release_path(extension, version)}/yank"
        if reason is None:
            self._transport().request("DELETE", path, headers=_once())
            return
        import json

        self._transport().request("PUT", path, json.dumps({"reason": reason}).encode(), headers=_once())

    def forget(self, extension: str, version: str) -> None:
        """See :meth:`ray_ext.Runtime.forget`."""
        self._transport().request("DELETE", _release_path(extension, version), headers=_once())

    # ---- looking

    def show(self, extension: str) -> ExtensionView:
        """See :meth:`ray_ext.Runtime.show`."""
        from ray_ext.control.views import ExtensionView

        return self._ask("GET", self._extension_path(extension), ExtensionView)

    def status(self) -> StatusView:
        """All that is known of the runtime, also while a part of it does not answer."""
        from ray_ext.control.views import StatusView

        return self._ask("GET", "/v1/status", StatusView, quiet_s=_STATUS_S)

    def control(self) -> ControlView:
        """The control actor itself."""
        from ray_ext.control.views import ControlView

        return self._ask("GET", "/v1/control", ControlView)

    def collect(self) -> int:
        """See :meth:`ray_ext.Runtime.collect`."""
        import json

        answer = self._transport().request("POST", "/v1/gc", headers=_once())
        return int(json.loads(answer.body)["bytes"])

    def call(
        self,
        extension: str,
        method: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        """Call an exported method; its result as JSON. Arguments are what JSON knows.

        ``timeout_s`` is the call's deadline. Leaving this early, by KeyboardInterrupt, cancels the call. Raises what a
        handle's method raises, and OutcomeUnknown where the connection is lost.
        """
        import json

        asked = {"args": list(args), "kwargs": dict(kwargs or {}), "timeout_s": timeout_s}
        try:
            body = json.dumps(asked, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise ArgumentNotSerialisable(
                f"the arguments cannot be sent as JSON: {error}", where=f"{extension}.{method}"
            ) from error
        path = f"{self._extension_path(extension)}/methods/{method}"
        if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", method) is None:  # no path leads to it
            from ray_ext.sdk.methods import not_exported

            raise not_exported(method[:200], sorted(self.show(extension).methods))
        answer = self._transport().request(
            "POST",
            path,
            body,
            quiet_s=None if timeout_s is None else timeout_s + _LATE_S,
            is_repeatable=False,
        )
        if answer.body.startswith(_RESULT) and answer.body.endswith(b"}"):
            return answer.body[len(_RESULT) : -1]
        return json.dumps(json.loads(answer.body)["result"]).encode()

    def logs(
        self,
        extension: str | None = None,
        *,
        since: float | None = None,
        level: str | None = None,
        lines: int | None = None,
        is_following: bool = False,
    ) -> Iterator[bytes]:
        """Log records as JSON, of one extension or of all and of the system; those that come, too, if following.

        ``since`` is a Unix time, ``lines`` how many of those that are there. Raises ExtensionNotFound.
        """
        from ray_ext.control.log_following import read_logs

        path = "/v1/logs" if extension is None else f"{self._extension_path(extension)}/logs"
        query = {"since": since, "level": level, "lines": lines}
        return read_logs(self._transport(), path, query, is_following=is_following)

    def releases(self, extension: str | None = None) -> list[ReleaseView]:
        """See :meth:`ray_ext.Runtime.releases`."""
        from ray_ext.control.views import ReleaseView

        if extension is not None and not _is_id(extension):
            return []
        return self._ask("GET", _with_query("/v1/releases", extension=extension), list[ReleaseView])

    def operations(self, limit: int = 20) -> list[OperationView]:
        """The last operations, the newest first."""
        from ray_ext.control.views import OperationView

        return self._ask("GET", _with_query("/v1/operations", limit=limit), list[OperationView])

    def audit(self, extension: str | None = None, *, limit: int = 100) -> list[AuditEntry]:
        """See :meth:`ray_ext.Runtime.audit`."""
        from ray_ext.store.records import AuditEntry

        if extension is not None and not _is_id(extension):
            return []
        return self._ask("GET", _with_query("/v1/audit", extension=extension, limit=limit), list[AuditEntry])

    def discover(self) -> list[Discovered]:
        """See :meth:`ray_ext.Runtime.discover`; on the machine, and in the environment, of the runtime."""
        from ray_ext.packages.discovery import Discovered

        return self._ask("GET", "/v1/discoveries", list[Discovered])

    # ---- the connection

    def close(self) -> None:
        """Leave it; the runtime goes on."""
        if self._open_transport is not None:
            self._open_transport.close()
            self._open_transport = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _transport(self) -> Transport:
        if self._open_transport is None:
            raise RuntimeClosed("this runtime was closed", fix="connect again: remote_runtime()")
        return self._open_transport

    def _ask(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        body: bytes | None = None,
        headers: Sequence[tuple[str, str]] = (),
        quiet_s: float | None = None,
    ) -> T:
        import msgspec

        usual_s = LOOK_S if method == "GET" else QUIET_S
        answer = self._transport().request(method, path, body, headers=headers, quiet_s=quiet_s or usual_s)
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except msgspec.DecodeError as error:
            raise RayExtError(
                f"the runtime's answer is not understood: {error}",
                where=path,
                fix="use the version of ray_ext that the runtime has: ray-ext status",
            ) from error

    def _extension_path(self, extension: str) -> str:
        if _is_id(extension):
            return f"/v1/extensions/{extension}"
        installed = [each.id for each in self.list()]
        raise ExtensionNotFound(
            f"no extension {extension[:200]!r} is installed",
            fix=f"installed: {', '.join(installed)}" if installed else "install one: ray-ext install FOLDER",
            details={"installed": installed},
        )

    # The last one, because the built-in name means something else after it.
    def list(self) -> list[ExtensionView]:
        """See :meth:`ray_ext.Runtime.list`."""
        from ray_ext.control.views import ExtensionView

        return self._ask("GET", "/v1/extensions", list[ExtensionView])


def _is_id(extension: str) -> bool:
    """Whether it may name an extension: paths and queries take nothing else, and nothing else is installed."""
    return re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", extension) is not None and len(extension) <= 64


def _once() -> list[tuple[str, str]]:
    """The headers of a change: applied once however often it is sent, and who asks for it."""
    from ray_ext.control.requests import new_operation, operator

    name = operator().encode("ascii", "backslashreplace").decode()
    shown = "".join(each if "!" <= each <= "~" else "_" for each in name)[:100]
    return [("Operation-Id", new_operation()), *([("Operator", shown)] if shown else [])]


def _release_path(extension: str, version: str) -> str:
    from urllib.parse import quote

    return f"/v1/releases/{quote(extension, safe='')}/{quote(version, safe='')}"


def _with_query(path: str, **query: str | float | None) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    if not given:
        return path
    from urllib.parse import urlencode

    return f"{path}?{urlencode(given)}"
