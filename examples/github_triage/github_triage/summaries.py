"""One line about a delivery: special words for the common kinds, general ones for every other, known or not."""

from __future__ import annotations

from collections.abc import Callable

from github_triage.payload import Payload, mapping, number, text

__all__ = ["summary"]


def summary(event: str, payload: Payload) -> str:
    """What happened, in one line; any event kind and any shape of payload will do."""
    describe = _DESCRIPTIONS.get(event)
    line = describe(payload) if describe else ""
    where = text(mapping(payload.get("repository")).get("full_name"))
    who = text(mapping(payload.get("sender")).get("login"))
    action = text(payload.get("action"))
    parts = [f"{event} {action}".strip(), line, f"in {where}" if where else "", f"by {who}" if who else ""]
    return text(" ".join(part for part in parts if part))


def _ping(payload: Payload) -> str:
    return f"from hook {number(payload.get('hook_id'))}"


def _push(payload: Payload) -> str:
    commits = payload.get("commits")
    count = len(commits) if isinstance(commits, list) else 0
    done = "deleted" if payload.get("deleted") is True else f"{count} commit{'' if count == 1 else 's'}"
    return f"{done}, {text(payload.get('ref'))}"


def _release(payload: Payload) -> str:
    return text(mapping(payload.get("release")).get("tag_name"))


def _reference(payload: Payload) -> str:
    return f"{text(payload.get('ref_type'))} {text(payload.get('ref'))}".strip()


def _numbered(key: str) -> Callable[[Payload], str]:
    def describe(payload: Payload) -> str:
        item = mapping(payload.get(key))
        return f"#{number(item.get('number'))} {text(item.get('title'))}".strip()

    return describe


def _run(key: str) -> Callable[[Payload], str]:
    def describe(payload: Payload) -> str:
        run = mapping(payload.get(key))
        return f"{text(run.get('name'))} {text(run.get('conclusion') or run.get('status'))}".strip()

    return describe


_DESCRIPTIONS: dict[str, Callable[[Payload], str]] = {
    "check_run": _run("check_run"),
    "create": _reference,
    "delete": _reference,
    "discussion": _numbered("discussion"),
    "issue_comment": _numbered("issue"),
    "issues": _numbered("issue"),
    "ping": _ping,
    "pull_request": _numbered("pull_request"),
    "pull_request_review": _numbered("pull_request"),
    "push": _push,
    "release": _release,
    "workflow_job": _run("workflow_job"),
    "workflow_run": _run("workflow_run"),
}
