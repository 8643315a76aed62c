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
    "ListenInvalid",
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

    To do: Report it with the runtime's logs (``ray-ext logs``): no failure should come without a code of its own.
    Where ``details`` holds a ``code``, a newer runtime sent it; upgrade the client.
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
    """The arguments do not fit the method's signature or annotations; the method was not started.

    To do: Compare the arguments with the method's signature (``ray-ext show ID``), correct them, and call again.
    """

    code = "argument-mismatch"
    actor = "caller"


class ArgumentNotSerialisable(RayExtError):
    """An argument cannot be sent; ``details["path"]`` names it (``body['when'][0]``). Nothing was sent.

    To do: Turn that value into plain data (None, bool, int, float, str, bytes, list, dict, datetime, or a type that
    the method's annotation names), and call again.
    """

    code = "argument-not-serialisable"
    actor = "caller"


class NestedObjectRef(ArgumentNotSerialisable):
    """An ObjectRef inside another value: only top-level ObjectRef arguments of ``.remote()`` are resolved.

    To do: Pass the ObjectRef as an argument of its own, or ``ray.get`` it first and pass the value.
    """

    code = "nested-object-ref"


class PayloadTooLarge(RayExtError):
    """Arguments or result exceed the limit; ``details``: ``size_bytes``, ``limit_bytes``, ``which``.

    To do: Send less at a time, or pass a reference (a path, an id) in place of the bytes. The limit grows with the
    memory that the extension's manifest asks for, up to 64 MiB.
    """

    code = "payload-too-large"
    actor = "caller"


class NotExported(RayExtError):
    """No such exported method; ``details["exported"]`` lists those that are.

    To do: Choose one of those that are exported (``ray-ext show ID``), or have the author mark the method
    ``@exported``.
    """

    code = "not-exported"
    actor = "caller"


class DeadlineExceeded(RayExtError):
    """The call's time ran out; a running method was cancelled. ``details``: ``timeout_s``, ``started``.

    To do: Give more time (``.options(timeout_s=…)``, ``ray-ext call --timeout``), or find out what takes so long
    (``ray-ext logs ID``). Where ``started`` is true, part of the work may have been done: see to it before you call
    again.
    """

    code = "deadline-exceeded"
    actor = "caller"


class CallCancelled(RayExtError):
    """The call was cancelled before it had a result.

    To do: Nothing, if you cancelled it. Otherwise see who did; what the method had already done stays done.
    """

    code = "call-cancelled"
    actor = "caller"


class ExtensionNotFound(RayExtError):
    """No installation has this id; ``details["installed"]`` lists those there are.

    To do: Check the id against ``ray-ext list``, or install the extension: ``ray-ext install FOLDER``.
    """

    code = "extension-not-found"
    actor = "caller"


class ExtensionNotLoaded(RayExtError):
    """The extension is installed but not loaded.

    To do: Load it: ``ray-ext load ID``. If it should be loaded already, ``ray-ext show ID`` says why it is not.
    """

    code = "extension-not-loaded"
    actor = "caller"


class NoEventLoop(RayExtError):
    """A handle's method was called where no event loop runs, so its result could not be awaited.

    To do: Await the method inside a coroutine (``asyncio.run(main())``), or use ``.remote()`` and ``ray.get``.
    """

    code = "no-event-loop"
    actor = "caller"


class RuntimeClosed(RayExtError):
    """This ``Runtime`` object was closed.

    To do: Make a new one with ``ray_ext.connect()``, or close the old one later.
    """

    code = "runtime-closed"
    actor = "caller"


# ---- the extension's author must act


class ExtensionError(RayExtError):
    """The extension's own exception. ``details``: ``type`` (its qualified name), ``message``, ``traceback`` (text).

    To do: Read the traceback, and correct the extension or what it was called with. The runtime is well.
    """

    code = "extension-error"
    actor = "extension"

    @property
    def traceback_text(self) -> str:
        """The guest's traceback."""
        return str(self.details.get("traceback", ""))


class ResultNotSerialisable(RayExtError):
    """The method ran, but its result cannot be sent; ``details["path"]`` names the part.

    To do: Have the method return plain data (None, bool, int, float, str, bytes, list, dict, datetime) or a type that
    its annotation names. The method has run: do not just call it again.
    """

    code = "result-not-serialisable"
    actor = "extension"


class LoadFailed(RayExtError):
    """The extension could not be loaded: import, constructor or ``on_load`` failed. ``details``: ``step``,
    ``traceback``.

    To do: Read the traceback and the extension's log (``ray-ext logs ID``), correct what failed in that step, then
    load it again.
    """

    code = "load-failed"
    actor = "extension"


