"""A Ray cluster of one node that somebody else runs, with an actor of theirs."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["OtherCluster", "other_cluster"]

_BYSTANDER = """
import ray, sys
ray.init(address=sys.argv[1], namespace="elsewhere", log_to_driver=False, logging_level=40)
@ray.remote(num_cpus=0, name="bystander", lifetime="detached", get_if_exists=True)
class Bystander:
    def pid(self):
        import os
        return os.getpid()
print(ray.get(Bystander.remote().pid.remote()))
print(*sorted(each["namespace"] + ":" + each["name"] for each in ray.util.list_named_actors(all_namespaces=True)))
"""


class OtherCluster:
    """``environment`` is what one needs to join it; the Ray's own processes are children of ``process``."""

    def __init__(self, address: str, environment: dict[str, str], process: subprocess.Popen[bytes]) -> None:
        self.address = address
        self.environment = environment
        self.process = process

    def bystander(self) -> tuple[int, list[str]]:
        """The pid of an actor of somebody else, which is started the first time; and every named actor."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        done = subprocess.run(
            [sys.executable, "-c", _BYSTANDER, self.address],
            env=environment | self.environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=90,
        )
        pid, names = done.stdout.splitlines()[-2:]
        return int(pid), names.split()


@contextmanager
def other_cluster() -> Iterator[OtherCluster]:
    """It asks for a token, has two CPUs and no dashboard, and ends with the block."""
    folder = Path(tempfile.mkdtemp(prefix="rc-"))
    port = _free_port()
    mine = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | mine
    ray = Path(sys.executable).with_name("ray")
    options = ["--num-cpus=2", "--include-dashboard=false", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [ray, "start", "--head", "--block", f"--port={port}", f"--temp-dir={folder / 'ray'}", *options],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        give_up = time.monotonic() + 90
        while b"Ray runtime started" not in (folder / "log").read_bytes():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < give_up, (folder / "log").read_text()
            time.sleep(0.05)
        yield OtherCluster(f"127.0.0.1:{port}", mine, process)
    finally:
        # Ray's own end takes half a minute.
        process.kill()
        process.wait()
        give_up = time.monotonic() + 30
        while (left := _processes_with(mine["RAY_AUTH_TOKEN"])) and time.monotonic() < give_up:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        shutil.rmtree(folder, ignore_errors=True)


def _processes_with(token: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        # Those that have gone since, and those of others.
        with suppress(OSError):
            if entry.name.isdigit() and f"RAY_AUTH_TOKEN={token}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
