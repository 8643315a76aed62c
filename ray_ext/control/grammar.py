"""What identifies things in requests to the control API: their shapes, for checks and documentation alike."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

__all__ = [
    "NEWS_ID",
    "ErrorCode",
    "ExtensionId",
    "LastEventHeader",
    "Limit",
    "MethodName",
    "NewsId",
    "OperationHeader",
    "OperationId",
    "OperatorHeader",
    "Seconds",
    "Sha256",
    "Version",
]

ExtensionId = Annotated[
    str,
    Meta(
        pattern="^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64, description="An extension's id.", examples=["github-triage"]
    ),
]
MethodName = Annotated[
    str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=200, description="The name of an exported method.")
]
#: PEP 440 says which of these are versions; others are known to nobody.
Version = Annotated[
    str,
    Meta(
        pattern="^[0-9A-Za-z][0-9A-Za-z.!+_-]*$", max_length=100, description="A release's version.", examples=["1.2.0"]
    ),
]
Sha256 = Annotated[
    str,
    Meta(pattern="^[0-9a-f]{64}$", max_length=64, description="The sha256 of a package, in hexadecimal digits."),
]
_OPERATION = "^[0-9a-f]{8,64}$"
OperationId = Annotated[
    str, Meta(pattern=_OPERATION, max_length=64, description="An operation's id, which its client has chosen.")
]
OperationHeader = Annotated[
    str,
    Meta(
        pattern=_OPERATION,
        max_length=64,
        description="The id of this change, chosen at random: it is applied once, however often it is sent.",
        extra={"header": "Operation-Id"},
    ),
]
OperatorHeader = Annotated[
    str,
    Meta(
        pattern="^[!-~]{1,100}$",
        max_length=100,
        description="Who asks, for the audit trail.",
        extra={"header": "Operator"},
    ),
]
NEWS_ID = "^[0-9]+-[0-9]+$"
LastEventHeader = Annotated[
    str,
    Meta(
        max_length=200,
        description="As `after`, which has precedence. What is no id of news counts as none.",
        extra={"header": "Last-Event-ID"},
    ),
]
NewsId = Annotated[
    str,
    Meta(
        pattern=NEWS_ID,
        min_length=3,
        max_length=41,
        description="The id of the last news that is known already.",
        examples=["3-7"],
    ),
]
ErrorCode = Annotated[str, Meta(pattern="^[a-z]+(-[a-z]+)*$", max_length=64, description="An error's code.")]
Limit = Annotated[int, Meta(ge=1, le=1000, description="How many at most.")]
#: Nobody waits longer than a day.
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
