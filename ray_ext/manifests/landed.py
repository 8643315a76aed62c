"""What this version of ray_ext offers of the manifest's contract, and the refusal of the rest."""

from __future__ import annotations

from packaging.specifiers import SpecifierSet

from ray_ext.errors import ManifestInvalid, NotLanded
from ray_ext.manifests.model import Manifest
from ray_ext.manifests.problems import Problem, raise_problems

__all__ = ["check_runtime_version", "refuse_unlanded"]


def refuse_unlanded(manifest: Manifest) -> None:
    """Raise :class:`NotLanded` naming every part that the manifest uses and that is not offered yet."""
    env, given = manifest.runtime_env, manifest.model_fields_set
    used = [
        key
        for key, is_used in (
            ("runtime_env.conda", env.conda is not None),
            ("runtime_env.image_uri", env.image_uri is not None),
            *((f"permissions.{kind}", True) for kind, group in manifest.permissions.groups().items() if group.scopes),
            ("events", bool(manifest.events)),
            ("health", "health" in given),
            ("swap", "swap" in given),
        )
        if is_used
    ]
    if used:
        raise NotLanded(
            f"{manifest.id} {manifest.version} uses what this version of ray_ext does not offer yet: {', '.join(used)}",
            where="extension.toml",
            fix="remove these keys, or use a version of ray_ext that offers them",
            details={"keys": used},
        )


def check_runtime_version(manifest: Manifest, version: str) -> None:
    """Raise :class:`ManifestInvalid` when the extension does not work with this version of ray_ext."""
    wanted = SpecifierSet(manifest.requires_runtime, prereleases=True)
    if not wanted.contains(version):
        raise_problems(
            ManifestInvalid,
            f"{manifest.id} {manifest.version}",
            [
                Problem(
                    "extension.toml",
                    "requires_runtime",
                    f'"{manifest.requires_runtime}"',
                    f"a range that holds this ray_ext, {version}",
                    "install another version of the extension, or of ray_ext",
                )
            ],
        )
