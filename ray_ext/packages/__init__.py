"""Packages: the built wheels that carry extensions, made from folders and kept by their sha256."""

from __future__ import annotations

from ray_ext.packages.cache import CheckedPackage, PackageCache, StoredPackage
from ray_ext.packages.wheel_writer import pack_folder

__all__ = ["CheckedPackage", "PackageCache", "StoredPackage", "pack_folder"]
