"""The manifest as data: every field of ``extension.toml``, its defaults and its rules (design §4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from packaging.utils import canonicalize_name
from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema, model_validator

from ray_ext.manifests import grammar
from ray_ext.manifests.permissions import Permissions, Table, listed
from ray_ext.manifests.scopes import check_topic

__all__ = ["Health", "Manifest", "Permissions", "Resources", "RuntimeEnv", "Swap"]

Category = Literal[
    "platform.linear",
    "platform.github",
    "platform.slack",
    "platform.custom",
    "workflow.orchestration",
    "workflow.transformation",
    "workflow.validation",
    "workflow.notification",
    "analysis.code",
    "analysis.metrics",
    "analysis.reporting",
    "analysis.ml",
]

# Ray has fields of its own for these; as custom resources it refuses them.
_RAYS_OWN_RESOURCES = frozenset({"CPU", "GPU", "memory", "object_store_memory"})


def _size(value: object) -> str | int:
    grammar.size_bytes(value)
    return value  # type: ignore[return-value]  # size_bytes refuses everything but str and int


def _duration(value: object) -> str | int | float:
    grammar.duration_s(value)
    return value  # type: ignore[return-value]  # duration_s refuses everything but str, int and float


def _resource_name(value: str) -> str:
    if value in _RAYS_OWN_RESOURCES:
        raise grammar.Unfit("names other than CPU, GPU, memory and object_store_memory", "use a name of your own")
    return value


def _line(value: str) -> str:
    if not value.isprintable():
        raise grammar.Unfit("one line of printable text", "remove line breaks and control characters")
    return value


Id = Annotated[
    str,
    AfterValidator(grammar.check_id),
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "maxLength": 64}),
]
Specifier = Annotated[str, AfterValidator(grammar.check_specifier), Field(examples=[">=1.2,<2"])]
Size = Annotated[
    str | int,
    PlainValidator(_size),
    WithJsonSchema(
        {
            "type": ["string", "integer"],
            "pattern": r"^[0-9]+(\.[0-9]+)? ?(B|KiB|MiB|GiB|KB|MB|GB)$",
            "minimum": 2**20,
            "maximum": 2**44,
            "examples": ["64MiB"],
        }
    ),
]
Duration = Annotated[
    str | int | float,
    PlainValidator(_duration),
    WithJsonSchema(
        {
            "type": ["string", "number"],
            "pattern": r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h)$",
            "exclusiveMinimum": 0,
            "examples": ["10s"],
        }
    ),
]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_line)]
Text = Annotated[str, Field(max_length=500), AfterValidator(_line)]
JsonSchemaTable = Annotated[
    Mapping[str, object], WithJsonSchema({"type": "object", "description": "A JSON Schema, draft 2020-12."})
]


class Resources(Table):
    """What the guest gets: Ray schedules by it, and the sandbox enforces it."""

    cpus: float = Field(default=0.1, ge=0, le=1024, description="Processors; a fraction is a share of one.")
    memory: Size = Field(
        default="128MiB", description="The guest's memory: bytes, or a number with KiB, MiB, GiB, KB, MB, GB."
    )
    custom: Mapping[Annotated[Name, AfterValidator(_resource_name)], Annotated[float, Field(gt=0, le=1e9)]] = Field(
        default={}, max_length=16, description="Ray's custom resources: name and amount."
    )
    labels: Mapping[Name, Name] = Field(
        default={}, max_length=16, description="Ray's label selectors: label and value."
    )

    @property
    def memory_bytes(self) -> int:
        """``memory`` in bytes."""
        return grammar.size_bytes(self.memory)


class RuntimeEnv(Table):
    """What the guest's interpreter has beside the standard library."""

    pip: Annotated[
        tuple[Annotated[str, AfterValidator(grammar.check_requirement)], ...],
        Field(max_length=200, strict=False),
        AfterValidator(listed),
    ] = Field(default=(), description="Python requirements (PEP 508): no URLs, no options, no environment variables.")
    env_vars: Mapping[
        Annotated[str, AfterValidator(grammar.check_env_name)], Annotated[str, AfterValidator(grammar.check_env_value)]
    ] = Field(
        default={}, max_length=100, description="Environment variables; none that steers the interpreter or the loader."
    )
    image_uri: Name | None = Field(default=None, description="A container image from the operator's catalogue.")
    conda: Name | None = Field(default=None, description="A conda environment from the operator's catalogue.")


