"""The names of the actors, without importing what they are made of."""

from __future__ import annotations

__all__ = ["CONTROL", "REGISTRY_NAME", "host_name", "node_agent_name"]

REGISTRY_NAME = "registry"
#: The concurrency group of a host's control methods.
CONTROL = "control"


def host_name(extension: str, generation: int) -> str:
    """The name of the host of one generation."""
    return f"host/{extension}/{generation}"


def node_agent_name(node_id: str) -> str:
    """The name of a node's agent."""
    return f"node/{node_id}"
