"""The error family: every failure that ray_ext reports is a :class:`RayExtError` with a stable code.

Standard library only, because guests import it too. Each class says *who must act* (``actor``): the caller, the
extension's author, the operator, or whoever keeps the cluster running. The text of an error is made in one place,
:meth:`RayExtError.__str__`: what happened, where, what to do, and the code last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal, Self

__all__ = [
    "ArgumentMismatch",
    "ArgumentNotSerialisable",
    "CallCancelled",
    "ConfigurationInvalid",
    "DeadlineExceeded",
    "DependencyConflict",
    "DependencyCycle",
    "DependentsExist",
    "EnvironmentFailed",
    "ExtensionCrashed",
    "ExtensionError",
    "ExtensionHung",
    "ExtensionNotFound",
    "ExtensionNotLoaded",
    "GrantRequired",
    "InstallationConflict",
    "InsufficientResources",
    "IsolationUnavailable",
    "LoadFailed",
    "ManifestInvalid",
    "NestedObjectRef",
    "NoEventLoop",
    "NotExported",
    "NotLanded",
    "OperationCancelled",
    "OperationConflict",
    "OperationFailed",
    "OperationNotFound",
    "OutcomeUnknown",
    "Overloaded",
    "PackageInvalid",
    "PackageNotFound",
    "PayloadTooLarge",
    "PlanStale",
    "ProtocolViolation",
    "RayExtError",
    "ReleaseConflict",
    "RequestInvalid",
    "ResultNotSerialisable",
    "RuntimeClosed",
    "RuntimeConflict",
    "RuntimeUnreachable",
    "StoreFailed",
    "Unauthorised",
    "error_classes",
    "error_from_parts",
]

Detail = str | int | float | bool | None | list[str]
Who = Literal["caller", "extension", "operator", "cluster"]


class RayExtError(Exception):
    """The root of the family.

    ``what`` happened (one sentence), ``where`` (a file, extension or call; may be empty), ``fix`` (what to do; may be
    empty) and ``details`` (plain data, also readable as attributes of the subclasses that document them).
    Instances compare by identity, pickle losslessly, and cross the wire as their parts (:func:`error_from_parts`).
    """

    code: ClassVar[str] = "internal-error"
    actor: ClassVar[Who] = "cluster"

    def __init__(
        self, what: str, *, where: str = "", fix: str = "", details: Mapping[str, Detail] | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix
        self.details: dict[str, Detail] = dict(details or {})

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        text = "\n".join(lines)
        return f"{text} [{self.code}]"

    def __reduce__(self) -> tuple[object, ...]:
        return (error_from_parts, (self.code, self.what, self.where, self.fix, self.details))

    @classmethod
    def _from_parts(cls, what: str, where: str, fix: str, details: Mapping[str, Detail]) -> Self:
        return cls(what, where=where, fix=fix, details=details)


# ---- the caller must act


class ArgumentMismatch(RayExtError):
    """The arguments do not fit the method's signature or annotations; the method was not started."""

    code = "argument-mismatch"
    actor = "caller"


class ArgumentNotSerialisable(RayExtError):
    """An argument cannot be sent; ``details["path"]`` names it (``body['when'][0]``). Nothing was sent."""

    code = "argument-not-serialisable"
    actor = "caller"


class NestedObjectRef(ArgumentNotSerialisable):
    """An ObjectRef inside another value: only top-level ObjectRef arguments of ``.remote()`` are resolved."""

    code = "nested-object-ref"


class PayloadTooLarge(RayExtError):
    """Arguments or result exceed the limit; ``details``: ``size_bytes``, ``limit_bytes``, ``which``."""

    code = "payload-too-large"
    actor = "caller"


class NotExported(RayExtError):
    """No such exported method; ``details["exported"]`` lists those that are."""

    code = "not-exported"
    actor = "caller"


class DeadlineExceeded(RayExtError):
    """The call's time ran out; a running method was cancelled. ``details``: ``timeout_s``, ``started``."""

    code = "deadline-exceeded"
    actor = "caller"


