"""The runtime as an orchestrator sees it: install, load, look, call."""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import ray

from ray_ext.actors.home import Home
from ray_ext.actors.views import ExtensionView, RuntimeView
from ray_ext.client.boot import Connection, join, start
from ray_ext.client.caller import forget_callers
from ray_ext.client.handle import Handle
from ray_ext.client.registry_client import forget_registry, registry_client
from ray_ext.client.routebook import forget_routes
from ray_ext.errors import PackageInvalid, RuntimeClosed, RuntimeUnreachable

__all__ = ["AsyncRuntime", "Grant", "Runtime", "connect"]

Grant = Literal["none", "requested"]

#: How long running calls get when an extension is unloaded, in seconds.
GRACE_S = 10.0


def connect(
    address: str | None = None, *, home: str | os.PathLike[str] | None = None, is_embedding: bool = True
) -> Runtime:
    """Join the runtime of the state home, or start an embedded one.

    ``address`` None: a runtime that runs with this home (by ``ray-ext up``, or embedded in another process) is joined;
    else one is started in the Ray of this process, or in a new local Ray. With an address, the runtime is started on
    that Ray cluster. ``home`` None is ``RAY_EXT_HOME`` or the user's data folder. With ``is_embedding=False`` nothing
    is started: RuntimeUnreachable is raised instead.

    An embedded runtime ends with ``close()``, or with this process; what was loaded is loaded again at the next start.

    >>> runtime = connect()  # doctest: +SKIP
    >>> runtime.install("./github-triage", config={"webhook_secret": "…"})  # doctest: +SKIP
    """
    chosen = Home.default() if home is None else Home(Path(home))
    connection = join(chosen)
    if connection is None:
        if not is_embedding:
            raise RuntimeUnreachable(
                "no runtime is up with this state home",
                where=str(chosen.root),
                fix="start one: ray-ext up",
                details={"home": str(chosen.root)},
            )
        connection = start(chosen, kind="embedded", address=address)
    return Runtime(connection)


class _Client:
    """What :class:`Runtime` and :class:`AsyncRuntime` share."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_closed = False

    @property
    def namespace(self) -> str:
        """The Ray namespace of the runtime's actors."""
        return self._connection.namespace

    @property
    def home(self) -> Path:
        """The state home."""
        return self._connection.home.root

    def extension(self, extension: str) -> Handle:
        """A handle; it may be made before the extension is loaded."""
        return Handle(self.namespace, extension)

    def _client(self) -> Any:
        if self._is_closed:
            raise RuntimeClosed("this runtime was closed", fix="connect again: ray_ext.connect()")
        return registry_client(self.namespace)


