"""What a client may rely on, whatever it sends: problems that say what is wrong, changes that are applied once."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ray_ext.client.runtime import Runtime
from ray_ext.control.requests import new_operation
from ray_ext.control.staging import KEPT_S, PACKAGE_LIMIT
from tests.control.conftest import Api, PackExtension, Reply, eventually
from tests.control.watching import Watch
from tests.patient_extension import PATIENT


def _problem(reply: Reply, status: int, code: str) -> Any:
    assert (reply.status, reply.json["code"]) == (status, code), reply
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json["status"] == status
    assert reply.json["type"] == f"/v1/errors/{code}"
    assert reply.json["detail"]
    return reply.json


def _upload(api: Api, wheel: bytes) -> str:
    sha256 = hashlib.sha256(wheel).hexdigest()
    reply = api.ask("PUT", f"/v1/packages/{sha256}", wheel)
    assert reply.status in {200, 201}, reply
    assert reply.json == {"sha256": sha256, "size_bytes": len(wheel)}
    return sha256


def _ended(api: Api, operation: str) -> Any:
    def view() -> Any:
        found = api.ask("GET", f"/v1/operations/{operation}").json
        return None if found["state"] == "running" else found

    return eventually(view, f"operation {operation} ends")


# ---- errors


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v1/extensions/nobody", None, 404, "extension-not-found"),
        ("POST", "/v1/extensions/nobody/methods/echo", {}, 404, "extension-not-found"),
        ("POST", "/v1/extensions/probe/methods/hidden", {}, 404, "not-exported"),
        ("POST", "/v1/extensions/probe/methods/echo", {"args": [1, 2, 3]}, 422, "argument-mismatch"),
        ("POST", "/v1/extensions/probe/methods/echo", {"args": [2**80]}, 422, "argument-not-serialisable"),
        ("POST", "/v1/extensions/probe/methods/fail", {"args": ["oh"]}, 502, "extension-error"),
        ("POST", "/v1/extensions/probe/methods/keyed", {}, 502, "result-not-serialisable"),
        (
            "POST",
            "/v1/extensions/probe/methods/sleep",
            {"args": ["late", 60], "timeout_s": 0.2},
            504,
            "deadline-exceeded",
        ),
        ("GET", "/v1/operations/00000000", None, 404, "operation-not-found"),
        ("GET", "/v1/operations/00000000/events", None, 404, "operation-not-found"),
        ("POST", "/v1/operations/00000000/cancel", None, 404, "operation-not-found"),
        ("PUT", "/v1/operations/00000000", {"verb": "install", "package": "0" * 64}, 404, "package-not-found"),
        ("POST", "/v1/plans", {"verb": "install", "package": "0" * 64}, 404, "package-not-found"),
        ("POST", "/v1/plans", {"verb": "unload", "extension": "nobody"}, 404, "extension-not-found"),
        ("POST", "/v1/plans", {"verb": "load", "extension": "probe", "plan": "0" * 64}, 409, "plan-stale"),
        ("GET", "/v1/extensions/nobody/logs", None, 404, "extension-not-found"),
        ("GET", "/v1/nothing", None, 404, "request-invalid"),
        ("GET", "/v1/extensions/", None, 404, "request-invalid"),
        ("GET", "/v1/errors/no-such-error", None, 404, "request-invalid"),
    ],
)
def test_each_error_is_a_problem_with_its_code(
    api: Api, probe: str, method: str, path: str, body: Any, status: int, code: str
) -> None:
    problem = _problem(api.ask(method, path, body), status, code)
    if code == "extension-error":
        assert (problem["details"]["type"], problem["details"]["message"]) == ("ValueError", "oh")
        assert problem["actor"] == "extension"


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "named"),
    [
        ("GET", "/v1/extensions?colour=blue", None, {}, "colour"),
        ("GET", "/v1/audit?limit=1&limit=2", None, {}, "limit"),
        ("GET", "/v1/audit?limit=0", None, {}, "limit"),
        ("GET", "/v1/audit?limit=many", None, {}, "limit"),
        ("GET", "/v1/logs?is_following=maybe", None, {}, "is_following"),
        ("GET", "/v1/extensions/Not_Normal", None, {}, "id"),
        ("GET", "/v1/extensions/probe%0A", None, {}, "id"),
        ("POST", "/v1/extensions/probe/methods/no-name", {}, {}, "method"),
        ("GET", "/v1/operations/NOT-HEX-AT-ALL", None, {}, "operation"),
        ("PUT", "/v1/operations/00000000", {"verb": "install", "colour": "blue"}, {}, "colour"),
        ("PUT", "/v1/operations/00000000", {"verb": "paint"}, {}, "paint"),
        ("PUT", "/v1/operations/00000000", b"{", {"Content-Type": "application/json"}, "body"),
        ("PUT", "/v1/operations/00000000", b"[" * 100_000, {"Content-Type": "application/json"}, "body"),
        ("PUT", "/v1/operations/00000000", b"{}", {"Content-Type": "text/plain"}, "Content-Type"),
        ("POST", "/v1/extensions/probe/methods/echo", {"arguments": []}, {}, "arguments"),
        ("PUT", "/v1/packages/abc", b"x", {}, "sha256"),
        ("PUT", f"/v1/packages/{'0' * 64}", b"x", {"Content-Type": "application/json"}, "Content-Type"),
        ("POST", "/v1/gc", None, {}, "Operation-Id"),
        ("POST", "/v1/gc", None, {"Operation-Id": "short"}, "Operation-Id"),
        ("DELETE", "/v1/releases/probe/1.0.0", None, {}, "Operation-Id"),
    ],
)
def test_a_request_of_a_wrong_shape_is_refused_and_told_what_is_wrong(
    api: Api, probe: str, method: str, path: str, body: Any, headers: dict[str, str], named: str
) -> None:
    problem = _problem(api.ask(method, path, body, headers=headers), 400, "request-invalid")
    assert any(named in each for each in problem["details"]["problems"])


def test_all_that_is_wrong_is_told_at_once(api: Api) -> None:
    problem = _problem(api.ask("GET", "/v1/audit?limit=0&extension=NO&colour=blue"), 400, "request-invalid")
    assert len(problem["details"]["problems"]) == 3


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/status", "GET, HEAD"),
        ("PATCH", "/v1/releases", "GET, HEAD, POST"),
        ("POST", "/v1/releases/probe/1.0.0/yank", "DELETE, PUT"),
    ],
)
def test_a_method_that_a_path_does_not_have_is_answered_with_those_it_has(
    api: Api, method: str, path: str, allowed: str
) -> None:
    reply = api.ask(method, path)
    _problem(reply, 405, "request-invalid")
    assert reply.headers["allow"] == allowed


def test_an_error_explains_itself_where_its_problem_says(api: Api) -> None:
    problem = api.ask("GET", "/v1/extensions/nobody").json
    explained = api.ask("GET", problem["type"])
    assert (explained.status, explained.json["code"]) == (200, "extension-not-found")


# ---- the token


def test_over_tcp_every_request_needs_the_token(tcp_api: Api) -> None:
    assert tcp_api.ask("GET", "/v1/status").status == 200
    right = tcp_api.token
    lower = {"Authorization": f"bearer {right}"}
    assert Api(tcp_api.place).ask("GET", "/v1/control", headers=lower).status == 200
    for wrong in ("", "Bearer", f"Bearer {right[:-1]}", f"Bearer {right}0", f"Basic {right}", "Bearer \xff"):
        for path in ("/v1/status", "/v1/openapi.json", "/v1/nothing"):
            reply = Api(tcp_api.place).ask("GET", path, headers={"Authorization": wrong} if wrong else {})
            _problem(reply, 401, "unauthorised")
            assert reply.headers["www-authenticate"] == "Bearer"
            assert right not in reply.body.decode()


# ---- uploads


def test_a_damaged_upload_is_refused_and_is_not_there(api: Api, runtime: Runtime) -> None:
    sha256 = hashlib.sha256(b"whole").hexdigest()
    _problem(api.ask("PUT", f"/v1/packages/{sha256}", b"damaged"), 422, "package-invalid")
    refused = api.ask("PUT", f"/v1/operations/{new_operation()}", {"verb": "install", "package": sha256})
    _problem(refused, 404, "package-not-found")
    assert sha256 not in " ".join(os.listdir(runtime.home / "run" / "uploads"))


def test_an_upload_that_says_it_is_too_large_is_refused_at_once(api: Api) -> None:
    connection = api.open()
    connection.putrequest("PUT", f"/v1/packages/{'0' * 64}")
    connection.putheader("Content-Type", "application/octet-stream")
    connection.putheader("Content-Length", str(PACKAGE_LIMIT + 1))
    connection.endheaders()  # and nothing of it
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["code"]) == (413, "payload-too-large")
    connection.close()


def test_a_body_that_is_too_large_is_refused(api: Api) -> None:
    body = {"verb": "load", "extension": "x" * (1 << 20)}
    _problem(api.ask("PUT", f"/v1/operations/{new_operation()}", body), 413, "payload-too-large")


def test_an_upload_is_gone_after_an_hour(api: Api, runtime: Runtime) -> None:
    wheel = secrets.token_bytes(100)
    sha256 = _upload(api, wheel)
    assert api.ask("PUT", f"/v1/packages/{sha256}", wheel).status == 200, "it is there already"
    path: Path = runtime.home / "run" / "uploads" / f"{sha256}.whl"
    old = path.stat().st_mtime - KEPT_S - 1
    os.utime(path, (old, old))
    _problem(api.ask("POST", "/v1/plans", {"verb": "install", "package": sha256}), 404, "package-not-found")
    assert api.ask("PUT", f"/v1/packages/{sha256}", wheel).status == 201


# ---- operations


def test_an_operation_that_many_send_at_once_is_applied_once(
    api: Api, runtime: Runtime, pack_extension: PackExtension
) -> None:
    operation, sha256 = new_operation(), _upload(api, pack_extension("once"))
    body = {"verb": "install", "package": sha256, "source": "here", "actor": "many"}
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda _: api.ask("PUT", f"/v1/operations/{operation}", body), range(8)))
    assert sorted(each.status for each in replies) == [200] * 7 + [202]
    (begun,) = [each for each in replies if each.status == 202]
    assert begun.headers["location"] == f"/v1/operations/{operation}"
    assert {each.json["id"] for each in replies} == {operation}
    ended = _ended(api, operation)
    assert (ended["state"], ended["step"], len(ended["steps"])) == ("done", 2, 2)
    again = api.ask("PUT", f"/v1/operations/{operation}", body)
    assert (again.status, again.json) == (200, ended)
    entries = runtime.audit("once")
    assert len([each for each in entries if "steps" in each.detail]) == 1
    assert {(each.actor, each.operation) for each in entries} == {("many", operation)}
    assert runtime.show("once").generation == 1
    runtime.remove("once")


@pytest.mark.parametrize("other", [{"verb": "unload", "extension": "probe"}, {"verb": "load", "extension": "another"}])
def test_an_id_stands_for_one_operation_alone(api: Api, probe: str, other: dict[str, str]) -> None:
    operation = new_operation()
    assert api.ask("PUT", f"/v1/operations/{operation}", {"verb": "load", "extension": probe}).status == 202
    _ended(api, operation)
    _problem(api.ask("PUT", f"/v1/operations/{operation}", other), 409, "operation-conflict")


def test_what_was_refused_before_it_began_is_told_to_whoever_asks(api: Api) -> None:
    operation = new_operation()
    body = {"verb": "load", "extension": "nobody"}
    assert api.ask("PUT", f"/v1/operations/{operation}", body).status == 202
    ended = _ended(api, operation)
    assert (ended["state"], ended["error"]["code"]) == ("failed", "extension-not-found")
    assert api.ask("PUT", f"/v1/operations/{operation}", body).json == ended
    (event,) = Watch(api, operation).join()
    assert event[1:] == ("end", ended)


def test_events_are_told_from_the_last_one_known(api: Api, runtime: Runtime, pack_extension: PackExtension) -> None:
    operation, sha256 = new_operation(), _upload(api, pack_extension("told", code=PATIENT))
    body = {"verb": "install", "package": sha256}
    assert api.ask("PUT", f"/v1/operations/{operation}", body).status == 202
    first = Watch(api, operation)
    eventually(lambda: len(first.events) == 2, "both steps have begun")
    rest = Watch(api, operation, first.events[0][0])
    data = runtime.home / "data" / "told"
    eventually((data / "started").exists, "it is loading")
    (data / "go").touch()
    told = first.join()
    assert [name for _, name, _ in told] == ["progress", "progress", "end"], told[-1]
    assert [data["id"] for _, name, data in told if name == "progress"] == [told[0][0], told[1][0]]
    assert told[-1][2]["state"] == "done"
    assert rest.join() == told[1:]
    assert Watch(api, operation, told[1][0]).join() == told[2:]
    assert Watch(api, operation, "not an id of ours").join() == told, "nothing is lost"
    runtime.remove("told", purge=True)


def test_a_cancelled_operation_is_undone(api: Api, runtime: Runtime, pack_extension: PackExtension) -> None:
    operation, sha256 = new_operation(), _upload(api, pack_extension("cancelled", code=PATIENT))
    assert api.ask("PUT", f"/v1/operations/{operation}", {"verb": "install", "package": sha256}).status == 202
    watch = Watch(api, operation)
    eventually((runtime.home / "data" / "cancelled" / "started").exists, "it is loading")
    view = api.ask("POST", f"/v1/operations/{operation}/cancel").json
    assert (view["state"], view["error"]["code"]) == ("failed", "operation-cancelled")
    assert watch.join()[-1][1:] == ("end", view)
    assert "cancelled" not in {each.id for each in runtime.list()}
    assert api.ask("POST", f"/v1/operations/{operation}/cancel").json == view, "once more changes nothing"


def test_what_has_ended_stays_as_it_is_when_it_is_cancelled(api: Api, probe: str) -> None:
    operation = new_operation()
    api.ask("PUT", f"/v1/operations/{operation}", {"verb": "load", "extension": probe})
    ended = _ended(api, operation)
    assert ended["state"] == "done"
    assert api.ask("POST", f"/v1/operations/{operation}/cancel").json == ended


# ---- calls


def test_a_call_is_cancelled_when_its_client_goes_away(api: Api, probe: str) -> None:
    name = secrets.token_hex(4)

    def end() -> Any:
        return api.ask("POST", f"/v1/extensions/{probe}/methods/end_of", {"args": [name]}).json["result"]

    connection = api.open()
    connection.request(
        "POST",
        f"/v1/extensions/{probe}/methods/sleep",
        json.dumps({"args": [name, 600]}),
        {"Content-Type": "application/json"},
    )
    eventually(lambda: end() == "asleep", "the method runs")
    connection.close()
    assert eventually(lambda: end() != "asleep" and end(), "the method ends") == "cancelled"


def test_values_come_back_as_they_went(api: Api, probe: str) -> None:
    values: list[Any] = [None, True, -1, 2**63, 1.5, "ü\n\u2028", [1, [2]], {"a": {"b": []}}]
    for value in values:
        reply = api.ask("POST", f"/v1/extensions/{probe}/methods/echo", {"args": [value]})
        assert (reply.status, reply.json) == (200, {"result": value})


# ---- releases and upkeep


def test_a_release_is_registered_yanked_and_forgotten(
    api: Api, runtime: Runtime, pack_extension: PackExtension
) -> None:
    sha256 = _upload(api, pack_extension("shelved"))
    once = {"Operation-Id": new_operation(), "Operator": "librarian"}
    for _ in range(2):
        reply = api.ask("POST", "/v1/releases", {"package": sha256, "source": "a shelf"}, headers=once)
        assert (reply.status, reply.json["id"], reply.json["sha256"]) == (201, "shelved", sha256)
    place = "/v1/releases/shelved/1.0.0"

    def change(method: str, path: str, body: Any = None) -> int:
        return api.ask(method, path, body, headers={"Operation-Id": new_operation(), "Operator": "librarian"}).status

    def yanked() -> list[str]:
        return [each["yanked"] for each in api.ask("GET", "/v1/releases?extension=shelved").json]

    assert change("PUT", f"{place}/yank", {"reason": "it is torn"}) == 204
    assert yanked() == ["it is torn"]
    assert change("DELETE", f"{place}/yank") == 204
    assert yanked() == [""]
    assert change("DELETE", place) == 204
    assert yanked() == []
    assert change("DELETE", place) == 204, "what is not known stays so"
    assert {each.actor for each in runtime.audit("shelved")} == {"librarian"}


def test_what_nothing_needs_is_collected(api: Api) -> None:
    reply = api.ask("POST", "/v1/gc", headers={"Operation-Id": new_operation()})
    assert reply.status == 200
    assert reply.json["bytes"] >= 0


def test_an_extension_that_lies_on_the_search_path_is_discovered(api: Api, runtime: Runtime) -> None:
    folder = runtime.home / "extensions" / "broken"
    folder.mkdir(parents=True)
    (folder / "extension.toml").write_text("not = [toml")
    (found,) = [each for each in api.ask("GET", "/v1/discoveries").json if each["source"] == str(folder)]
    assert (found["kind"], found["is_valid"]) == ("folder", False)
    assert found["problems"]


def test_logs_are_json_lines(api: Api, probe: str) -> None:
    reply = api.ask("GET", "/v1/logs?lines=5")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in reply.body.splitlines()]
    assert 0 < len(lines) <= 5
    assert all(each["level"] and each["message"] for each in lines)
