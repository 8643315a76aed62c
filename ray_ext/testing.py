"""For the tests of extensions: load one from its folder, in this process, without Ray and without confinement.

>>> import asyncio
>>> async def main() -> None:
...     async with loaded("examples/github_triage", config={"webhook_secret": "s"}) as triage:
...         print(triage.get_metadata().id)
>>> asyncio.run(main())  # doctest: +SKIP
github-triage
"""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ray_ext.manifests import read_folder, validate_configuration
from ray_ext.manifests.metadata import metadata_of
from ray_ext.sdk.extension import Context, Extension, bind

__all__ = ["loaded"]


@asynccontextmanager
async def loaded(
    folder: str | Path, *, config: Mapping[str, Any] | None = None, data_dir: Path | None = None
) -> AsyncIterator[Any]:
    """The extension of a project folder, bound and with ``on_load`` run; ``on_unload`` runs at the end.

    The manifest and the configuration are validated as an installation would do it, with the same errors. Methods are
    called directly, so arguments are not converted.
    """
    source = read_folder(Path(folder))
    values = validate_configuration(source.configuration_schema, dict(config or {}))
    code = Path(folder) / "src"
    path = str(code if code.is_dir() else Path(folder))
    module_name, _, class_name = source.manifest.entry_point.partition(":")
    if path not in sys.path:
        sys.path.insert(0, path)
    cls = getattr(importlib.import_module(module_name), class_name)
    extension: Extension = cls()
    with tempfile.TemporaryDirectory() as scratch:
        logger = logging.getLogger(source.manifest.id)
        bind(extension, Context(metadata_of(source.manifest), 1, data_dir or Path(scratch), values, logger))
        await extension.on_load()
        try:
            yield extension
        finally:
            await extension.on_unload()