class Runtime(_Client):
    """A runtime; its methods block. ``runtime.aio`` has the same methods to await.

    As a context manager it is closed at the end.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.aio = AsyncRuntime(connection, self._run_close)
        atexit.register(self.close)

    def install(
        self,
        source: str | os.PathLike[str],
        *,
        config: Mapping[str, Any] | None = None,
        grant: Grant = "none",
        load: bool = True,
    ) -> ExtensionView:
        """Install from a project folder or a wheel, and load it unless ``load=False``.

        Nothing of the extension runs before it is loaded. Installing the same content again is harmless; ``config``
        None keeps what is configured. ``grant="requested"`` grants what the manifest asks for.
        Raises ManifestInvalid, PackageInvalid, ConfigurationInvalid, ReleaseConflict, InstallationConflict,
        GrantRequired, NotLanded, and what :meth:`load` raises.
        """
        wheel, origin = _package(source)
        view: ExtensionView = self._client().call(
            "install", wheel, None if config is None else dict(config), grant, origin
        )
        return self.load(view.id) if load else view

    def load(self, extension: str) -> ExtensionView:
        """Start the extension; returns when it takes calls. Raises LoadFailed, ExtensionCrashed,
        InsufficientResources, IsolationUnavailable or ExtensionNotFound."""
        view: ExtensionView = self._client().call("load", extension)
        return view

    def unload(self, extension: str, *, grace_s: float = GRACE_S) -> ExtensionView:
        """End the extension's instance: running calls get ``grace_s`` seconds, then ``on_unload`` runs."""
        view: ExtensionView = self._client().call("unload", extension, grace_s)
        return view

    def list(self) -> list[ExtensionView]:
        """Every installation."""
        views: list[ExtensionView] = self._client().call("list_extensions")
        return views

    def show(self, extension: str) -> ExtensionView:
        """One installation with its instance's figures. Raises ExtensionNotFound."""
        view: ExtensionView = self._client().call("show", extension)
        return view

    def status(self) -> RuntimeView:
        """The runtime as a whole."""
        view: RuntimeView = self._client().call("status")
        return view

    def close(self) -> None:
        """Leave the runtime; an embedded one ends: its extensions are unloaded in order, its processes are gone."""
        if not self._is_closed:
            if self._connection.is_owner and ray.is_initialized():
                self._client().call("close", GRACE_S)
            self._run_close()

    def _run_close(self) -> None:
        self._is_closed = self.aio._is_closed = True
        atexit.unregister(self.close)
        forget_callers(self.namespace)
        forget_routes(self.namespace)
        if self._connection.is_owner and not self._connection.owns_ray and ray.is_initialized():
            _end_registry(self.namespace)
        forget_registry(self.namespace)
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncRuntime(_Client):
    """The awaitable twins of :class:`Runtime`'s methods, with the same contracts."""

    def __init__(self, connection: Connection, run_close: Callable[[], None]) -> None:
        super().__init__(connection)
        self._run_close = run_close

    async def install(
        self,
        source: str | os.PathLike[str],
        *,
        config: Mapping[str, Any] | None = None,
        grant: Grant = "none",
        load: bool = True,
    ) -> ExtensionView:
        """See :meth:`Runtime.install`."""
        wheel, origin = await asyncio.to_thread(_package, source)
        view: ExtensionView = await self._client().call_async(
            "install", wheel, None if config is None else dict(config), grant, origin
        )
        return await self.load(view.id) if load else view

    async def load(self, extension: str) -> ExtensionView:
        """See :meth:`Runtime.load`."""
        view: ExtensionView = await self._client().call_async("load", extension)
        return view

    async def unload(self, extension: str, *, grace_s: float = GRACE_S) -> ExtensionView:
        """See :meth:`Runtime.unload`."""
        view: ExtensionView = await self._client().call_async("unload", extension, grace_s)
        return view

    async def list(self) -> list[ExtensionView]:
        """See :meth:`Runtime.list`."""
        views: list[ExtensionView] = await self._client().call_async("list_extensions")
        return views

    async def show(self, extension: str) -> ExtensionView:
        """See :meth:`Runtime.show`."""
        view: ExtensionView = await self._client().call_async("show", extension)
        return view

    async def status(self) -> RuntimeView:
        """See :meth:`Runtime.status`."""
        view: RuntimeView = await self._client().call_async("status")
        return view

    async def close(self) -> None:
        """See :meth:`Runtime.close`."""
        if not self._is_closed:
            if self._connection.is_owner and ray.is_initialized():
                await self._client().call_async("close", GRACE_S)
            self._run_close()


def _end_registry(namespace: str) -> None:
    from ray_ext.actors.names import REGISTRY_NAME

    try:
        ray.kill(ray.get_actor(REGISTRY_NAME, namespace=namespace), no_restart=True)
    except ValueError:
        return


def _package(source: str | os.PathLike[str]) -> tuple[bytes, str]:
    """The wheel's bytes and where they came from."""
    from ray_ext.packages import pack_folder

    path = Path(source).expanduser()
    if path.is_dir():
        return pack_folder(path), str(path.absolute())
    if path.suffix == ".whl" and path.is_file():
        return path.read_bytes(), str(path.absolute())
    raise PackageInvalid(
        f"{path} is neither a folder nor a wheel" if path.exists() else f"{path} does not exist",
        fix="give the folder that holds extension.toml, or a .whl file",
        details={"problems": []},
    )
