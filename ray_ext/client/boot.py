"""Starting Ray for a runtime, joining one that runs, and ending what was started."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import ray
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from ray_ext.client.record import RuntimeLock, RuntimeRecord, read_record, write_record
from ray_ext.errors import RuntimeConflict, RuntimeUnreachable
from ray_ext.home import Home

__all__ = ["Connection", "end_leftovers", "join", "processes_of", "start"]

#: Marks every process of a Ray that was started here.
_BOOT = "RAY_EXT_BOOT"
_DEFAULTS = {
    # Ray would otherwise wrap every worker of a driver that was started by `uv run`.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass
class Connection:
    """What a process holds of a runtime: nothing but Ray's connection, or the runtime itself."""

    home: Home
    namespace: str
    is_owner: bool = False
    owns_ray: bool = False
    lock: RuntimeLock | None = None
    environment: dict[str, str | None] = field(default_factory=dict)

    def close(self) -> None:
        """End Ray if it was started here, and forget it."""
        if self.owns_ray and ray.is_initialized():
            ray.shutdown()
        if self.is_owner and self.owns_ray:
            end_leftovers(self.home)
        for name, value in self.environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if self.lock is not None:
            self.lock.release()


def join(home: Home) -> Connection | None:
    """Join the runtime of this home; None when none runs."""
    record = _await_record(home)
    if record is None:
        return None
    connection = Connection(home, record.namespace)
    if ray.is_initialized():
        current = ray.get_runtime_context().gcs_address
        if current != record.address:
            raise RuntimeConflict(
                f"this process is connected to the Ray at {current}, the runtime runs on {record.address}",
                where=str(home.root),
                fix="connect in another process, or call ray.shutdown() first",
                details={"home": str(home.root), "pid": record.pid},
            )
        return connection
    _authenticate(connection, record.auth_mode, record.token_path)
    try:
        ray.init(address=record.address, namespace=record.namespace, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        raise RuntimeUnreachable(
            f"the runtime at {record.address} does not answer: {error}",
            where=str(home.root),
            fix="end it and start it anew: ray-ext down && ray-ext up",
            details={"home": str(home.root)},
        ) from error
    connection.owns_ray = True
    return connection


def _await_record(home: Home) -> RuntimeRecord | None:
    """A runtime that is just starting holds the lock before it publishes its record."""
    give_up = time.monotonic() + 60.0
    while RuntimeLock(home).is_held_elsewhere():
        record = read_record(home)
        if record is not None:
            return record
        if time.monotonic() > give_up:
            raise RuntimeUnreachable(
                "a runtime of this state home is starting and does not become ready",
                where=str(home.root),
                fix=f"see {home.logs / 'system'}; end it with: ray-ext down",
                details={"home": str(home.root)},
            )
        time.sleep(0.1)
    return None


def start(
    home: Home, *, kind: str, address: str | None = None, with_dashboard: bool = False, spares: int = 1
) -> Connection:
    """Become the owner of this home's runtime: start Ray (or use the one at ``address``, or this process's).

    ``spares`` is how many hosts are kept ready.
    """
    home.ensure()
    lock = RuntimeLock(home)
    if not lock.acquire():
        raise RuntimeConflict(
            "another process keeps a runtime with this state home",
            where=str(home.root),
            fix="use it (ray_ext.connect() joins it), or set RAY_EXT_HOME to another folder",
            details={"home": str(home.root)},
        )
    connection = Connection(home, home.namespace, is_owner=True, lock=lock)
    try:
        dashboard = _init_ray(connection, address, with_dashboard=with_dashboard)
        _start_registry(connection, spares)
        write_record(
            home,
            RuntimeRecord(
                kind=kind,
                pid=os.getpid(),
                address=ray.get_runtime_context().gcs_address,
                namespace=home.namespace,
                auth_mode=os.environ.get("RAY_AUTH_MODE", "disabled"),
                token_path=os.environ.get("RAY_AUTH_TOKEN_PATH", ""),
                dashboard=dashboard,
                started_at=time.time(),
            ),
        )
    except BaseException:
        connection.close()
        raise
    return connection


def _init_ray(connection: Connection, address: str | None, *, with_dashboard: bool) -> str:
    home = connection.home
    if "RAY_AUTH_MODE" not in os.environ and address is None and not ray.is_initialized():
        _authenticate(connection, "token", str(_token(home)))
    for name, value in _DEFAULTS.items():
        if name not in os.environ:
            _set(connection, {name: value})
    if ray.is_initialized():
        return ""
    connection.owns_ray = True
    if address is not None:
        ray.init(address=address, namespace=home.namespace, log_to_driver=False, logging_level=logging.ERROR)
        return ""
    end_leftovers(home)
    _set(connection, {_BOOT: str(home.ray_temp)})
    home.ray_temp.mkdir(mode=0o700, exist_ok=True)
    context = ray.init(
        address="local",
        namespace=home.namespace,
        include_dashboard=with_dashboard,
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=str(home.ray_temp),
        _node_ip_address="127.0.0.1",
    )
    return context.dashboard_url or ""


def _authenticate(connection: Connection, mode: str, token_path: str) -> None:
    """Choose Ray's authentication for this process and its children."""
    _set(connection, {"RAY_AUTH_MODE": mode})
    if token_path:
        _set(connection, {"RAY_AUTH_TOKEN_PATH": token_path})
    # Ray reads the mode once, when it is imported; this is how ray.init() itself makes a later choice count. It keeps
    # the token of the last cluster, too.
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _token(home: Home) -> Path:
    path = home.run / "ray-token"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    return path


def _set(connection: Connection, values: dict[str, str]) -> None:
    for name, value in values.items():
        connection.environment.setdefault(name, os.environ.get(name))
        os.environ[name] = value


def _start_registry(connection: Connection, spares: int) -> None:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from ray_ext.actors.registry import Registry
    from ray_ext.calling.names import REGISTRY_NAME
    from ray_ext.calling.registry_client import registry_client

    ray.remote(Registry).options(
        name=REGISTRY_NAME,
        namespace=connection.namespace,
        get_if_exists=True,
        lifetime="detached",
        num_cpus=0,
        max_restarts=-1,
        max_concurrency=10_000,
        # The store is a file of this node.
        scheduling_strategy=NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False),
    ).remote(str(connection.home.root), connection.namespace, spares)
    registry_client(connection.namespace).call("ping")


def end_leftovers(home: Home) -> None:
    """End every process of a Ray that this home's runtime started, and remove its temporary folder.

    Found by the folder's name, which is the home's own, in their command lines or environments.
    """
    give_up = time.monotonic() + 10.0
    while (found := processes_of(home)) and time.monotonic() < give_up:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)
    shutil.rmtree(home.ray_temp, ignore_errors=True)


def processes_of(home: Home) -> list[int]:
    """The processes of a Ray that this home's runtime started, other than this one."""
    marker = str(home.ray_temp).encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        # Ray's workers retitle themselves, which overwrites their command line; their environment stays.
        if marker in command or _BOOT.encode() + b"=" + marker + b"\0" in environment:
            found.append(int(entry.name))
    return found
