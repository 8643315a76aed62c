"""Handles: references to an extension whose attributes are its exported methods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import ray

from ray_ext.calling.call import CallFuture
from ray_ext.calling.caller import caller_for
from ray_ext.calling.registry_client import registry_client
from ray_ext.calling.routebook import route_book
from ray_ext.errors import ArgumentNotSerialisable, NoEventLoop, NotExported, PayloadTooLarge
from ray_ext.routing.book import Target
from ray_ext.wire import values
from ray_ext.wire.exchange import CallItem, encode_exchange_part

__all__ = ["Handle", "Method"]

_ROUTE_WAIT_S = 30.0


class Method:
    """An exported method of an extension.

    ``await method(...)`` shares a channel with all other calls of this event loop; ``method.remote(...)`` is one Ray
    call and returns Ray's own ObjectRef.
    """

    __slots__ = ("_decode", "_extension", "_name", "_namespace", "_timeout_s")

    def __init__(
        self,
        namespace: str,
        extension: str,
        name: str,
        timeout_s: float | None = None,
        decode: Callable[[bytes], Any] | None = None,
    ) -> None:
        self._namespace = namespace
        self._extension = extension
        self._name = name
        self._timeout_s = timeout_s
        self._decode = decode

    def options(self, *, timeout_s: float | None = None, result_type: Any = None) -> Method:
        """The same method with a deadline (seconds, from the call on) and a type for its result.

        ``result_type`` is any type that msgspec understands, or a pydantic model; it is for awaited calls.
        """
        decode = None if result_type is None else values.typed_decoder(result_type)
        return Method(self._namespace, self._extension, self._name, timeout_s, decode)

    def __call__(self, *args: object, **kwargs: object) -> CallFuture:
        """Call it; the result is awaited. The call is on its way when this returns."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise NoEventLoop(
                f"{self._extension}.{self._name}() was called where no event loop runs",
                fix=f"await it inside async code, or use ray.get(handle.{self._name}.remote(...))",
            ) from None
        call = CallFuture(loop, self._extension, self._name, (args, kwargs), self._timeout_s, self._decode)
        caller_for(loop, self._namespace, self._extension).send(call)
        return call

    def remote(self, *args: object, **kwargs: object) -> Any:
        """Call it as one Ray call; an ObjectRef of the result. Top-level ObjectRef arguments are resolved."""
        if self._decode is not None:
            raise ArgumentNotSerialisable(
                "result_type is for awaited calls: .remote() yields plain values",
                fix="convert the value of ray.get, or await the call",
            )
        target = self._target()
        places: list[int | str] = [i for i, value in enumerate(args) if isinstance(value, ray.ObjectRef)]
        places += [name for name, value in kwargs.items() if isinstance(value, ray.ObjectRef)]
        if not places:
            encoding, body = self._encode(target, args, kwargs)
            return target.actor.invoke.remote(self._payload(encoding, body))
        references = [args[place] if isinstance(place, int) else kwargs[place] for place in places]
        plain_args = tuple(None if isinstance(value, ray.ObjectRef) else value for value in args)
        plain_kwargs = {n: None if isinstance(value, ray.ObjectRef) else value for n, value in kwargs.items()}
        encoding, body = self._encode(target, plain_args, plain_kwargs)
        return target.actor.invoke_with_refs.remote(self._payload(encoding, body), places, *references)

    def _payload(self, encoding: int, body: bytes) -> bytes:
        return encode_exchange_part(CallItem(0, self._name, self._timeout_s, encoding, body))

    def _target(self) -> Target:
        book = route_book(self._namespace)
        target = book.get(self._extension)
        newer_than = 0
        while target is None:
            route = registry_client(self._namespace).call("route", self._extension, newer_than, _ROUTE_WAIT_S)
            try:
                target = book.learn(route)
            except ValueError:
                # The host is gone, and the registry has not noticed yet: a later one takes the call.
                newer_than = route.generation
        return target

    def _encode(self, target: Target, args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[int, bytes]:
        pickler = ray.cloudpickle.dumps if target.route.is_trusted else None
        encoding, body = values.encode_arguments(args, kwargs, pickler=pickler)
        limit = target.route.payload_limit
        if len(body) > limit:
            raise PayloadTooLarge(
                f"the arguments of {self._extension}.{self._name} have {len(body)} bytes; the limit is {limit}",
                where=self._extension,
                fix="send less at a time, or raise resources.memory: the limit is a quarter of it, at most 64 MiB",
                details={"size_bytes": len(body), "limit_bytes": limit, "which": "arguments"},
            )
        return encoding, body

    def __repr__(self) -> str:
        return f"<method {self._extension}.{self._name}>"


class Handle:
    """A reference to an extension. It carries no route, is picklable, and works in any process of the cluster.

    Its attributes are the exported methods. A name that the extension does not export is refused by the host, which
    lists those that are.
    """

    __slots__ = ("__extension", "__methods", "__namespace")

    def __init__(self, namespace: str, extension: str) -> None:
        self.__namespace = namespace
        self.__extension = extension
        self.__methods: dict[str, Method] = {}

    def __getattr__(self, name: str) -> Method:
        if name.startswith("_"):
            # An AttributeError, so that copying, pickling and inspecting a handle find nothing where nothing is.
            raise _NoSuchAttribute(
                f"{name!r} is not exported: exported names do not begin with an underscore",
                where=self.__extension,
                details={"method": name},
            )
        method = self.__methods.get(name)
        if method is None:
            method = self.__methods[name] = Method(self.__namespace, self.__extension, name)
        return method

    def __dir__(self) -> list[str]:
        target = route_book(self.__namespace).get(self.__extension)
        return [] if target is None else sorted(target.route.methods)

    def __reduce__(self) -> tuple[type[Handle], tuple[str, str]]:
        return Handle, (self.__namespace, self.__extension)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash(self.__reduce__())

    def __repr__(self) -> str:
        return f"<extension {self.__extension}>"


class _NoSuchAttribute(NotExported, AttributeError):
    """NotExported where Python expects an AttributeError."""
