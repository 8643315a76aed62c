"""The class that an extension subclasses, and the mark of the methods that others may call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar, overload

from ray_ext.wire.messages import Metadata

__all__ = ["Context", "Export", "Extension", "bind", "exported"]

P = ParamSpec("P")
R = TypeVar("R")

_MARK = "__ray_ext_export__"


@dataclass(frozen=True, slots=True)
class Export:
    """What :func:`exported` knows about a method."""

    is_idempotent: bool = False


@overload
def exported(method: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def exported(*, idempotent: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def exported(
    method: Callable[P, R] | None = None, /, *, idempotent: bool = False
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark a method as callable from outside; no other method is.

    ``async`` methods run on the guest's event loop, plain ones in a thread. ``idempotent=True`` says that running the
    method twice is the same as once: then a call whose outcome is unknown is sent again, within its deadline.

    >>> class Greeter(Extension):
    ...     @exported
    ...     async def greet(self, name: str) -> str:
    ...         return f"hello {name}"
    """

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        if not callable(function) or isinstance(function, (classmethod, staticmethod, property)):
            raise TypeError("@exported marks plain and async methods: put it above the def, without other decorators")
        if function.__name__.startswith("_"):
            raise TypeError(f"an exported method has a public name: rename {function.__name__!r}")
        setattr(function, _MARK, Export(is_idempotent=idempotent))
        return function

    return mark if method is None else mark(method)


def export_of(function: object) -> Export | None:
    """The mark of a function or bound method, or None."""
    mark = getattr(function, _MARK, None)
    return mark if isinstance(mark, Export) else None


@dataclass(frozen=True, slots=True)
class Context:
    """What the runtime tells an instance about itself."""

    metadata: Metadata
    generation: int
    data_dir: Path
    config: Mapping[str, Any]
    logger: logging.Logger


class Extension:
    """The base class of an extension; the manifest's ``entry_point`` names the subclass.

    It is made without arguments. From ``on_load`` on, ``self.config``, ``self.logger``, ``self.data_dir`` and
    ``self.context`` are there.
    """

    __context: Context | None = None

    async def on_load(self) -> None:
        """Called once, before the first call. What it raises refuses the load."""

    async def on_unload(self) -> None:
        """Called once, after the last call and before the process ends. What it raises is logged."""

    @property
    def context(self) -> Context:
        """The instance's surroundings."""
        if self.__context is None:
            raise RuntimeError("not there before on_load: move this from __init__ to on_load")
        return self.__context

    @property
    def config(self) -> Mapping[str, Any]:
        """The validated configuration with defaults applied; read-only."""
        return self.context.config

    @property
    def logger(self) -> logging.Logger:
        """A logger whose records reach ``ray-ext logs``."""
        return self.context.logger

    @property
    def data_dir(self) -> Path:
        """A directory of its own, kept over restarts and upgrades."""
        return self.context.data_dir

    def get_metadata(self) -> Metadata:
        """What the manifest says: id, name, version, description, author, category, tags."""
        return self.context.metadata

    def _bind(self, context: Context) -> None:
        self.__context = context


def bind(extension: Extension, context: Context) -> None:
    """Give an instance its context; the configuration becomes read-only."""
    extension._bind(
        Context(
            metadata=context.metadata,
            generation=context.generation,
            data_dir=context.data_dir,
            config=MappingProxyType(dict(context.config)),
            logger=context.logger,
        )
    )