class CallCancelled(RayExtError):
    """The call was cancelled before it had a result."""

    code = "call-cancelled"
    actor = "caller"


class ExtensionNotFound(RayExtError):
    """No installation has this id; ``details["installed"]`` lists those there are."""

    code = "extension-not-found"
    actor = "caller"


class ExtensionNotLoaded(RayExtError):
    """The extension is installed but not loaded."""

    code = "extension-not-loaded"
    actor = "caller"


class NoEventLoop(RayExtError):
    """A handle's method was called where no event loop runs, so its result could not be awaited."""

    code = "no-event-loop"
    actor = "caller"


class RuntimeClosed(RayExtError):
    """This ``Runtime`` object was closed."""

    code = "runtime-closed"
    actor = "caller"


# ---- the extension's author must act


class ExtensionError(RayExtError):
    """The extension's own exception. ``details``: ``type`` (its qualified name), ``message``, ``traceback`` (text)."""

    code = "extension-error"
    actor = "extension"

    @property
    def traceback_text(self) -> str:
        """The guest's traceback."""
        return str(self.details.get("traceback", ""))


class ResultNotSerialisable(RayExtError):
    """The method ran, but its result cannot be sent; ``details["path"]`` names the part."""

    code = "result-not-serialisable"
    actor = "extension"


class LoadFailed(RayExtError):
    """The extension could not be loaded: import, constructor or ``on_load`` failed. ``details``: ``step``,
    ``traceback``."""

    code = "load-failed"
    actor = "extension"


class ExtensionCrashed(RayExtError):
    """The guest ended before it started this call: it did not run and may be sent again. ``details``: ``cause``."""

    code = "extension-crashed"
    actor = "extension"


class ExtensionHung(ExtensionCrashed):
    """The same where the guest was ended because its heartbeat had stopped."""

    code = "extension-hung"


class ProtocolViolation(ExtensionCrashed):
    """The same where the guest was ended because it broke the wire protocol."""

    code = "protocol-violation"


class OutcomeUnknown(RayExtError):
    """The call had started when its guest or host was lost: it may have run. ``details``: ``cause``, and ``exit``
    (crashed, hung, protocol-violation) or ``call_id``."""

    code = "outcome-unknown"
    actor = "extension"


# ---- the operator must act


class ManifestInvalid(RayExtError):
    """A manifest has problems; ``details["problems"]`` holds one text for each."""

    code = "manifest-invalid"
    actor = "operator"


class ConfigurationInvalid(RayExtError):
    """A configuration does not fit its schema; ``details["problems"]`` holds one text for each."""

    code = "configuration-invalid"
    actor = "operator"


class PackageInvalid(RayExtError):
    """A folder or wheel is no valid extension package; ``details["problems"]`` holds one text for each."""

    code = "package-invalid"
    actor = "operator"


class ReleaseConflict(RayExtError):
    """The same id and version is known with other bytes; ``details``: ``id``, ``version``, ``known``, ``offered``."""

    code = "release-conflict"
    actor = "operator"


class InstallationConflict(RayExtError):
    """Another release of the extension is loaded; ``details``: ``id``, ``installed``, ``offered``."""

    code = "installation-conflict"
    actor = "operator"


class GrantRequired(RayExtError):
    """The manifest asks for something that the operator has not granted; ``details["missing"]`` lists it."""

    code = "grant-required"
    actor = "operator"


class DependencyConflict(RayExtError):
    """No set of known releases satisfies everybody; ``details["conflicts"]``: who asks for what, line by line."""

    code = "dependency-conflict"
    actor = "operator"


class DependencyCycle(RayExtError):
    """Extensions depend on each other in a circle; ``details["cycle"]`` names it, the first id again at the end."""

    code = "dependency-cycle"
    actor = "operator"


class DependentsExist(RayExtError):
    """Others need this extension; ``details["dependents"]`` names them. Nothing was changed."""

    code = "dependents-exist"
    actor = "operator"


