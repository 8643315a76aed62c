"""Read a manifest from text and from a project folder; every problem is reported at once, and nothing is executed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import ValidationError

from ray_ext.errors import ManifestInvalid
from ray_ext.manifests.bounded_files import Unreadable, is_inside, open_folder, read_regular
from ray_ext.manifests.model import Manifest
from ray_ext.manifests.problems import Problem, key_path, raise_problems, show
from ray_ext.manifests.schema_check import SCHEMA_BYTES, check_schema
from ray_ext.manifests.toml_text import TOML_BYTES, parse_toml
from ray_ext.manifests.translation import problems_of

__all__ = ["MANIFEST_NAME", "ManifestSource", "manifest_source", "parse_manifest", "read_folder", "version_differs"]

MANIFEST_NAME = "extension.toml"

ReadFile = Callable[[str, int], bytes]
"""Reads a file beside the manifest, by relative path and limit; raises :class:`Unreadable`."""


@dataclass(frozen=True, slots=True)
class ManifestSource:
    """A manifest and where it came from.

    ``configuration_schema`` is the JSON Schema of its configuration, read from ``schema_file`` where the manifest
    names one; ``text`` the manifest as written; ``origin`` the folder or wheel; ``package`` the package that holds
    the manifest in a wheel (``github_triage``), empty for a folder.
    """

    manifest: Manifest
    configuration_schema: dict[str, Any] | None
    text: str
    origin: str
    package: str = ""


def parse_manifest(text: str, *, file: str = MANIFEST_NAME) -> Manifest:
    """The manifest in a text; a ``schema_file`` is not read. Raises ManifestInvalid with every problem."""
    manifest, problems = _parse(text.encode("utf-8", "surrogatepass"), file)
    if problems or manifest is None:
        raise_problems(ManifestInvalid, file, problems)
    return manifest


def read_folder(folder: Path) -> ManifestSource:
    """The manifest of a project folder: ``extension.toml`` next to ``pyproject.toml``, equal in id and version.

    Raises ManifestInvalid with every problem. A version that pyproject.toml leaves to its build backend (``dynamic``)
    is not compared.
    """
    folder = Path(folder)
    try:
        with open_folder(folder) as directory:
            return manifest_source(
                lambda relative, limit: read_regular(directory, relative, limit),
                origin=str(folder),
                compare=lambda manifest: _pyproject_problems(manifest, directory),
            )
    except Unreadable as error:
        problem = Problem(show(str(folder)), "", error.found, "a folder with extension.toml", error.fix)
        raise_problems(ManifestInvalid, show(str(folder)), [problem])


def manifest_source(
    read: ReadFile, *, origin: str, compare: Callable[[Manifest], list[Problem]], package: str = ""
) -> ManifestSource:
    """The manifest that ``read`` finds, with its schema file; ``compare`` adds the problems of its surroundings."""
    try:
        data = read(MANIFEST_NAME, TOML_BYTES)
    except Unreadable as error:
        fix = "create extension.toml there" if error.is_missing else error.fix
        problem = Problem(MANIFEST_NAME, "", error.found, f"a TOML file of at most {TOML_BYTES} bytes", fix)
        raise_problems(ManifestInvalid, f"the manifest of {show(origin)}", [problem])
    manifest, problems = _parse(data, MANIFEST_NAME)
    schema: dict[str, Any] | None = None
    if manifest is not None:
        problems += compare(manifest)
        if manifest.schema_file is not None:
            schema, found = _read_schema(manifest.schema_file, read)
            problems += found
        elif manifest.configuration is not None:
            schema = dict(manifest.configuration)
    if problems or manifest is None:
        raise_problems(ManifestInvalid, f"the manifest of {show(origin)}", problems)
    return ManifestSource(manifest, schema, data.decode(), origin, package)


def _parse(data: bytes, file: str) -> tuple[Manifest | None, list[Problem]]:
    if len(data) > TOML_BYTES:
        return None, [Problem(file, "", f"{len(data)} bytes", f"at most {TOML_BYTES} bytes", "make it smaller")]
    document = parse_toml(data, file)
    if isinstance(document, Problem):
        return None, [document]
    problems = _schema_problems(document, file)
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as error:
        return None, problems_of(error, document, file) + problems
    return manifest, problems


def _schema_problems(document: Mapping[str, Any], file: str) -> list[Problem]:
    problems: list[Problem] = []
    configuration = document.get("configuration")
    if isinstance(configuration, dict) and "schema_file" in configuration:
        problems += _schema_file_problems(configuration, file)
    elif isinstance(configuration, dict):
        problems += check_schema(configuration, file=file, at=("configuration",))
    events = document.get("events")
    for topic, schema in events.items() if isinstance(events, dict) else ():
        if isinstance(schema, dict):
            problems += check_schema(schema, file=file, at=("events", topic), is_root_object=False)
    return problems


def _schema_file_problems(configuration: Mapping[str, Any], file: str) -> list[Problem]:
    name = configuration["schema_file"]
    key = "configuration.schema_file"
    problems = []
    if not isinstance(name, str) or not is_inside(name) or len(name) > 200:
        allowed = "a relative path below the folder of extension.toml"
        problems.append(Problem(file, key, show(name), allowed, 'write it like "config.schema.json"'))
    for extra in sorted(set(configuration) - {"schema_file"}):
        path = key_path(("configuration", extra))
        problems.append(Problem(file, path, "a key beside schema_file", "schema_file alone", "move it into the file"))
    return problems


def _read_schema(name: str, read: ReadFile) -> tuple[dict[str, Any] | None, list[Problem]]:
    if not is_inside(name):
        return None, []  # reported as a problem of the manifest
    try:
        data = read(name, SCHEMA_BYTES)
    except Unreadable as error:
        allowed = f"a JSON file of at most {SCHEMA_BYTES} bytes"
        return None, [Problem(name, "", error.found, allowed, error.fix)]
    try:
        schema = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        place = f"{name}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else name
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "no JSON in UTF-8"
        return None, [Problem(place, "", show(reason)[1:-1], "one JSON object in UTF-8", "correct the file")]
    if not isinstance(schema, dict):
        return None, [Problem(name, "", show(schema), "a JSON Schema that is an object", "write a JSON object")]
    return schema, check_schema(schema, file=name)


def _pyproject_problems(manifest: Manifest, directory: int) -> list[Problem]:
    file = "pyproject.toml"
    try:
        data = read_regular(directory, file, TOML_BYTES)
    except Unreadable as error:
        allowed = "the project's pyproject.toml, next to extension.toml"
        return [Problem(file, "", error.found, allowed, "create it with [project] name and version")]
    document = parse_toml(data, file)
    if isinstance(document, Problem):
        return [document]
    project = document.get("project")
    if not isinstance(project, dict):
        return [Problem(file, "project", "no such table", "a table with name and version", "add [project]")]
    problems = []
    name, version = project.get("name"), project.get("version")
    if not isinstance(name, str) or canonicalize_name(name[:200]) != manifest.id:
        allowed = f"{manifest.id}, the id in extension.toml"
        problems.append(Problem(file, "project.name", show(name), allowed, f'write name = "{manifest.id}"'))
    dynamic = project.get("dynamic", [])
    if isinstance(dynamic, list) and "version" in dynamic:
        return problems
    if version_differs(version, manifest.version):
        allowed = f"{manifest.version}, the version in extension.toml"
        problems.append(Problem(file, "project.version", show(version), allowed, "make the two equal"))
    return problems


def version_differs(found: object, expected: str) -> bool:
    """Whether ``found`` is another version than ``expected``, by PEP 440 (``1.0`` and ``1.0.0`` are the same)."""
    try:
        return not isinstance(found, str) or len(found) > 100 or Version(found) != Version(expected)
    except InvalidVersion:
        return True
