"""A runtime in somebody else's Ray ends there with all that it has started, and leaves the rest alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ray_ext.control.socket_file import socket_path
from ray_ext.home import Home
from tests.cli.ray_cluster import other_cluster
from tests.control.conftest import PackExtension
from tests.control.watching import write_wheel

#: Joins, or uses the Ray of this process; prints its actors' names, and of each process whether it is gone at the end.
DRIVER = """
import os, sys, time
import ray, ray_ext

home, address, is_joined_before, wheel = sys.argv[1:5]
if is_joined_before:
    ray.init(address=address, log_to_driver=False, logging_level=40)
runtime = ray_ext.connect(None if is_joined_before else address, home=home, spares=1)
runtime.install(wheel)
give_up = time.monotonic() + 60
while runtime.status().spare_hosts < 1 or not os.path.exists(home + "/run/control.sock"):
    assert time.monotonic() < give_up
    time.sleep(0.05)
names = sorted(each["name"] for each in ray.util.list_named_actors(all_namespaces=True)
               if each["namespace"] == runtime.namespace)
print(*(name.split("/")[0] for name in names))
pids = [ray.get(ray.get_actor(name, namespace=runtime.namespace).__ray_call__.remote(lambda _: os.getpid()))
        for name in names]
runtime.close()
if not is_joined_before:
    assert not ray.is_initialized()
print(*pids)
"""


@pytest.mark.parametrize("is_joined_before", [False, True], ids=["by its address", "by this process before"])
def test_all_its_actors_end_with_it(is_joined_before: bool, pack_extension: PackExtension) -> None:
    folder = Path(tempfile.mkdtemp(prefix="rx-"))
    home = Home(folder / "home")
    try:
        with other_cluster() as cluster:
            bystander, _ = cluster.bystander()
            done = subprocess.run(
                [sys.executable, "-c", DRIVER, home.root, cluster.address, "yes" if is_joined_before else "",
                 write_wheel(folder, "tenant", pack_extension("tenant"))],
                env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
                | cluster.environment,
                capture_output=True, text=True, check=False, timeout=150,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            names, pids = done.stdout.splitlines()[-2:]
            assert names.split() == ["control", "host", "host", "node", "registry"]
            assert cluster.bystander() == (bystander, ["elsewhere:bystander"])
            assert [pid for pid in pids.split() if _runs(int(pid))] == []
            assert not socket_path(home.run).exists()
    finally:
        shutil.rmtree(folder)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
