"""The names of the actors, without importing what they are made of."""

from __future__ import annotations

__all__ = ["CONTROL", "CONTROL_NAME", "NODE_AGENT_PREFIX", "REGISTRY_NAME", "host_name", "node_agent_name"]

REGISTRY_NAME = "registry"
CONTROL_NAME = "control"
NODE_AGENT_PREFIX = "node/"
#: The concurrency group of a host's control methods.
CONTROL = "control"


def host_name(extension: str, generation: int) -> str:
    """The name of the host of one generation."""
    return f"host/{extension}/{generation}"


def node_agent_name(node_id: str) -> str:
    """The name of a node's agent."""
    return f"{NODE_AGENT_PREFIX}{node_id}"
