"""Turning an extension's exceptions into errors, whatever they do while they are looked at."""

from __future__ import annotations

import traceback
from types import TracebackType

from ray_ext.errors import ExtensionError, LoadFailed, RayExtError

__all__ = ["extension_error", "load_failed", "message_text", "traceback_text"]

_MESSAGE_LIMIT = 4_000
_TRACEBACK_LIMIT = 24_000
_CHAIN_LIMIT = 5
_NAME_LIMIT = 200


def extension_error(error: BaseException, method: str) -> ExtensionError:
    """The extension's exception as an :class:`ExtensionError`; never raises."""
    name = _type_name(error)
    message = message_text(error)
    return ExtensionError(
        f"{method} raised {name}: {message}" if message else f"{method} raised {name}",
        details={"type": name, "message": message, "traceback": traceback_text(error)},
    )


def load_failed(error: BaseException, step: str, extension: str) -> RayExtError:
    """A failed load as :class:`LoadFailed`; ``step`` is import, construct or on_load."""
    name, message = _type_name(error), message_text(error)
    fixes = {
        "import": "check the manifest's entry_point and what the code imports",
        "construct": "the class is made without arguments: move work to on_load",
        "on_load": "see the traceback",
    }
    return LoadFailed(
        f"{extension} could not be loaded: {step} raised {name}" + (f": {message}" if message else ""),
        fix=fixes.get(step, ""),
        details={"step": step, "type": name, "message": message, "traceback": traceback_text(error)},
    )


def traceback_text(error: BaseException) -> str:
    """The traceback with its causes as text, bounded; uses no ``repr`` of the extension's objects."""
    parts: list[str] = []
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen and len(seen) < _CHAIN_LIMIT:
        seen.add(id(current))
        parts.append(_one(current))
        current = _origin(current)
    return _cut(_sendable("\nwhich came from:\n".join(parts)), _TRACEBACK_LIMIT)


def _origin(error: BaseException) -> BaseException | None:
    try:
        cause = error.__cause__
        if cause is None and not error.__suppress_context__:
            cause = error.__context__
        return cause if isinstance(cause, BaseException) else None
    except BaseException:  # noqa: BLE001 - a class may put properties of its own there: the chain ends
        return None


def _one(error: BaseException) -> str:
    head = f"{_type_name(error)}: {message_text(error)}"
    return "Traceback (most recent call last):\n" + _frames(error) + head


def _frames(error: BaseException) -> str:
    try:
        trace: TracebackType | None = error.__traceback__
        return "".join(traceback.format_tb(trace, limit=-40))
    except BaseException as second:  # noqa: BLE001 - a source file may be unreadable or a __loader__ hostile: the head remains
        return f"  (no frames: {_type_name(second)})\n"


def message_text(error: BaseException) -> str:
    """``str(error)``, bounded and encodable, or why there is none; never raises."""
    try:
        text = str(error)
        if type(text) is not str:
            text = str.__str__(text)
        return _cut(_sendable(text), _MESSAGE_LIMIT)
    except BaseException as second:  # noqa: BLE001 - __str__ is the extension's code: even SystemExit must not get out
        return f"(its message could not be read: {_type_name(second)})"


def _type_name(error: BaseException) -> str:
    cls = type(error)
    try:
        module, name = getattr(cls, "__module__", ""), getattr(cls, "__qualname__", "?")
    except BaseException:  # noqa: BLE001 - a metaclass is the extension's code as well
        return "?"
    name = name if type(name) is str else "?"
    full = name if type(module) is not str or module == "builtins" else f"{module}.{name}"
    return _sendable(full[:_NAME_LIMIT])


def _sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
