"""The published JSON Schema of ``extension.toml``. ``python -m ray_ext.manifests.json_schema`` writes it anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ray_ext.manifests.model import Manifest

__all__ = ["SCHEMA_FILE", "manifest_json_schema"]

SCHEMA_FILE = Path(__file__).with_name("extension.schema.json")


def manifest_json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the manifest, made from the model that validates it."""
    schema = Manifest.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:ray-ext:extension:1",
        **schema,
        "title": "ray_ext extension manifest",
    }


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json.dumps(manifest_json_schema(), indent=2) + "\n")
