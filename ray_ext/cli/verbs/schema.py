"""``schema``."""

from __future__ import annotations

import click

from ray_ext.cli.output import answer
from ray_ext.cli.verb import verb

__all__ = ["command"]


@verb(section="Help", examples=("ray-ext schema > extension.schema.json", "ray-ext schema api > control-api.json"))
@click.argument("of", type=click.Choice(["manifest", "api"]), default="manifest", metavar="[manifest|api]")
def command(of: str) -> None:
    """Print a schema: that of extension.toml (JSON Schema), or of the control API (OpenAPI), for editors and clients.

    With --json it is the data of an answer, as every verb's. Needs no runtime.
    """
    import json

    found = _manifest() if of == "manifest" else _api()
    answer("schema", found, lambda: click.echo(json.dumps(found, indent=2)))


def _manifest() -> object:
    from ray_ext.manifests.json_schema import manifest_json_schema

    return manifest_json_schema()


def _api() -> object:
    import ray_ext
    from ray_ext.control.openapi import document
    from ray_ext.control.routes import ENDPOINTS

    return document(ENDPOINTS, ray_ext.__version__)
