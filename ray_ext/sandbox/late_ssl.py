"""asyncio without ssl until somebody imports ssl; runs in the guest.

asyncio imports ssl and so OpenSSL, 2.3 MB of each guest's memory (PSS, Python 3.11), and only uses it when a program
brings an SSL context, for which it must have imported ssl itself.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importlib.abc brings tempfile, pathlib and three compressors along: 1.3 MB
    from importlib.abc import Loader

__all__ = ["import_asyncio"]


def import_asyncio() -> None:
    """Import asyncio as if ssl were missing, and give it ssl when that is first imported."""
    if "asyncio" in sys.modules or "ssl" in sys.modules:
        raise RuntimeError("asyncio or ssl is imported already")
    sys.modules["ssl"] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        importlib.import_module("asyncio")
    finally:
        del sys.modules["ssl"]
    sys.meta_path.insert(0, _SslFinder())


class _SslFinder:
    """Finds ssl where it is anyway, and has asyncio told."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "ssl":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _SslLoader(spec.loader)  # type: ignore[assignment]  # a Loader by its methods
        return spec


class _SslLoader:
    def __init__(self, real: Loader) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        # sslproto derives more from ssl when it is imported; the others only keep the name.
        importlib.reload(sys.modules["asyncio.sslproto"])
        for name, part in tuple(sys.modules.items()):
            if name.startswith("asyncio.") and vars(part).get("ssl", module) is None:
                vars(part)["ssl"] = module