class EnvironmentFailed(RayExtError):
    """The Python packages of an extension could not be resolved or built; ``details``: ``requirements``, ``cause``."""

    code = "environment-failed"
    actor = "operator"


class PlanStale(RayExtError):
    """The runtime has changed since the plan was made; nothing was done. ``details``: ``planned``, ``current``."""

    code = "plan-stale"
    actor = "operator"


class OperationConflict(RayExtError):
    """Another operation is at work; ``details``: ``running``. Nothing was done."""

    code = "operation-conflict"
    actor = "operator"


class OperationFailed(RayExtError):
    """A step of a plan failed, the earlier ones were undone; ``details``: ``step``, ``cause``, ``undone``, ``left``."""

    code = "operation-failed"
    actor = "operator"


class OperationCancelled(RayExtError):
    """The operation was cancelled; what it had done was undone. ``details``: ``step``, ``undone``."""

    code = "operation-cancelled"
    actor = "operator"


class OperationNotFound(RayExtError):
    """No operation has this id, or it was refused before it began and is forgotten; send it again to know."""

    code = "operation-not-found"
    actor = "operator"


class PackageNotFound(RayExtError):
    """A request names a package that was not uploaded, or too long ago; upload it again. ``details``: ``sha256``."""

    code = "package-not-found"
    actor = "operator"


class RequestInvalid(RayExtError):
    """A request to the control API is not one that it describes; ``details["problems"]`` holds one text for each."""

    code = "request-invalid"
    actor = "operator"


class Unauthorised(RayExtError):
    """A request to the control API over TCP came without the bearer token, or with a wrong one."""

    code = "unauthorised"
    actor = "operator"


class NotLanded(RayExtError):
    """The manifest uses a part of the contract that this version of ray_ext does not offer yet."""

    code = "not-available-yet"
    actor = "operator"


class IsolationUnavailable(RayExtError):
    """This machine cannot confine guests to the level required; ``details``: ``missing``."""

    code = "isolation-unavailable"
    actor = "operator"


class RuntimeConflict(RayExtError):
    """Another runtime uses this state home; ``details``: ``home``, ``pid``."""

    code = "runtime-conflict"
    actor = "operator"


# ---- the cluster's keeper must act


class RuntimeUnreachable(RayExtError):
    """No runtime answers; ``details["home"]``."""

    code = "runtime-unreachable"
    actor = "cluster"


class InsufficientResources(RayExtError):
    """Ray cannot place the extension's host; ``details``: ``asked``, ``available``."""

    code = "insufficient-resources"
    actor = "cluster"


class Overloaded(RayExtError):
    """Too many calls are pending; nothing was started. ``details``: ``retry_after_s``, ``pending``, ``limit``."""

    code = "overloaded"
    actor = "cluster"

    @property
    def retry_after_s(self) -> float:
        """A sensible pause before the next attempt, in seconds."""
        return float(str(self.details.get("retry_after_s", 0.1)))


class StoreFailed(RayExtError):
    """The durable store refused a write (disk full, read-only, another writer); nothing was acknowledged."""

    code = "store-failed"
    actor = "cluster"


def _subclasses(root: type[RayExtError]) -> Iterable[type[RayExtError]]:
    yield root
    for child in root.__subclasses__():
        yield from _subclasses(child)


def error_classes() -> dict[str, type[RayExtError]]:
    """Every error class of the family by its code."""
    classes: dict[str, type[RayExtError]] = {}
    for cls in _subclasses(RayExtError):
        # A private subclass may share its parent's code; the parent stands for it.
        classes.setdefault(cls.code, cls)
    return classes


def error_from_parts(
    code: str, what: str, where: str = "", fix: str = "", details: Mapping[str, Detail] | None = None
) -> RayExtError:
    """The error that these parts describe; a code unknown here becomes a plain :class:`RayExtError` that keeps it."""
    cls = error_classes().get(code)
    if cls is None:
        return RayExtError(what, where=where, fix=fix, details={**(details or {}), "code": code})
    return cls._from_parts(what, where, fix, details or {})
