"""The exit statuses of ``ray-ext``, which scripts may rely on."""

from __future__ import annotations

from ray_ext.errors import RayExtError

__all__ = [
    "DENIED",
    "FAILED",
    "INTERRUPTED",
    "OK",
    "STATUSES",
    "TIMEOUT",
    "UNREACHABLE",
    "USAGE",
    "VALIDATION",
    "status_of",
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

_BY_CODE = {
    "argument-mismatch": VALIDATION,
    "argument-not-serialisable": VALIDATION,
    "configuration-invalid": VALIDATION,
    "deadline-exceeded": TIMEOUT,
    "grant-required": DENIED,
    "manifest-invalid": VALIDATION,
    "nested-object-ref": VALIDATION,
    "not-exported": VALIDATION,
    "package-invalid": VALIDATION,
    "payload-too-large": VALIDATION,
    "request-invalid": VALIDATION,
    "runtime-unreachable": UNREACHABLE,
    "unauthorised": DENIED,
}


def status_of(error: RayExtError) -> int:
    """The exit status that an error ends with."""
    return status_of_code(error.code)


def status_of_code(code: str) -> int:
    """The same by the error's code."""
    return _BY_CODE.get(code, FAILED)