class Health(Table):
    """How often the extension's health is asked, and when it counts as unhealthy."""

    interval: Duration = Field(default="10s", description="Time between two checks.")
    timeout: Duration = Field(default="5s", description="Time that one check may take.")
    threshold: int = Field(
        default=3, ge=1, le=100, description="Failed checks in a row that make the instance unhealthy."
    )

    @property
    def interval_s(self) -> float:
        """``interval`` in seconds."""
        return grammar.duration_s(self.interval)

    @property
    def timeout_s(self) -> float:
        """``timeout`` in seconds."""
        return grammar.duration_s(self.timeout)


class Swap(Table):
    """How one generation follows another."""

    mode: Literal["overlap", "exclusive"] | None = Field(
        default=None, description="overlap, or exclusive; without it: exclusive where the class has snapshot."
    )
    drain_timeout: Duration = Field(
        default="30s", description="Time that running calls have before the swap is given up."
    )

    @property
    def drain_timeout_s(self) -> float:
        """``drain_timeout`` in seconds."""
        return grammar.duration_s(self.drain_timeout)


class Manifest(Table):
    """An extension's manifest: what it is, what it needs and what it asks for."""

    schema_version: Literal[1] = Field(description="The version of this format.")
    id: Id = Field(description="The extension's id: a normalised distribution name (PEP 503).")
    name: Name = Field(description="The name that people read.")
    version: Annotated[str, AfterValidator(grammar.check_version)] = Field(
        description="The version (PEP 440); equals the wheel's."
    )
    description: Text = Field(default="", description="What the extension does, in one line.")
    author: Text = Field(default="", description="Who answers for it, with an address.")
    category: Category = Field(description="What kind of extension it is.")
    tags: Annotated[tuple[Name, ...], Field(max_length=32, strict=False), AfterValidator(listed)] = Field(
        default=(), description="Words to find it by."
    )
    entry_point: Annotated[str, AfterValidator(grammar.check_entry_point)] = Field(
        description="The extension's class, as module:Class.", examples=["github_triage:Triage"]
    )
    requires_runtime: Specifier = Field(
        default="", description="Versions of ray_ext that it runs on (PEP 440); empty: any."
    )
    isolation: Literal["strict", "trusted"] = Field(
        default="strict",
        description="strict: confined in a guest. trusted: inside the host; the operator must grant it.",
    )
    dependencies: Mapping[Id, Specifier] = Field(
        default={}, max_length=100, description="Extensions it needs, with versions."
    )
    optional_dependencies: Mapping[Id, Specifier] = Field(
        default={}, max_length=100, description="Extensions it uses where they are installed, with versions."
    )
    resources: Resources = Field(default=Resources(), description="What its process gets.")
    runtime_env: RuntimeEnv = Field(default=RuntimeEnv(), description="What its interpreter has.")
    permissions: Permissions = Field(default=Permissions(), description="What it asks to be allowed.")
    configuration: JsonSchemaTable | None = Field(
        default=None,
        description='The JSON Schema of its configuration, inline or as { schema_file = "config.schema.json" }.',
    )
    events: Mapping[Annotated[str, AfterValidator(check_topic)], JsonSchemaTable] = Field(
        default={}, max_length=200, description="The JSON Schemas of the events that it publishes, by topic."
    )
    health: Health = Field(default=Health(), description="How its health is checked.")
    swap: Swap = Field(default=Swap(), description="How it is replaced.")

    @property
    def schema_file(self) -> str | None:
        """The configuration's schema file, relative to ``extension.toml``; None when the schema is inline."""
        configuration = self.configuration or {}
        name = configuration.get("schema_file")
        return name if isinstance(name, str) and len(configuration) == 1 else None

    @property
    def module(self) -> str:
        """The entry point's module."""
        return self.entry_point.partition(":")[0]

    @model_validator(mode="after")
    def _depends_on_others_once(self) -> Manifest:
        for table, ids in (("dependencies", self.dependencies), ("optional_dependencies", self.optional_dependencies)):
            if self.id in ids:
                raise grammar.Unfit("other extensions", "remove it: it is the extension itself", key=(table, self.id))
        for both in self.dependencies:
            if canonicalize_name(both) in self.optional_dependencies:
                key = ("optional_dependencies", both)
                raise grammar.Unfit("extensions that [dependencies] does not name", "remove one of the two", key=key)
        return self
