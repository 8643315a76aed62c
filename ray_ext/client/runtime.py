"""The runtime as an orchestrator sees it: install, load, look, call."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import ray

from ray_ext.calling.caller import forget_callers
from ray_ext.calling.handle import Handle
from ray_ext.calling.registry_client import RegistryClient, forget_registry, registry_client
from ray_ext.calling.routebook import forget_routes
from ray_ext.client.boot import Connection, join, start
from ray_ext.client.progress import OnProgress, watched
from ray_ext.control.commands import Command, PlanView, Verb
from ray_ext.control.requests import GRACE_S, Grant, Target, make_command, new_operation, operator, package_of
from ray_ext.control.views import ExtensionView, ReleaseView, RuntimeView
from ray_ext.errors import ExtensionNotFound, RuntimeClosed, RuntimeUnreachable
from ray_ext.home import Home
from ray_ext.packages.discovery import Discovered, discover_configured
from ray_ext.store.records import AuditEntry

__all__ = ["AsyncRuntime", "Grant", "Runtime", "connect"]

P = ParamSpec("P")
R = TypeVar("R")


def connect(
    address: str | None = None,
    *,
    home: str | os.PathLike[str] | None = None,
    is_embedding: bool = True,
    spares: int = 1,
) -> Runtime:
    """Join the runtime of the state home, or start an embedded one.

    ``address`` None: a runtime that runs with this home (by ``ray-ext up``, or embedded in another process) is joined;
    else one is started in the Ray of this process, or in a new local Ray. With an address, the runtime is started on
    that Ray cluster. ``home`` None is ``RAY_EXT_HOME`` or the user's data folder. With ``is_embedding=False`` nothing
    is started: RuntimeUnreachable is raised instead. A runtime that is started keeps ``spares`` hosts ready, so that
    loading is fast.

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
        connection = start(chosen, kind="embedded", address=address, spares=spares)
    return Runtime(connection)


