"""An extension that several tests install: it loads when somebody says so, by a file in its data directory."""

from __future__ import annotations

__all__ = ["PATIENT"]

PATIENT = """
import asyncio
from ray_ext import Extension, exported

class Probe(Extension):
    async def on_load(self):
        (self.data_dir / "started").touch()
        while not (self.data_dir / "go").exists():
            await asyncio.sleep(0.02)

    @exported
    async def echo(self, value):
        return value
"""
