"""The exported methods of an instance: finding them, decoding their arguments, running them, encoding results."""

from __future__ import annotations

import asyncio
import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from ray_ext.errors import ArgumentMismatch, LoadFailed, NotExported
from ray_ext.sdk.extension import Export, Extension, export_of
from ray_ext.sdk.failures import message_text
from ray_ext.wire import values
from ray_ext.wire.messages import ExportedMethod

__all__ = ["Method", "MethodTable"]

#: Annotations that say nothing to convert.
_UNTYPED = (inspect.Parameter.empty, Any, object)


class Method:
    """One exported method, ready to be called with the bytes of its arguments."""

    __slots__ = ("_by_name", "_by_position", "_extra", "_function", "_rest", "_signature", "description", "is_async")

    def __init__(self, name: str, function: Callable[..., Any], export: Export) -> None:
        self._function = function
        self._signature = inspect.signature(function)
        self.is_async = inspect.iscoroutinefunction(function)
        hints = _hints(function)
        self._by_position: list[Any] = []
        self._by_name: dict[str, Any] = {}
        self._rest: Any = None
        self._extra: Any = None
        for parameter in self._signature.parameters.values():
            wanted = hints.get(parameter.name, parameter.empty)
            wanted = None if wanted in _UNTYPED else wanted
            if parameter.kind is parameter.VAR_POSITIONAL:
                self._rest = wanted
            elif parameter.kind is parameter.VAR_KEYWORD:
                self._extra = wanted
            else:
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    self._by_position.append((parameter.name, wanted))
                if parameter.kind is not parameter.POSITIONAL_ONLY:
                    self._by_name[parameter.name] = wanted
        self.description = ExportedMethod(
            name,
            idempotent=export.is_idempotent,
            signature=_signature_text(function)[:2000],
            summary=(inspect.getdoc(function) or "").partition("\n")[0][:500],
        )

    def arguments(self, body: bytes, encoding: int) -> tuple[list[Any], dict[str, Any]]:
        """The arguments for the method, converted by its annotations; raises :class:`ArgumentMismatch`."""
        try:
            args, kwargs = values.decode_value(body, encoding)
        except Exception as error:
            raise ArgumentMismatch(f"the arguments could not be decoded: {type(error).__name__}: {error}") from error
        if encoding == values.PICKLE:
            return list(args), kwargs
        known = self._by_position
        for index, value in enumerate(args):
            name, wanted = known[index] if index < len(known) else (f"argument {index}", self._rest)
            if wanted is not None:
                args[index] = self._convert(name, value, wanted)
        for name, value in kwargs.items():
            wanted = self._by_name.get(name, self._extra)
            if wanted is not None:
                kwargs[name] = self._convert(name, value, wanted)
        return args, kwargs

    def _convert(self, name: str, value: object, wanted: object) -> Any:
        try:
            return values.convert(value, wanted)
        except BaseException as error:
            text = message_text(error)[:500]
            raise ArgumentMismatch(
                f"{self.description.name}: {name} does not fit: {text}",
                fix=f"the method is {self.description.name}{self.description.signature}",
                details={"argument": name},
            ) from error

    def start(self, args: list[Any], kwargs: Mapping[str, Any], threads: ThreadPoolExecutor) -> Awaitable[Any]:
        """Start the method; raises :class:`ArgumentMismatch` when the arguments do not bind."""
        if self.is_async:
            try:
                started: Awaitable[Any] = self._function(*args, **kwargs)
            except TypeError as error:  # a coroutine function only binds here; its body has not begun
                raise self._no_match(error) from error
            return started
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise self._no_match(error) from error
        call = copy_context().run
        return asyncio.wrap_future(threads.submit(call, self._run_in_thread, args, kwargs))

    def _run_in_thread(self, args: list[Any], kwargs: Mapping[str, Any]) -> Any:
        try:
            return self._function(*args, **kwargs)
        except StopIteration as error:
            # No future can hold it: the call would never end. A coroutine turns it into the same.
            raise RuntimeError("the method raised StopIteration") from error

    def _no_match(self, error: TypeError) -> ArgumentMismatch:
        return ArgumentMismatch(
            f"{self.description.name}: {error}",
            fix=f"the method is {self.description.name}{self.description.signature}",
        )


class MethodTable:
    """All exported methods of an instance."""

    def __init__(self, extension: Extension) -> None:
        self._methods: dict[str, Method] = {}
        for name in dir(type(extension)):
            if name.startswith("_"):
                continue
            function = inspect.getattr_static(type(extension), name, None)
            export = export_of(function) if isinstance(function, types.FunctionType) else None
            if export is not None:
                self._methods[name] = Method(name, getattr(extension, name), export)
        if not self._methods:
            raise LoadFailed(
                f"{type(extension).__name__} exports no method",
                fix="mark at least one method with @exported",
                details={"step": "construct"},
            )

    def get(self, name: str) -> Method:
        """The method; raises :class:`NotExported`, which lists those that are."""
        method = self._methods.get(name)
        if method is None:
            raise not_exported(name, list(self._methods))
        return method

    def descriptions(self) -> list[ExportedMethod]:
        """What callers may know, by name."""
        return [method.description for method in self._methods.values()]


def not_exported(name: str, exported: list[str]) -> NotExported:
    """The refusal of a call to ``name``."""
    return NotExported(
        f"{name[:200]!r} is not exported",
        fix=f"exported methods: {', '.join(sorted(exported))}",
        details={"method": name[:200], "exported": sorted(exported)},
    )


def _signature_text(function: Callable[..., Any]) -> str:
    try:
        return str(inspect.signature(function, eval_str=True))
    except Exception:  # noqa: BLE001 - an annotation that cannot be resolved is shown as it is written
        return str(inspect.signature(function))


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # noqa: BLE001 - an annotation that cannot be resolved (TYPE_CHECKING imports) converts nothing
        return {}
