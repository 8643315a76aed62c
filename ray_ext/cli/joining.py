"""The runtime that the verbs talk to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_ext.client.runtime import Runtime

__all__ = ["join_runtime"]


def join_runtime() -> Runtime:
    """The runtime of the state home, which must be up; raises RuntimeUnreachable. Imports Ray."""
    from ray_ext.client.runtime import connect

    return connect(is_embedding=False)
