"""Operations, events and logs that break off are gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray_ext.control.addresses import HomeAddress
from ray_ext.control.event_reading import read_events
from ray_ext.control.following import follow, perform
from ray_ext.control.remote import RemoteRuntime
from ray_ext.control.requests import make_request
from ray_ext.control.transport import Transport
from ray_ext.errors import (
    OperationFailed,
    OperationNotFound,
    RuntimeUnreachable,
)
from ray_ext.home import Home
from tests.unit.control.server import OPERATION, Serve, answer, end, events, problem, progress, view


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_events_are_read_as_the_standard_says(ending: str) -> None:
    text = (
        "\ufeff: a comment\n\nid: 1\nevent: progress\ndata: one\ndata:two\ndata:  three\n\n"
        "event: empty, so no event\n\ndata\n\nretry: 3\nunknown: x\nid: 2\ndata: a: b\n\n: comment\ndata: never whole\n"
    )
    found = list(read_events([line.encode() for line in text.replace("\n", ending).split("\n")[:-1]]))
    assert found == [("progress", "one\ntwo\n three", "1"), ("message", "", "1"), ("message", "a: b", "2")]


@pytest.mark.usefixtures("lives")
def test_following_goes_on_after_the_last_news_and_repeats_none(transport: Transport, serve: Serve) -> None:
    server = serve(
        events(": keep-alive\n\n", progress("7-1", "one"), progress("7-2", "two"), "id: 7-3\nevent: progress\ndata: {"),
        None,
        events(progress("7-3", "three"), end("done")),
    )
    told: list[str] = []
    assert follow(transport, OPERATION, told.append).state == "done"
    assert told == ["one", "two", "three"]
    assert b"Last-Event-ID" not in server.requests[0]
    assert all(b"\r\nLast-Event-ID: 7-2\r\n" in each for each in server.requests[1:])


def test_following_what_is_not_known_says_so(transport: Transport, serve: Serve) -> None:
    serve(problem(404, "operation-not-found"))
    with pytest.raises(OperationNotFound, match="what"):
        follow(transport, OPERATION)
    with pytest.raises(OperationNotFound, match="no operation 'not an id'"):
        follow(transport, "not an id")


@pytest.mark.usefixtures("lives")
def test_an_operation_that_was_lost_is_sent_again_with_its_id(transport: Transport, serve: Serve) -> None:
    server = serve(
        None,  # control dies before it answers,
        answer(view("running"), 202),
        problem(404, "operation-not-found"),  # and again before the registry knows of it,
        answer(view("running"), 202),
        events(progress("7-1", "one"), end("interrupted")),  # and then the registry.
        answer(view("running"), 202),
        events(progress("8-1", "one"), end("done")),
    )
    told: list[str] = []
    begun: list[str] = []
    request, _ = make_request("load", "probe")
    done = perform(transport, request, None, on_progress=told.append, on_begin=begun.append)
    assert done.state == "done"
    assert told == ["one", "one"]
    put, watched = f"PUT /v1/operations/{begun[0]} HTTP/1.0", f"GET /v1/operations/{begun[0]}/events HTTP/1.0"
    assert server.lines == [put, put, watched, put, watched, put, watched]
    assert len({each for each in server.requests if each.startswith(b"PUT")}) == 1


def test_the_error_of_an_operation_is_raised(transport: Transport, serve: Serve) -> None:
    error = {"code": "operation-failed", "what": "a step failed", "fix": "mend it", "details": {"step": "load"}}
    serve(answer(view("running"), 202), events(end("failed", error=error)))
    request, _ = make_request("load", "probe")
    with pytest.raises(OperationFailed) as raised:
        perform(transport, request, None)
    assert str(raised.value) == "a step failed\n  fix: mend it [operation-failed]"
    assert raised.value.details == {"step": "load"}


def test_a_package_that_was_thrown_away_is_uploaded_again(transport: Transport, serve: Serve, tmp_path: Path) -> None:
    wheel = tmp_path / "probe-1-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    request, content = make_request("install", wheel)
    server = serve(
        answer(b"{}", 201),
        problem(404, "package-not-found"),
        answer(b"{}", 201),
        answer(view("running"), 202),
        events(end("done")),
    )
    assert perform(transport, request, content).state == "done"
    uploads = [each for each in server.requests if b"/v1/packages/" in each.split(b"\r\n")[0]]
    assert len(uploads) == 2
    assert all(each.endswith(b"\r\n\r\nwheel") for each in uploads)


@pytest.mark.usefixtures("lives")
def test_logs_that_are_followed_go_on_where_they_broke_off(home: Home, serve: Serve) -> None:
    records = [json.dumps({"time": f"2026-01-01T00:00:0{i}+00:00", "message": str(i)}).encode() for i in range(3)]
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    server = serve(
        head + records[0] + b"\n" + records[1] + b"\n" + records[2][:9],
        head + records[1] + b"\n" + records[2] + b"\n",
    )
    with RemoteRuntime(Transport(HomeAddress(home), patience_s=0.2)) as runtime:
        logs = runtime.logs("probe", lines=5, level="info", is_following=True)
        assert [next(logs) for _ in range(3)] == records
        with pytest.raises(RuntimeUnreachable, match="has not answered"):
            next(logs)
    assert server.lines[0] == "GET /v1/extensions/probe/logs?level=info&lines=5&is_following=true HTTP/1.0"
    assert "since=1767225601.0" in server.lines[1]
    assert "lines" not in server.lines[1]


def test_logs_that_end_in_the_middle_of_a_record_say_so(home: Home, serve: Serve) -> None:
    serve(b'HTTP/1.1 200 OK\r\n\r\n{"a":1}\n{"b"')
    with RemoteRuntime(Transport(HomeAddress(home))) as runtime:
        logs = runtime.logs()
        assert next(logs) == b'{"a":1}'
        with pytest.raises(RuntimeUnreachable, match="not complete: the answer broke off"):
            next(logs)
