"""``schema``."""

from __future__ import annotations

import json

import click

from ray_ext.cli.verb import verb

__all__ = ["command"]


@verb(section="Help", examples=("ray-ext schema > extension.schema.json",))
def command() -> None:
    """Print the JSON Schema of extension.toml, for editors and checks."""
    from ray_ext.manifests.json_schema import manifest_json_schema

    click.echo(json.dumps(manifest_json_schema(), indent=2))
