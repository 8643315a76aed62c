from __future__ import annotations

import os
import signal
import time

from ray_ext.client.runtime import Runtime
from ray_ext.control.views import NodeStatus

from .conftest import MakeExtension

DEADLINE_S = 30.0


def node_of(runtime: Runtime, *, other_than: NodeStatus | None = None) -> NodeStatus:
    """The node agent's figures, as soon as it has another zygote than in these."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        for node in runtime.status().nodes:
            if other_than is None or node.zygote_pid != other_than.zygote_pid:
                return node
        time.sleep(0.02)
    raise AssertionError("no node agent answers")


async def test_a_killed_zygote_is_replaced_while_its_guests_go_on(
    runtime: Runtime, strict: str, make_extension: MakeExtension
) -> None:
    before = node_of(runtime)
    assert before.zygote_pid is not None
    handle = runtime.extension(strict)
    guest = await handle.pid()
    os.kill(before.zygote_pid, signal.SIGKILL)
    assert node_of(runtime, other_than=before).zygote_restarts == before.zygote_restarts + 1
    assert await handle.pid() == guest
    view = runtime.install(make_extension("probe-after-zygote"))
    instance = runtime.show(view.id).instance
    assert instance is not None
    assert instance.stub_pid is not None, "the new zygote makes the new guests"
    runtime.unload(view.id)


async def test_a_killed_node_agent_comes_back_and_loses_nothing(
    runtime: Runtime, strict: str, make_extension: MakeExtension
) -> None:
    before = node_of(runtime)
    handle = runtime.extension(strict)
    guest = await handle.pid()
    os.kill(before.pid, signal.SIGKILL)
    after = node_of(runtime, other_than=before)
    assert after.pid != before.pid
    assert await handle.pid() == guest
    view = runtime.install(make_extension("probe-after-agent"))
    assert await runtime.extension(view.id).echo(1) == 1
    runtime.unload(view.id)
