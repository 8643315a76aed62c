"""Starting Ray for a runtime, joining one that runs, and ending what was started."""

from __future__ import annotations

import logging
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import ray

from ray_ext.client.cluster import choose_authentication, end_actors
from ray_ext.client.leftovers import BOOT, CLUSTER_TOKEN, end_last_runtime, end_leftovers, forget_runtime
from ray_ext.control.listening import Listen, check_listen
from ray_ext.errors import RuntimeConflict, RuntimeUnreachable
from ray_ext.home import Home
from ray_ext.runtime_record import RuntimeLock, RuntimeRecord, read_record, write_last, write_record

__all__ = ["Connection", "join", "start"]

#: Who keeps the runtime: a keeper, or a program.
Kind = Literal["up", "embedded"]

_DEFAULTS = {
    # Ray would otherwise wrap every worker of a driver that was started by `uv run`.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass
class Connection:
    """What a process holds of a runtime: nothing but Ray's connection, or the runtime itself.

    ``owns_ray``: this process was connected to Ray here; ``has_own_ray``: that Ray was started here.
    """

    home: Home
    namespace: str
    is_owner: bool = False
    owns_ray: bool = False
    has_own_ray: bool = False
    is_closed: bool = False
    lock: RuntimeLock | None = None
    environment: dict[str, str | None] = field(default_factory=dict)

    def close(self) -> None:
        """End what was started here, and forget it: the runtime's actors in a Ray that goes on, or Ray with all in it.

        Once: afterwards the state home may be another's.
        """
        if self.is_closed:
            return
        if self.is_owner and not self.has_own_ray and ray.is_initialized():
            end_actors(self.namespace)
        if self.owns_ray and ray.is_initialized():
            ray.shutdown()
        if self.has_own_ray:
            end_leftovers(self.home)
        if self.is_owner:
            forget_runtime(self.home)
        for name, value in self.environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if self.lock is not None:
            self.lock.release()
        self.is_closed = True


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
    home: Home,
    *,
    kind: Kind,
    address: str | None = None,
    spares: int = 1,
    listen: Listen | None = None,
    on_phase: Callable[[str], None] = lambda _: None,
) -> Connection:
    """Become the owner of this home's runtime: start Ray (or use the one at ``address``, or this process's).

    What an earlier runtime of this home has left behind is ended first. ``spares`` is how many hosts are kept ready.
    ``listen`` is where the control API listens beside its socket; it may still be starting when this returns.
    ``on_phase`` is told what is being waited for. Raises ListenInvalid before anything is started, and RuntimeConflict.
    """
    if listen is not None:
        check_listen(listen)
    home.ensure()
    lock = RuntimeLock(home)
    if not lock.acquire():
        raise RuntimeConflict(
            "another process keeps a runtime with this state home",
            where=str(home.root),
            fix="use it (ray_ext.connect() joins it), or set RAY_EXT_HOME to another folder",
            details={"home": str(home.root)},
        )
    try:
        end_last_runtime(home)
    except BaseException:
        lock.release()
        raise
    connection = Connection(home, home.namespace, is_owner=True, lock=lock)
    try:
        dashboard = _init_ray(connection, address, kind, on_phase)
        record = RuntimeRecord(
            kind=kind,
            pid=os.getpid(),
            address=ray.get_runtime_context().gcs_address,
            namespace=home.namespace,
            auth_mode=os.environ.get("RAY_AUTH_MODE", "disabled"),
            token_path=_token_path(home),
            dashboard=dashboard,
            started_at=time.time(),
            home=str(home.root),
            ray_temp=str(home.ray_temp),
            has_own_ray=connection.has_own_ray,
            listen="" if listen is None else listen.url,
        )
        write_last(home, record)
        on_phase("the registry")
        _start_actors(connection, spares, listen)
        write_record(home, record)
    except BaseException:
        connection.close()
        raise
    return connection


def _init_ray(connection: Connection, address: str | None, kind: Kind, on_phase: Callable[[str], None]) -> str:
    """Ray's dashboard, if it has one."""
    home = connection.home
    for name, value in _DEFAULTS.items():
        if name not in os.environ:
            _set(connection, {name: value})
    if ray.is_initialized():
        return ""
    connection.owns_ray = True
    if address is not None:
        on_phase(f"the Ray cluster at {address}")
        return _join_cluster(address, home)
    on_phase("Ray")
    if kind == "up" or "RAY_AUTH_MODE" not in os.environ:
        _unset(connection, "RAY_AUTH_TOKEN")
        _authenticate(connection, "token", str(_token(home)))
    connection.has_own_ray = True
    _set(connection, {BOOT: str(home.ray_temp)})
    _make_ray_temp(home)
    if kind == "up":
        # What Ray's control store knows survives its crash, and never another start: that has a folder of its own.
        storage = tempfile.mkdtemp(prefix="gcs-", dir=home.ray_temp)
        _set(connection, {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": storage})
    context = ray.init(
        address="local",
        namespace=home.namespace,
        include_dashboard=kind == "up",
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
        # Ray lets everybody write where it keeps its sockets and logs, so that lies in a folder that is ours alone.
        _temp_dir=str(home.ray_temp / "ray"),
        _node_ip_address="127.0.0.1",
    )
    # Ray's processes have it, and give it to theirs; what else this process starts is not ours to end.
    del os.environ[BOOT]
    return context.dashboard_url or ""


def _join_cluster(address: str, home: Home) -> str:
    try:
        context = ray.init(address=address, namespace=home.namespace, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise RuntimeUnreachable(
            f"the Ray cluster at {address} cannot be joined: {error}",
            where=address,
            fix="see that a node of it runs on this machine (ray status), and that RAY_AUTH_MODE and the token are its",
            details={"home": str(home.root), "address": address},
        ) from error
    return context.dashboard_url or ""


def _make_ray_temp(home: Home) -> None:
    """Ray's folder: in a place that all users share, so it must be one that we have made."""
    home.ray_temp.mkdir(mode=0o700, exist_ok=True)
    found = home.ray_temp.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise RuntimeConflict(
            f"{home.ray_temp} is not a private folder of this user",
            where=str(home.ray_temp),
            fix="find out who made it, and remove it",
            details={"home": str(home.root), "pid": None},
        )


def _token_path(home: Home) -> str:
    """The file with the token that this process uses for Ray: those who join later may not have its environment."""
    token = os.environ.get("RAY_AUTH_TOKEN")
    return str(_write_token(home, CLUSTER_TOKEN, token)) if token else os.environ.get("RAY_AUTH_TOKEN_PATH", "")


def _authenticate(connection: Connection, mode: str, token_path: str) -> None:
    """Choose Ray's authentication for this process and its children."""
    _set(connection, {"RAY_AUTH_MODE": mode})
    if token_path:
        _set(connection, {"RAY_AUTH_TOKEN_PATH": token_path})
    choose_authentication(mode, token_path)


def _token(home: Home) -> Path:
    path = home.run / "ray-token"
    return path if path.exists() else _write_token(home, path.name, secrets.token_hex(32))


def _write_token(home: Home, name: str, token: str) -> Path:
    path = home.run / name
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token)
    return path


def _set(connection: Connection, values: dict[str, str]) -> None:
    for name, value in values.items():
        connection.environment.setdefault(name, os.environ.get(name))
        os.environ[name] = value


def _unset(connection: Connection, name: str) -> None:
    connection.environment.setdefault(name, os.environ.pop(name, None))


def _start_actors(connection: Connection, spares: int, listen: Listen | None) -> None:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from ray_ext.actors.control import start_control
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
    start_control(connection.home, connection.namespace, listen)
