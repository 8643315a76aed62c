"""The exit statuses of ``ray-ext``, which scripts may rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ray_ext.errors import Detail, RayExtError

__all__ = [
    "DENIED",
    "FAILED",
    "INTERRUPTED",
    "OK",
    "STATUSES",
    "STATUS_OF_CODES",
    "TIMEOUT",
    "UNREACHABLE",
    "USAGE",
    "VALIDATION",
    "Interrupted",
    "status_of",
    "status_of_code",
]

OK, FAILED, USAGE, VALIDATION, DENIED, UNREACHABLE, TIMEOUT = range(7)
#: As shells have it for SIGINT.
INTERRUPTED = 130

#: What each means, for help and documentation.
STATUSES = {
    OK: "ok",
    FAILED: "failed",
    USAGE: "wrong usage",
    VALIDATION: "something given is not valid: a manifest, package, configuration or argument",
    DENIED: "denied: a grant or a right is missing",
    UNREACHABLE: "no runtime answers",
    TIMEOUT: "not in time",
    INTERRUPTED: "interrupted (Ctrl-C)",
}

#: The status of each error that there is, by its code.
STATUS_OF_CODES = {
    "argument-mismatch": VALIDATION,
    "argument-not-serialisable": VALIDATION,
    "call-cancelled": FAILED,
    "configuration-invalid": VALIDATION,
    "deadline-exceeded": TIMEOUT,
    "dependency-conflict": FAILED,
    "dependency-cycle": FAILED,
    "dependents-exist": FAILED,
    "environment-failed": FAILED,
    "extension-crashed": FAILED,
    "extension-error": FAILED,
    "extension-hung": FAILED,
    "extension-not-found": FAILED,
    "extension-not-loaded": FAILED,
    "grant-required": DENIED,
    "installation-conflict": FAILED,
    "insufficient-resources": FAILED,
    "internal-error": FAILED,
    "isolation-unavailable": FAILED,
    "listen-invalid": VALIDATION,
    "load-failed": FAILED,
    "manifest-invalid": VALIDATION,
    "nested-object-ref": VALIDATION,
    "no-event-loop": FAILED,
    "not-available-yet": VALIDATION,
    "not-exported": VALIDATION,
    # By somebody else: who presses Ctrl-C gets INTERRUPTED.
    "operation-cancelled": FAILED,
    "operation-conflict": FAILED,
    "operation-failed": FAILED,
    "operation-not-found": FAILED,
    "outcome-unknown": FAILED,
    "overloaded": FAILED,
    "package-invalid": VALIDATION,
    "package-not-found": FAILED,
    "payload-too-large": VALIDATION,
    "plan-stale": FAILED,
    "protocol-violation": FAILED,
    "release-conflict": FAILED,
    "request-invalid": VALIDATION,
    "result-not-serialisable": FAILED,
    "runtime-closed": FAILED,
    "runtime-conflict": FAILED,
    "runtime-unreachable": UNREACHABLE,
    "store-failed": FAILED,
    "unauthorised": DENIED,
}


class Interrupted(Exception):
    """Ctrl-C ended the verb; ``what`` says what that did. The command line prints it and ends with INTERRUPTED."""

    def __init__(self, what: str, *, code: str = "interrupted", details: Mapping[str, Detail] | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.code = code
        self.details = dict(details or {})


def status_of(error: RayExtError) -> int:
    """The exit status that an error ends with."""
    return status_of_code(error.code)


def status_of_code(code: str) -> int:
    """The same by the error's code; FAILED for one that only a newer runtime has."""
    return STATUS_OF_CODES.get(code, FAILED)
