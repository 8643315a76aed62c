"""The ``[permissions]`` table: one group of scopes for each kind of permission, each with an optional reason."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ray_ext.manifests.grammar import Unfit, check_id
from ray_ext.manifests.scopes import (
    check_database,
    check_endpoint,
    check_file,
    check_integration,
    check_network,
    check_topic_pattern,
)

__all__ = ["PermissionGroup", "Permissions", "Table", "listed"]


class Table(BaseModel):
    """A table of the manifest: no unknown keys, no conversion between types, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def listed(value: tuple[str, ...]) -> tuple[str, ...]:
    """The entries of a list that may hold none of them twice."""
    if len(set(value)) != len(value):
        twice = next(entry for entry in value if value.count(entry) > 1)
        raise Unfit("each entry once", f'remove the second "{twice[:80]}"')
    return value


class PermissionGroup(Table):
    """The scopes of one kind of permission, and why they are asked for.

    Written as a list of scopes, or as ``{ scopes = [...], reason = "..." }``.
    """

    scopes: tuple[str, ...] = ()
    reason: Annotated[str, Field(max_length=500, description="Why the extension needs it; operators read this.")] = ""

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: object) -> object:
        return {"scopes": value} if isinstance(value, list | tuple) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        reference = handler(core_schema)
        table = handler.resolve_ref_schema(reference)
        as_table: dict[str, Any] = dict(table)
        table.clear()
        table["anyOf"] = [as_table["properties"]["scopes"], as_table]
        return reference


S = TypeVar("S")
Scopes = Annotated[
    tuple[S, ...], Field(max_length=200, strict=False, description="The scopes."), AfterValidator(listed)
]


class FileGroup(PermissionGroup):
    """Paths, or trees of paths."""

    scopes: Scopes[Annotated[str, AfterValidator(check_file), Field(examples=["/srv/repos/**"])]] = ()


class NetworkGroup(PermissionGroup):
    """Hosts with ports."""

    scopes: Scopes[Annotated[str, AfterValidator(check_network), Field(examples=["api.github.com:443"])]] = ()


class DatabaseGroup(PermissionGroup):
    """Databases of the operator's catalogue, to read or to write."""

    scopes: Scopes[Annotated[str, AfterValidator(check_database), Field(examples=["analytics:read"])]] = ()


class IntegrationGroup(PermissionGroup):
    """Scopes of the operator's integrations."""

    scopes: Scopes[Annotated[str, AfterValidator(check_integration), Field(examples=["github:issues.write"])]] = ()


class CallGroup(PermissionGroup):
    """Other extensions, by id."""

    scopes: Scopes[Annotated[str, AfterValidator(check_id), Field(examples=["linear-sync"])]] = ()


class TopicGroup(PermissionGroup):
    """Topics, or patterns of topics."""

    scopes: Scopes[Annotated[str, AfterValidator(check_topic_pattern), Field(examples=["github.issues.*"])]] = ()


class EndpointGroup(PermissionGroup):
    """HTTP endpoints that the extension serves."""

    scopes: Scopes[Annotated[str, AfterValidator(check_endpoint), Field(examples=["POST /webhooks/github"])]] = ()


class Permissions(Table):
    """What the extension asks for; nothing of it is had before the operator grants it."""

    file_read: FileGroup = Field(default=FileGroup(), description="Files to read: PATH, or PATH/** for a tree.")
    file_write: FileGroup = Field(
        default=FileGroup(),
        description="Files to write: PATH, or PATH/** for a tree. Its own data directory needs none.",
    )
    network: NetworkGroup = Field(default=NetworkGroup(), description="Hosts to connect to: host:port, exact.")
    database: DatabaseGroup = Field(default=DatabaseGroup(), description="Databases: name:read or name:write.")
    integration: IntegrationGroup = Field(default=IntegrationGroup(), description="Integrations: name:scope.")
    call: CallGroup = Field(default=CallGroup(), description="Extensions to call, by id.")
    publish: TopicGroup = Field(default=TopicGroup(), description="Topics to publish to; * is one token, ** the rest.")
    subscribe: TopicGroup = Field(default=TopicGroup(), description="Topics to receive; * is one token, ** the rest.")
    endpoint: EndpointGroup = Field(default=EndpointGroup(), description="HTTP endpoints to serve: METHOD /path.")

    def groups(self) -> dict[str, PermissionGroup]:
        """Every group by its name, in the manifest's order."""
        return {name: getattr(self, name) for name in type(self).model_fields}
