"""The control actor: serves the operators' API on the state home's socket and, when asked, on TCP."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING

import ray
from msgspec import structs
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import ray_ext
from ray_ext.actors.control_backend import RuntimeBackend
from ray_ext.actors.system_log import record_system_log
from ray_ext.calling.names import CONTROL_NAME
from ray_ext.control.listening import Listen, bind_tcp
from ray_ext.control.socket_file import bind_socket
from ray_ext.control.views import ControlView
from ray_ext.errors import RayExtError
from ray_ext.home import Home
from ray_ext.secret_file import secret_in

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from uvicorn import Server

__all__ = ["Control", "start_control"]

_log = logging.getLogger(__name__)

#: How long after something could not be done, binding a socket say, it is tried again, in seconds.
_PAUSE_S = 1.0


class Control:
    """The actor class. Everything begins in the constructor, which is all that Ray runs after a restart.

    It keeps nothing: what was asked of its predecessor is with the registry, under the operation's id.
    """

    def __init__(self, home: str, namespace: str, listen: Listen | None = None) -> None:
        self._home = Home(Path(home))
        record_system_log(self._home, "control")
        self._namespace = namespace
        self._listen = listen
        self._listens_at = ""
        self._started_at = time.time()
        # On a thread and event loop of its own: Ray's are Ray's.
        threading.Thread(target=self._run, name="control", daemon=True).start()

    def ping(self) -> int:
        """The actor's process id."""
        return os.getpid()

    def _view(self) -> ControlView:
        return ControlView(
            version=ray_ext.__version__,
            pid=os.getpid(),
            started_at=self._started_at,
            home=str(self._home.root),
            listen=self._listens_at,
        )

    def _run(self) -> None:
        while True:
            try:
                asyncio.run(self._serve())
            except BaseException:  # noqa: BLE001 - uvicorn exits, too; nobody else would begin anew what has ended
                _log.exception("the control API has ended, and begins anew")
            time.sleep(_PAUSE_S)

    async def _serve(self) -> None:
        # Here, for they take a second to import and belong to this process alone.
        from ray_ext.control.application import make_application
        from ray_ext.control.book import Book

        backend = RuntimeBackend(self._home, self._namespace, self._view)
        book = Book(backend)
        async with asyncio.TaskGroup() as servers:
            servers.create_task(self._serve_socket(make_application(backend, self._home, book=book)))
            if self._listen is not None:
                token = secret_in(self._home.run / "control-token")
                application = make_application(backend, self._home, book=book, token=token)
                servers.create_task(self._serve_tcp(application, self._listen))

    async def _serve_socket(self, application: ASGIApp) -> None:
        bound = await _patiently(lambda: bind_socket(self._home.run))
        await _server(application).serve(sockets=[bound])

    async def _serve_tcp(self, application: ASGIApp, listen: Listen) -> None:
        bound = await _patiently(lambda: bind_tcp(listen))
        self._listens_at = structs.replace(listen, port=bound.getsockname()[1]).url
        _log.info("the control API listens on %s", self._listens_at)
        await _server(application, ssl_certfile=listen.tls_cert, ssl_keyfile=listen.tls_key).serve(sockets=[bound])


async def _patiently(bind: Callable[[], socket]) -> socket:
    """Try until it works: a full disk, or a predecessor that is still ending, is no reason to stay away for good."""
    while True:
        try:
            return bind()
        except (OSError, RayExtError) as error:
            _log.warning("%s", error)
            await asyncio.sleep(_PAUSE_S)


def _server(application: ASGIApp, *, ssl_certfile: str | None = None, ssl_keyfile: str | None = None) -> Server:
    from uvicorn import Config, Server

    config = Config(
        application,
        log_config=None,  # through Python's logging, as this process has set it up
        access_log=False,
        ws="none",
        proxy_headers=False,
        server_header=False,
        ssl_certfile=ssl_certfile,
        ssl_keyfile=ssl_keyfile,
    )
    return Server(config)


def start_control(home: Home, namespace: str, listen: Listen | None) -> None:
    """Start the control actor of this runtime, beside the registry, without waiting for it."""
    ray.remote(Control).options(
        name=CONTROL_NAME,
        namespace=namespace,
        get_if_exists=True,
        lifetime="detached",
        num_cpus=0,
        max_restarts=-1,
        # Its socket is a file of this node.
        scheduling_strategy=NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False),
    ).remote(str(home.root), namespace, listen)