class ExtensionCrashed(RayExtError):
    """The guest ended before it started this call: it did not run and may be sent again. ``details``: ``cause``.

    To do: Call again; the runtime starts the extension anew. If it goes on, ``cause`` and ``ray-ext logs ID`` say what
    ends it: often too little memory in the manifest.
    """

    code = "extension-crashed"
    actor = "extension"


class ExtensionHung(ExtensionCrashed):
    """The guest was ended because its heartbeat had stopped, before it started this call: it did not run.

    To do: Call again. The author should look for code that blocks the event loop (``ray-ext logs ID``) and move it to
    a thread.
    """

    code = "extension-hung"


class ProtocolViolation(ExtensionCrashed):
    """The guest was ended because it broke the wire protocol, before it started this call: it did not run.

    To do: Call again, and distrust the extension until its author has explained what its code does to the guest's
    link.
    """

    code = "protocol-violation"


class OutcomeUnknown(RayExtError):
    """The call had started when its guest or host was lost: it may have run. ``details``: ``cause``, and ``exit``
    (crashed, hung, protocol-violation) or ``call_id``.

    To do: Find out from the call's effects whether it ran, before you send it again. The author can mark a method that
    may be repeated ``@exported(idempotent=True)``.
    """

    code = "outcome-unknown"
    actor = "extension"


# ---- the operator must act


class ManifestInvalid(RayExtError):
    """A manifest has problems; ``details["problems"]`` holds one text for each.

    To do: Correct each problem in extension.toml; ``ray-ext schema`` prints what is allowed.
    """

    code = "manifest-invalid"
    actor = "operator"


class ConfigurationInvalid(RayExtError):
    """A configuration does not fit its schema; ``details["problems"]`` holds one text for each.

    To do: Correct each problem in what you gave as ``--config``; ``[configuration]`` in the manifest says what is
    allowed.
    """

    code = "configuration-invalid"
    actor = "operator"


class PackageInvalid(RayExtError):
    """A folder or wheel is no valid extension package; ``details["problems"]`` holds one text for each.

    To do: Correct each problem, or give the folder that holds extension.toml, or a wheel made from it.
    """

    code = "package-invalid"
    actor = "operator"


class ReleaseConflict(RayExtError):
    """The same id and version is known with other bytes; ``details``: ``id``, ``version``, ``known``, ``offered``.

    To do: Give the changed package a new version. A release that is installed nowhere can be forgotten instead:
    ``ray-ext forget ID VERSION``.
    """

    code = "release-conflict"
    actor = "operator"


class InstallationConflict(RayExtError):
    """Another release of the extension is loaded; ``details``: ``id``, ``installed``, ``offered``.

    To do: Upgrade in place of installing (``ray-ext upgrade ID VERSION``), or remove the loaded one first.
    """

    code = "installation-conflict"
    actor = "operator"


class GrantRequired(RayExtError):
    """The manifest asks for something that the operator has not granted; ``details["missing"]`` lists it.

    To do: Read what it asks for, then decide: ``--grant requested`` grants all of it.
    """

    code = "grant-required"
    actor = "operator"


class DependencyConflict(RayExtError):
    """No set of known releases satisfies everybody; ``details["conflicts"]``: who asks for what, line by line.

    To do: Read the conflicts: register a release that fits (``ray-ext register FOLDER``), upgrade or remove one of
    those that disagree, or have the author widen a range.
    """

    code = "dependency-conflict"
    actor = "operator"


class DependencyCycle(RayExtError):
    """Extensions depend on each other in a circle; ``details["cycle"]`` names it, the first id again at the end.

    To do: Have one of the authors take a dependency out of the circle, or make it optional.
    """

    code = "dependency-cycle"
    actor = "operator"


class DependentsExist(RayExtError):
    """Others need this extension; ``details["dependents"]`` names them. Nothing was changed.

    To do: Remove or unload those first, or include them: ``--cascade``. ``ray-ext plan`` shows what would happen.
    """

    code = "dependents-exist"
    actor = "operator"


class EnvironmentFailed(RayExtError):
    """The Python packages of an extension could not be resolved or built; ``details``: ``requirements``, ``cause``.

    To do: Read the cause. Check that the packages exist as wheels for this Python and that the index is reachable
    (``--index-url``, ``--find-links``), then do it again.
    """

    code = "environment-failed"
    actor = "operator"


class PlanStale(RayExtError):
    """The runtime has changed since the plan was made; nothing was done. ``details``: ``planned``, ``current``.

    To do: Look at the new plan (``ray-ext plan …``), and use its hash.
    """

    code = "plan-stale"
    actor = "operator"