class Runtime:
    """A runtime; its methods block. ``runtime.aio`` has the same methods to await.

    As a context manager it is closed at the end.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_closed = False
        self.aio = AsyncRuntime(self)
        atexit.register(self.close)

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

    def _client(self) -> RegistryClient:
        if self._is_closed:
            raise RuntimeClosed("this runtime was closed", fix="connect again: ray_ext.connect()")
        return registry_client(self.namespace)

    def install(
        self,
        source: Target,
        *,
        version: str | None = None,
        config: Mapping[str, Any] | None = None,
        grant: Grant | None = None,
        load: bool = True,
        find_links: Sequence[str | os.PathLike[str]] = (),
        index_url: str | None = None,
        plan: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> ExtensionView:
        """Install from a project folder or a wheel, or by id and ``version`` a release that is known; with all that it
        depends on, and load it unless ``load=False``.

        Nothing of the extension runs before it is loaded. Installing the same content again is harmless. ``config`` and
        ``grant`` None keep what is there. ``grant="requested"`` grants what the manifest asks for. Python packages come
        from ``find_links`` (folders of wheels) and the index at ``index_url``. ``plan`` is the hash of a plan: any
        other is refused. If a step fails, the earlier ones are undone.

        Raises ManifestInvalid, PackageInvalid, ConfigurationInvalid, ReleaseConflict, InstallationConflict,
        GrantRequired, NotLanded, DependencyConflict, DependencyCycle, EnvironmentFailed, PlanStale, OperationConflict,
        and what :meth:`load` raises.
        """
        command = make_command(
            "install",
            source,
            to=version,
            config=config,
            grant=grant,
            load=load,
            find_links=find_links,
            index_url=index_url,
            plan=plan,
        )
        return self._expect(self._perform(command, on_progress))

    def load(self, extension: str, *, plan: str | None = None, on_progress: OnProgress | None = None) -> ExtensionView:
        """Start the extension, after what it depends on; returns when it takes calls.

        Raises LoadFailed, ExtensionCrashed, InsufficientResources, IsolationUnavailable or ExtensionNotFound.
        """
        return self._expect(self._perform(make_command("load", extension, plan=plan), on_progress))

    def unload(
        self, extension: str, *, grace_s: float = GRACE_S, cascade: bool = False, plan: str | None = None
    ) -> ExtensionView:
        """End the extension's instance: running calls get ``grace_s`` seconds, then ``on_unload`` runs.

        Raises DependentsExist while others that are loaded need it, unless ``cascade``: then they end first.
        """
        return self._expect(
            self._perform(make_command("unload", extension, grace_s=grace_s, cascade=cascade, plan=plan), None)
        )

    def remove(
        self,
        extension: str,
        *,
        cascade: bool = False,
        purge: bool = False,
        grace_s: float = GRACE_S,
        plan: str | None = None,
    ) -> None:
        """Unload and forget it, with its package and its log; its data directory stays unless ``purge``.

        Raises DependentsExist while others that are installed need it, unless ``cascade``: then they go first.
        """
        self._perform(make_command("remove", extension, cascade=cascade, purge=purge, grace_s=grace_s, plan=plan), None)

    def upgrade(
        self,
        extension: str,
        to: Target | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        grant: Grant | None = None,
        grace_s: float = GRACE_S,
        find_links: Sequence[str | os.PathLike[str]] = (),
        index_url: str | None = None,
        plan: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> ExtensionView:
        """Change the version: ``to`` a known version, or that of a folder or wheel; None is the best that fits.

        What depends on it stays loaded, and its calls wait. Nothing better to change to is no error. Raises what
        :meth:`install` raises.
        """
        command = make_command(
            "upgrade",
            extension,
            to=to,
            config=config,
            grant=grant,
            grace_s=grace_s,
            find_links=find_links,
            index_url=index_url,
            plan=plan,
        )
        return self._expect(self._perform(command, on_progress))

    def plan(self, verb: Verb, target: Target, /, **options: Any) -> PlanView:
        """What ``install``, ``load``, ``unload``, ``remove`` or ``upgrade`` would do now, step by step and why.

        ``options`` are those of the verb. Changes nothing, and executes nothing of the extension.
        """
        view: PlanView = self._client().call("plan", make_command(verb, target, **options))
        return view

    def register(self, source: Target) -> ReleaseView:
        """Make the release in a folder or wheel known, so that plans can choose it, without installing it."""
        wheel, origin = package_of(source)
        view: ReleaseView = self._client().call("register", wheel, origin, operator(), new_operation())
        return view

    def yank(self, extension: str, version: str, reason: str | None) -> None:
        """Keep plans from choosing a release, and say why; None takes that back. Where it is installed it stays."""
        self._client().call("yank", extension, version, reason, operator(), new_operation())

    def forget(self, extension: str, version: str) -> None:
        """Know a release no longer, and delete its package; one that is not known stays so.

        Raises InstallationConflict where it is installed.
        """
        self._client().call("forget", extension, version, operator(), new_operation())

    def releases(self, extension: str | None = None) -> list[ReleaseView]:
        """The releases that are known."""
        views: list[ReleaseView] = self._client().call("list_releases", extension)
        return views

    def discover(self) -> list[Discovered]:
        """What lies on ``RAY_EXT_PATH``, or without that in the state home's ``extensions`` and among the installed
        distributions, valid or not and why. Executes nothing."""
        return discover_configured(os.environ, self._connection.home.extensions)

    def audit(self, extension: str | None = None, *, limit: int = 100) -> list[AuditEntry]:
        """Who did what, the newest first."""
        entries: list[AuditEntry] = self._client().call("audit", extension, limit)
        return entries

    def collect(self) -> int:
        """Remove packages, environments and downloads that nothing needs; returns the bytes freed."""
        freed: int = self._client().call("collect", operator(), new_operation())
        return freed

    def _perform(self, command: Command, on_progress: OnProgress | None) -> ExtensionView | None:
        registry, operation = self._client(), new_operation()
        with watched(registry, operation, on_progress):
            view: ExtensionView | None = registry.call("perform", command, operation)
        return view

    @staticmethod
    def _expect(view: ExtensionView | None) -> ExtensionView:
        if view is None:
            raise ExtensionNotFound("it was removed by somebody else meanwhile", details={"installed": []})
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
            try:
                if self._connection.is_owner and ray.is_initialized():
                    self._client().call("close", GRACE_S)
            finally:
                self._run_close()

    def _run_close(self) -> None:
        self._is_closed = True
        atexit.unregister(self.close)
        forget_callers(self.namespace)
        forget_routes(self.namespace)
        forget_registry(self.namespace)
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _twin(
    method: Callable[Concatenate[Runtime, P], R],
) -> Callable[Concatenate[AsyncRuntime, P], Coroutine[Any, Any, R]]:
    """The method as a coroutine function: it runs in a thread, and goes on there if the awaiting is cancelled."""

    async def awaitable(self: AsyncRuntime, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(method, self.runtime, *args, **kwargs)

    functools.update_wrapper(awaitable, method)
    return awaitable


class AsyncRuntime:
    """The awaitable twins of :class:`Runtime`'s methods, with the same contracts."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    @property
    def namespace(self) -> str:
        """See :attr:`Runtime.namespace`."""
        return self.runtime.namespace

    @property
    def home(self) -> Path:
        """See :attr:`Runtime.home`."""
        return self.runtime.home

    def extension(self, extension: str) -> Handle:
        """See :meth:`Runtime.extension`."""
        return self.runtime.extension(extension)

    install = _twin(Runtime.install)
    load = _twin(Runtime.load)
    unload = _twin(Runtime.unload)
    remove = _twin(Runtime.remove)
    upgrade = _twin(Runtime.upgrade)
    plan = _twin(Runtime.plan)
    register = _twin(Runtime.register)
    yank = _twin(Runtime.yank)
    forget = _twin(Runtime.forget)
    releases = _twin(Runtime.releases)
    discover = _twin(Runtime.discover)
    audit = _twin(Runtime.audit)
    collect = _twin(Runtime.collect)
    list = _twin(Runtime.list)
    show = _twin(Runtime.show)
    status = _twin(Runtime.status)
    close = _twin(Runtime.close)
