"""What the registry tells a host about the instance that it shall own."""

from __future__ import annotations

from msgspec import Struct

from ray_ext.wire.messages import Metadata

__all__ = ["Exit", "InstanceSpec"]


class InstanceSpec(Struct, frozen=True, kw_only=True):
    """Everything a host needs; paths are absolute and exist on the host's node.

    ``hang_after_s``: a guest whose heartbeat is silent for so long is ended. ``load_timeout_s`` bounds import,
    construction and ``on_load`` together. ``layer`` is what the guest imports of ray_ext,
    ``zygote`` the socket of the node's zygote for that layer. ``secrets`` are what must not be read in its log.
    """

    metadata: Metadata
    generation: int
    entry_point: str
    is_trusted: bool
    code_paths: tuple[str, ...]
    env_vars: dict[str, str]
    config: bytes
    data_dir: str
    log_file: str
    secrets: tuple[str, ...] = ()
    layer: str
    zygote: str | None = None
    memory_bytes: int
    hang_after_s: float = 15.0
    load_timeout_s: float = 60.0


class Exit(Struct, frozen=True, kw_only=True):
    """Why a guest is gone. ``kind``: stopped, crashed, hung, protocol-violation or host-lost."""

    kind: str
    cause: str
    unknown_calls: int = 0
    unstarted_calls: int = 0
