"""Logs over the control API: a stream of records that goes on where it broke off."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from urllib.parse import urlencode

from ray_ext.control.transport import LOOK_S, ConnectionLost, Patience, Stream, Transport
from ray_ext.errors import RuntimeUnreachable

__all__ = ["read_logs"]

#: So many records are known again when they come a second time.
_KNOWN = 10_000


def read_logs(
    transport: Transport, path: str, query: Mapping[str, str | float | None], *, is_following: bool
) -> Iterator[bytes]:
    """The records, each as JSON; asks before this returns, so that errors are raised here.

    Whoever follows is joined again when the control actor is lost, from the last record on.
    """
    given = {name: value for name, value in query.items() if value is not None}
    if is_following:
        given["is_following"] = "true"
    patience = transport.patience()
    stream = _ask(transport, path, given, patience, is_following=is_following)
    return _records(transport, path, given, stream, patience) if is_following else _once(stream)


def _once(stream: Stream) -> Iterator[bytes]:
    try:
        with stream:
            yield from stream
    except ConnectionLost as lost:
        raise RuntimeUnreachable(f"the records are not complete: {lost}", fix="ask again") from lost


def _records(
    transport: Transport, path: str, given: dict[str, str | float], stream: Stream, patience: Patience
) -> Iterator[bytes]:
    told: deque[bytes] = deque(maxlen=_KNOWN)
    while True:
        try:
            with stream:
                before = set(told)
                for line in stream:
                    patience.reset()
                    if line not in before:
                        told.append(line)
                        yield line
                raise ConnectionLost("the logs broke off", was_sent=True)
        except ConnectionLost as lost:
            patience.wait(lost)
        if told:
            given = {**given, "since": _time_of(told[-1])}
            given.pop("lines", None)
        stream = _ask(transport, path, given, patience, is_following=True)


def _ask(
    transport: Transport, path: str, given: Mapping[str, str | float], patience: Patience, *, is_following: bool
) -> Stream:
    target = f"{path}?{urlencode(given)}" if given else path
    while True:
        try:
            return transport.stream(target, quiet_s=None if is_following else LOOK_S)
        except ConnectionLost as lost:
            patience.wait(lost)


def _time_of(line: bytes) -> float:
    import json
    from datetime import datetime

    return datetime.fromisoformat(json.loads(line)["time"]).timestamp()
