"""The part of a manifest that travels to the extension itself."""

from __future__ import annotations

from ray_ext.manifests.model import Manifest
from ray_ext.wire.messages import Metadata

__all__ = ["metadata_of"]


def metadata_of(manifest: Manifest) -> Metadata:
    """What the manifest says about the extension."""
    return Metadata(
        id=manifest.id,
        name=manifest.name,
        version=manifest.version,
        description=manifest.description,
        author=manifest.author,
        category=manifest.category,
        tags=tuple(manifest.tags),
    )