class OperationConflict(RayExtError):
    """Another operation is at work; ``details``: ``running``. Nothing was done.

    To do: Wait for the other one to end, and send this one again. ``ray-ext operations list`` shows what is at work.
    """

    code = "operation-conflict"
    actor = "operator"


class OperationFailed(RayExtError):
    """A step of a plan failed, the earlier ones were undone; ``details``: ``step``, ``cause``, ``undone``, ``left``.

    To do: Read the cause, correct it, and do it again: what had been done was undone. Where ``left`` names something,
    that could not be undone and needs a look.
    """

    code = "operation-failed"
    actor = "operator"


class OperationCancelled(RayExtError):
    """The operation was cancelled; what it had done was undone. ``details``: ``step``, ``undone``.

    To do: Nothing, if you cancelled it. Otherwise do it again.
    """

    code = "operation-cancelled"
    actor = "operator"


class OperationNotFound(RayExtError):
    """No operation has this id, or it was refused before it began and is forgotten; send it again to know.

    To do: Compare the id with ``ray-ext operations list``. Sending the operation again with the same id is harmless.
    """

    code = "operation-not-found"
    actor = "operator"


class PackageNotFound(RayExtError):
    """A request names a package that was not uploaded, or too long ago; upload it again. ``details``: ``sha256``.

    To do: Upload the package, then send the request again within the hour.
    """

    code = "package-not-found"
    actor = "operator"


class RequestInvalid(RayExtError):
    """A request to the control API is not one that it describes; ``details["problems"]`` holds one text for each.

    To do: Correct each problem; ``ray-ext schema api`` prints what the API accepts.
    """

    code = "request-invalid"
    actor = "operator"


class Unauthorised(RayExtError):
    """A request to the control API over TCP came without the bearer token, or with a wrong one.

    To do: Send the token that is in ``run/control-token`` of the state home: ``RAY_EXT_TOKEN_FILE=FILE ray-ext …``, or
    ``Authorization: Bearer TOKEN``.
    """

    code = "unauthorised"
    actor = "operator"


class ListenInvalid(RayExtError):
    """The control API cannot, or must not, listen on the TCP address that was asked for. Nothing was started.

    To do: Choose a free port on loopback (``--listen 127.0.0.1:PORT``), or give a certificate and its key for an
    address that others reach (``--tls-cert FILE --tls-key FILE``).
    """

    code = "listen-invalid"
    actor = "operator"


class NotLanded(RayExtError):
    """The manifest uses a part of the contract that this version of ray_ext does not offer yet.

    To do: Take that part out of the manifest, or wait for a version of ray_ext that offers it.
    """

    code = "not-available-yet"
    actor = "operator"


class IsolationUnavailable(RayExtError):
    """This machine cannot confine guests to the level required; ``details``: ``missing``.

    To do: Run ``ray-ext doctor``: it names what the kernel or the container lacks, and the fix. Code that you trust
    may run without confinement: ``isolation = "trusted"``, where that is granted.
    """

    code = "isolation-unavailable"
    actor = "operator"


class RuntimeConflict(RayExtError):
    """Another runtime uses this state home; ``details``: ``home``, ``pid``.

    To do: Use the runtime that is there (``ray_ext.connect()`` joins it), end it (``ray-ext down``), or set
    ``RAY_EXT_HOME`` to another folder.
    """

    code = "runtime-conflict"
    actor = "operator"


# ---- the cluster's keeper must act


class RuntimeUnreachable(RayExtError):
    """No runtime answers. ``details``: ``home``.

    To do: Start one (``ray-ext up``), or check that ``RAY_EXT_HOME`` and ``RAY_EXT_CONTROL`` name the one you mean. If
    it is up and does not answer, see ``ray-ext doctor``.
    """

    code = "runtime-unreachable"
    actor = "cluster"


class InsufficientResources(RayExtError):
    """Ray cannot place the extension's host; ``details``: ``asked``, ``available``.

    To do: Free some (``ray-ext unload ID``), add a node, or have the manifest ask for less. Ray's dashboard shows who
    holds what.
    """

    code = "insufficient-resources"
    actor = "cluster"


class Overloaded(RayExtError):
    """Too many calls are pending; nothing was started. ``details``: ``retry_after_s``, ``pending``, ``limit``.

    To do: Wait for ``retry_after_s`` and call again; if it goes on, send less at once.
    """

    code = "overloaded"
    actor = "cluster"

    @property
    def retry_after_s(self) -> float:
        """A sensible pause before the next attempt, in seconds."""
        return float(str(self.details.get("retry_after_s", 0.1)))


class StoreFailed(RayExtError):
    """The durable store refused a write (disk full, read-only, another writer); nothing was acknowledged.

    To do: Run ``ray-ext doctor``: it checks the disk, the rights and the store, and names the fix. Then do it again.
    """

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
