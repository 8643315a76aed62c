"""Whether a JSON Schema from a manifest can be trusted with validating: valid, bounded, self-contained, on RE2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import re2

from ray_ext.manifests.defaults import with_defaults
from ray_ext.manifests.problems import Problem, key_path, show
from ray_ext.manifests.schema_shape import MAX_BYTES, Path, bounds_problem, positions, resolve, subschemas
from ray_ext.manifests.schema_validator import TooMuchWork, compile_pattern, errors_in, schema_errors_in

__all__ = ["SCHEMA_BYTES", "check_schema", "expanded_nodes"]

SCHEMA_BYTES = MAX_BYTES
"""The size limit of a schema file."""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_EXPANDED_NODES = 20_000
_EXPANDED_DEPTH = 64
_REFUSED = ("$anchor", "$dynamicAnchor", "$dynamicRef", "$id", "$recursiveAnchor", "$recursiveRef", "$vocabulary")


def check_schema(schema: Mapping[str, Any], *, file: str, at: Path = (), is_root_object: bool = True) -> list[Problem]:
    """Every problem of a JSON Schema (draft 2020-12); an empty list means that validating with it is safe.

    Refused are schemas that are invalid, too large, recursive or expand too much, that refer outside themselves, that
    use patterns which RE2 does not support, or whose defaults do not fit. ``at`` is the schema's place in ``file``;
    ``is_root_object`` demands that it describes an object, as a configuration is.
    """
    bounds = bounds_problem(schema)
    if bounds is not None:
        path, found, allowed = bounds
        return [Problem(file, key_path((*at, *path)), found, allowed, "simplify the schema")]
    problems = _invalid(schema, file, at)
    if problems:
        return problems
    places = positions(schema)
    for path, here in places.items():
        problems += _keyword_problems(here, places, schema, file, (*at, *path))
    problems += _mixture_problems(places, file, at)
    if is_root_object and schema.get("type", "object") not in ("object", ["object"]):
        key = key_path((*at, "type"))
        problems.append(Problem(file, key, show(schema["type"]), '"object"', 'write type = "object"'))
    if not problems:
        problems = _expansion_problems(schema, file, at) or _default_problems(schema, places, file, at)
    return problems


def _invalid(schema: Mapping[str, Any], file: str, at: Path) -> list[Problem]:
    try:
        errors = schema_errors_in(schema)
    except (TooMuchWork, RecursionError):
        return [Problem(file, key_path(at), "a schema too large to check", "a smaller one", "simplify the schema")]
    found = []
    for error in errors:
        key = key_path((*at, *error.absolute_path))
        found.append(Problem(file, key, show(error.instance), _meta_allowed(error), "correct the schema"))
    # The meta-schema's parts report the same place several times.
    return list(dict.fromkeys(found))


def _meta_allowed(error: Any) -> str:
    choices = [each.validator_value for each in [error, *(error.context or ())] if each.validator == "enum"]
    if choices:
        return f"one of {', '.join(show(each) for each in choices[0])}"
    if error.validator == "type":
        kinds = error.validator_value
        return f"a JSON value of type {kinds if isinstance(kinds, str) else ' or '.join(kinds)}"
    return f"what JSON Schema 2020-12 says ({error.validator}: {show(error.validator_value)})"


def _keyword_problems(
    here: Mapping[str, Any], places: Mapping[Path, object], root: Mapping[str, Any], file: str, at: Path
) -> list[Problem]:
    problems = []
    for keyword in _REFUSED:
        if keyword in here:
            fix = "use $defs and $ref"
            allowed = "schemas without identifiers and dynamic references"
            problems.append(Problem(file, key_path((*at, keyword)), show(here[keyword]), allowed, fix))
    if "$schema" in here and (here is not root or here["$schema"] not in (_DIALECT, f"{_DIALECT}#")):
        key = key_path((*at, "$schema"))
        problems.append(Problem(file, key, show(here["$schema"]), f'"{_DIALECT}", at the root', "remove it"))
    if "$ref" in here:
        target = resolve(root, here["$ref"])
        if target is None or (target[0] not in places and not isinstance(target[1], bool)):
            key = key_path((*at, "$ref"))
            allowed = 'a schema in the same document ("#/$defs/...")'
            problems.append(Problem(file, key, show(here["$ref"]), allowed, "move the schema to $defs"))
    patterns = [(("pattern",), here["pattern"])] if "pattern" in here else []
    names = list(here.get("patternProperties", ()))
    for path, pattern in [*patterns, *[(("patternProperties", name), name) for name in names]]:
        problems += _pattern_problems(pattern, file, (*at, *path))
    return problems


def _pattern_problems(pattern: str, file: str, at: Path) -> list[Problem]:
    try:
        compile_pattern(pattern)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        allowed = f"patterns that RE2 supports ({show(text)[1:-1]})"
        fix = "write it without look-around, back-references and large repetitions"
        return [Problem(file, key_path(at), show(pattern), allowed, fix)]
    return []


def _mixture_problems(places: Mapping[Path, Mapping[str, Any]], file: str, at: Path) -> list[Problem]:
    # jsonschema finds the evaluated properties with `re`, which may take exponential time.
    mixed = [path for path, here in places.items() if "unevaluatedProperties" in here]
    if not mixed or not any("patternProperties" in here for here in places.values()):
        return []
    key = key_path((*at, *mixed[0], "unevaluatedProperties"))
    allowed = "unevaluatedProperties in a schema without patternProperties"
    return [Problem(file, key, "both in one schema", allowed, "use additionalProperties")]


def _expansion_problems(schema: Mapping[str, Any], file: str, at: Path) -> list[Problem]:
    try:
        nodes = expanded_nodes(schema)
    except RecursionError as error:
        found, allowed = str(error), f"references that do not lead back, and at most {_EXPANDED_DEPTH} levels"
        return [Problem(file, key_path(at), found, allowed, "write the levels out, as many as needed")]
    if nodes > _EXPANDED_NODES:
        found = f"references that expand to {nodes if nodes < 10**12 else 'billions of'} schemas"
        return [Problem(file, key_path(at), found, f"at most {_EXPANDED_NODES}", "use fewer references")]
    return []


def expanded_nodes(schema: Mapping[str, Any]) -> int:
    """How many schemas there are with every reference replaced by its target.

    Raises RecursionError for references that lead back to themselves, or deeper than 64 levels.
    """
    sizes: dict[int, tuple[int, int]] = {}  # by identity: nodes, levels
    open_schemas: set[int] = set()

    def measure(here: Any, depth: int) -> tuple[int, int]:
        if not isinstance(here, Mapping):
            return 1, 1
        if id(here) in sizes:
            return sizes[id(here)]
        if id(here) in open_schemas:
            raise RecursionError("a reference that leads back to itself")
        if depth > _EXPANDED_DEPTH:
            raise RecursionError("schemas nested too deeply")
        open_schemas.add(id(here))
        below = [each for _, each in subschemas(here)]
        if "$ref" in here and (target := resolve(schema, here["$ref"])) is not None:
            below.append(target[1])
        measured = [measure(each, depth + 1) for each in below]
        open_schemas.remove(id(here))
        nodes, levels = 1 + sum(each[0] for each in measured), 1 + max((each[1] for each in measured), default=0)
        if levels > _EXPANDED_DEPTH:
            raise RecursionError("schemas nested too deeply")
        sizes[id(here)] = nodes, levels
        return nodes, levels

    return measure(schema, 0)[0]


def _default_problems(
    schema: Mapping[str, Any], places: Mapping[Path, Mapping[str, Any]], file: str, at: Path
) -> list[Problem]:
    problems = []
    nodes = expanded_nodes(schema)
    for path, here in places.items():
        if "default" not in here:
            continue
        try:
            errors = errors_in(with_defaults(here["default"], here, schema), here, schema, nodes)
        except (TooMuchWork, RecursionError):
            return [Problem(file, key_path(at), "defaults too large to check", "smaller ones", "simplify the schema")]
        if errors:
            key = key_path((*at, *path, "default"))
            allowed = f"a value that fits its own schema ({errors[0].validator})"
            found = "a value that does not fit" if here.get("writeOnly") else show(here["default"])
            problems.append(Problem(file, key, found, allowed, "correct the default"))
    return problems
