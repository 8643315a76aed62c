"""``schema``."""

from __future__ import annotations

import json

import click

__all__ = ["schema_command"]


@click.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of extension.toml, for editors and checks."""
    from ray_ext.manifests.json_schema import manifest_json_schema

    click.echo(json.dumps(manifest_json_schema(), indent=2))
