"""Operations over the control API: begun, followed to their end, joined again after whatever was lost in between."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ray_ext.control.event_reading import read_events
from ray_ext.control.requests import new_operation
from ray_ext.control.transport import LOOK_S, ConnectionLost, Patience, Transport
from ray_ext.control.views import News, OperationView
from ray_ext.errors import OperationNotFound, PackageNotFound, RayExtError, error_from_parts

if TYPE_CHECKING:
    from ray_ext.control.requests import CommandRequest

__all__ = ["OnBegin", "OnProgress", "failure_of", "follow", "operation_path", "perform", "upload"]

T = TypeVar("T")

#: Called with one line of text for people.
OnProgress = Callable[[str], None]
#: Called with the operation's id, before anything is sent.
OnBegin = Callable[[str], None]

#: How often an operation is sent again: each time its registry has died, or the control actor that knew it.
_TRIES = 8


def perform(
    transport: Transport,
    request: CommandRequest,
    wheel: bytes | None,
    *,
    on_progress: OnProgress | None = None,
    on_begin: OnBegin | None = None,
) -> OperationView:
    """Have it carried out, once, and return how it ended: done.

    Raises the error that it failed with. Whoever is interrupted in here leaves the operation at work.
    """
    operation = new_operation()
    if on_begin is not None:
        on_begin(operation)
    followed = _Followed(transport, operation, on_progress)
    body = msgspec.json.encode(request)
    for tries in range(1, _TRIES + 1):
        _send(transport, operation, body, request.package, wheel)
        try:
            view = followed.to_end()
        except OperationNotFound:  # its control actor has died before the registry knew of it
            if tries == _TRIES:
                raise
            continue
        if view.state == "done":
            return view
        if view.state != "interrupted":
            break
    raise failure_of(view)


def follow(transport: Transport, operation: str, on_progress: OnProgress | None = None) -> OperationView:
    """Wait for an operation's end, whichever it is, and tell all its news. Raises OperationNotFound."""
    return _Followed(transport, operation, on_progress).to_end()


def failure_of(view: OperationView) -> RayExtError:
    """The error of an operation that has come to nothing."""
    if view.error is not None:
        error = view.error
        return error_from_parts(error.code, error.what, error.where, error.fix, error.details)
    return RayExtError(
        f"{view.verb} {view.extension}: the registry ended meanwhile, and the operation was undone",
        fix="send it again",
        details={"operation": view.id},
    )


def operation_path(operation: str) -> str:
    """Its resource. Raises OperationNotFound where no operation can have this id."""
    if re.fullmatch("[0-9a-f]{8,64}", operation) is None:
        raise OperationNotFound(
            f"no operation {operation[:100]!r} is known", fix="see those there are: ray-ext operations list"
        )
    return f"/v1/operations/{operation}"


def upload(transport: Transport, wheel: bytes, sha256: str) -> None:
    """Hand a package over, for requests to name."""
    transport.request("PUT", f"/v1/packages/{sha256}", wheel, content_type="application/octet-stream")


def _send(transport: Transport, operation: str, body: bytes, package: str | None, wheel: bytes | None) -> None:
    is_uploaded = False
    while True:
        if package is not None and wheel is not None and not is_uploaded:
            upload(transport, wheel, package)
        try:
            transport.request("PUT", operation_path(operation), body)
            return
        except PackageNotFound:  # nobody asked for it in time
            if is_uploaded:
                raise
            is_uploaded = True
            if package is not None and wheel is not None:
                upload(transport, wheel, package)


class _Followed:
    """Knows what it has told: who joins again hears the rest."""

    def __init__(self, transport: Transport, operation: str, on_progress: OnProgress | None) -> None:
        self._transport = transport
        self._path = f"{operation_path(operation)}/events"
        self._on_progress = on_progress
        self._last = ""

    def to_end(self) -> OperationView:
        patience = self._transport.patience()
        while True:
            try:
                return self._listen(patience)
            except ConnectionLost as lost:
                patience.wait(lost)

    def _listen(self, patience: Patience) -> OperationView:
        headers = [("Last-Event-ID", self._last)] if self._last else []
        with self._transport.stream(self._path, headers=headers, quiet_s=LOOK_S) as lines:
            for event in read_events(_heard(lines, patience)):
                if event.kind == "end":
                    return _decoded(event.data, OperationView)
                if event.kind == "progress":
                    news = _decoded(event.data, News)
                    self._last = news.id
                    if self._on_progress is not None:
                        self._on_progress(news.text)
        raise ConnectionLost("the events broke off", was_sent=True)


def _heard(lines: Iterable[bytes], patience: Patience) -> Iterator[bytes]:
    for line in lines:
        patience.reset()
        yield line


def _decoded(data: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise RayExtError(
            f"the runtime tells something unknown: {error}", fix="use its own version of ray_ext"
        ) from error
