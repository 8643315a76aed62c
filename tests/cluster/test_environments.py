"""Python packages of extensions, end to end: from the manifest to what the extension's code imports."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

import ray_ext
from ray_ext.actors.node_link import NodeLink
from ray_ext.client.runtime import Runtime
from ray_ext.control.commands import PythonSources
from ray_ext.control.views import ExtensionView
from ray_ext.home import Home
from ray_ext.packages.environments import EnvironmentCache
from tests.cluster.conftest import MakeExtension
from tests.environments.wheels import serve_index, write_sdist, write_wheel

PASSWORD = "p@ss/word:100%"
CODE = """
import {module}
from ray_ext import Extension, exported

class Probe(Extension):
    @exported
    async def value(self, expression: str):
        return eval(expression)
"""

#: Installs an extension: its id, its requirement, then options of ``Runtime.install``.
Install = Callable[..., ExtensionView]


@pytest.fixture(scope="module")
def links(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("links")
    for version in ("1.0", "2.0"):
        write_wheel(folder, "alpha", version, {"alpha/__init__.py": f'VERSION = "{version}"\n'.encode()})
    write_wheel(folder, "beta", "1.0", {"beta.py": b"from alpha import VERSION\n"}, requires=["alpha>=1"])
    write_sdist(folder, "delta", "1.0", b"raise SystemExit(1)")
    return folder


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an index that has nothing."""
    with serve_index(tmp_path_factory.mktemp("nothing")) as host:
        yield f"http://{host}/simple"


@pytest.fixture
def project(make_extension: MakeExtension) -> Callable[..., Path]:
    """Writes a folder whose code imports what it requires."""

    def write(extension: str, requirement: str, *, module: str = "alpha", isolation: str = "strict") -> Path:
        manifest = f'isolation = "{isolation}"\n[runtime_env]\npip = ["{requirement}"]\n'
        return make_extension(extension, code=CODE.format(module=module), manifest=manifest)

    return write


@pytest.fixture
def install(runtime: Runtime, project: Callable[..., Path], links: Path, index: str) -> Iterator[Install]:
    with ExitStack() as cleanup:

        def run(extension: str, requirement: str, *, module: str = "alpha", **options: Any) -> ExtensionView:
            options = {"find_links": [links], "index_url": index, **options}
            view = runtime.install(project(extension, requirement, module=module), **options)
            cleanup.callback(runtime.remove, extension, cascade=True, purge=True)
            return view

        yield run


def environments(runtime: Runtime) -> dict[tuple[str, ...], Path]:
    """The folders that are there, by their packages."""
    found = EnvironmentCache(runtime.home / "environments").list()
    assert len({each.packages for each in found}) == len(found)
    return {each.packages: each.path for each in found}


# ---- what an extension sees


async def test_two_extensions_with_different_versions_of_a_package_run_at_the_same_time(
    runtime: Runtime, install: Install
) -> None:
    old, new = install("needs-old", "alpha<2"), install("needs-new", "alpha>=2")
    handles: list[Any] = [runtime.extension(view.id) for view in (old, new)]
    asked = "(alpha.VERSION, __import__('importlib.metadata').metadata.version('alpha'), __import__('os').getpid())"
    (*seen_by_old, one), (*seen_by_new, other) = await asyncio.gather(*(handle.value(asked) for handle in handles))
    assert (seen_by_old, seen_by_new) == (["1.0", "1.0"], ["2.0", "2.0"])
    assert one != other
    assert (old.python_packages, new.python_packages) == (["alpha==1.0"], ["alpha==2.0"])


async def test_what_a_package_requires_is_there_and_shown(runtime: Runtime, install: Install) -> None:
    install("needs-beta", "beta", module="beta")
    assert await runtime.extension("needs-beta").value("beta.VERSION") == "2.0"
    assert runtime.show("needs-beta").python_packages == ["alpha==2.0", "beta==1.0"]


async def test_a_compiled_module_of_an_environment_can_be_imported(
    runtime: Runtime, install: Install, links: Path
) -> None:
    spec = importlib.util.find_spec("msgpack")  # one of Ray's own
    assert spec is not None
    assert spec.origin is not None
    files = {f"msgpack/{path.name}": path.read_bytes() for path in Path(spec.origin).parent.glob("*.*")}
    write_wheel(links, "msgpack", "1.0", files)
    install("needs-compiled", "msgpack", module="msgpack._cmsgpack")
    handle: Any = runtime.extension("needs-compiled")
    assert await handle.value("msgpack.unpackb(msgpack.packb([1, 'two']))") == [1, "two"]
    file = Path(await handle.value("msgpack._cmsgpack.__file__"))
    assert file.suffix == ".so"
    assert file.is_relative_to(environments(runtime)["msgpack==1.0",])


@pytest.mark.parametrize(
    "attempt",
    [
        "open(alpha.__file__, 'a')",
        "open(alpha.__file__.replace('__init__', 'more'), 'w')",
        "__import__('os').unlink(alpha.__file__)",
        "__import__('os').chmod(alpha.__file__, 0o666)",
    ],
)
async def test_a_guest_cannot_change_its_environment(runtime: Runtime, install: Install, attempt: str) -> None:
    install("needs-alpha", "alpha==2.0")
    with pytest.raises(ray_ext.ExtensionError, match=r"PermissionError|EACCES|EPERM|Permission|permitted"):
        await runtime.extension("needs-alpha").value(attempt)
    folder = environments(runtime)["alpha==2.0",]
    assert sorted(path.name for path in (folder / "alpha").iterdir()) == ["__init__.py", "__pycache__"]
    assert (folder / "alpha" / "__init__.py").read_text() == 'VERSION = "2.0"\n'


async def test_a_trusted_extension_has_its_versions_but_for_what_its_host_has_imported(
    runtime: Runtime, project: Callable[..., Path], links: Path, index: str
) -> None:
    write_wheel(links, "pluggy", "99", {"pluggy.py": b'VERSION = "99"\n'})
    for name in ("ray", "protobuf"):
        module = "ray" if name == "ray" else "google/protobuf"
        write_wheel(links, name, "99", {f"{module}/__init__.py": b'raise RuntimeError("not the host\'s own")\n'})
    write_wheel(links, "epsilon", "1.0", {"epsilon.py": b"import pluggy\n"}, requires=["pluggy", "ray", "protobuf"])
    folder = project("needs-much", "epsilon", module="epsilon", isolation="trusted")
    runtime.install(folder, grant="requested", find_links=[links], index_url=index)
    handle: Any = runtime.extension("needs-much")
    assert await handle.value("epsilon.pluggy.VERSION") == "99"
    assert await handle.value("__import__('ray').__version__") == ray.__version__
    # Submodules that the host has not needed yet, too.
    assert await handle.value("__import__('ray.util.queue').util.queue.Queue.__name__") == "Queue"
    assert await handle.value("__import__('google.protobuf').protobuf.__version__") != "99"
    assert runtime.show("needs-much").instance is not None
    runtime.remove("needs-much", purge=True)


# ---- one environment for each lock


def test_extensions_with_the_same_packages_share_an_environment_until_the_last_is_removed(
    runtime: Runtime, project: Callable[..., Path], links: Path, index: str
) -> None:
    for name, requirement in (("shares-one", "alpha<2"), ("shares-other", "Alpha == 1.0")):
        runtime.install(project(name, requirement), find_links=[links], index_url=index)
    shared = environments(runtime)["alpha==1.0",]
    runtime.remove("shares-one")
    assert environments(runtime)["alpha==1.0",] == shared
    runtime.remove("shares-other")
    assert ("alpha==1.0",) not in environments(runtime)
    assert not shared.exists()


async def test_a_damaged_environment_is_rebuilt_at_the_next_load(runtime: Runtime, install: Install) -> None:
    install("needs-alpha", "alpha==2.0")
    module = environments(runtime)["alpha==2.0",] / "alpha" / "__init__.py"
    runtime.unload("needs-alpha")
    module.chmod(0o644)
    module.write_text('VERSION = "evil"\n')
    runtime.load("needs-alpha")
    assert await runtime.extension("needs-alpha").value("alpha.VERSION") == "2.0"
    assert module.read_text() == 'VERSION = "2.0"\n'


async def test_an_environment_that_is_there_needs_no_index(runtime: Runtime, install: Install, links: Path) -> None:
    asked: list[str] = []
    with serve_index(links, before=asked.append) as host:
        install("needs-index", "beta", module="beta", find_links=(), index_url=f"http://{host}/simple")
    assert {path.split("/")[1] for path in asked} == {"simple", "files"}
    runtime.unload("needs-index")
    runtime.load("needs-index")
    assert await runtime.extension("needs-index").value("beta.VERSION") == "2.0"


# ---- failures


@pytest.mark.parametrize(
    ("requirement", "said"),
    [("alpha>2", "only alpha<=2.0 is available"), ("nothing-like-it", "not found"), ("delta", "no usable wheels")],
)
def test_requirements_that_cannot_be_met_are_refused_and_nothing_is_installed(
    runtime: Runtime, install: Install, requirement: str, said: str
) -> None:
    before = environments(runtime), runtime.releases()
    with pytest.raises(ray_ext.EnvironmentFailed, match=said) as caught:
        install("needs-too-much", requirement)
    assert caught.value.fix
    assert caught.value.details["requirements"]
    assert (environments(runtime), runtime.releases()) == before
    assert "needs-too-much" not in [view.id for view in runtime.list()]


@pytest.fixture
def unreachable() -> Iterator[str]:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{closed.getsockname()[1]}/simple"


def test_with_no_index_within_reach_an_install_fails_in_seconds_with_the_cause_and_the_fix(
    install: Install, unreachable: str
) -> None:
    begun = time.monotonic()
    with pytest.raises(ray_ext.EnvironmentFailed, match="Connection refused") as caught:
        install("needs-index", "alpha", find_links=(), index_url=unreachable)
    assert time.monotonic() - begun < 10
    assert "--find-links" in caught.value.fix


async def test_a_folder_of_wheels_is_enough_where_no_index_is_within_reach(
    runtime: Runtime, install: Install, unreachable: str
) -> None:
    runtime.collect()  # what was downloaded before would do, too
    told: list[str] = []
    install("needs-no-index", "beta", module="beta", index_url=unreachable, on_progress=told.append)
    assert await runtime.extension("needs-no-index").value("beta.VERSION") == "2.0"
    assert any("no index is within reach" in line for line in told)


async def test_a_node_agent_that_is_killed_in_the_middle_of_a_build_is_asked_again(
    runtime: Runtime, install: Install, links: Path
) -> None:
    write_wheel(links, "omega", "1.0", {"omega.py": b"VERSION = 1\n"})
    [agent] = runtime.status().nodes
    deaths: list[int] = []

    def kill(path: str) -> None:
        if path.startswith("/files/omega") and not deaths:
            deaths.append(agent.pid)
            os.kill(agent.pid, signal.SIGKILL)

    with serve_index(links, amid=kill) as host:
        install("needs-omega", "omega", module="omega", find_links=(), index_url=f"http://{host}/simple")
    assert deaths
    assert await runtime.extension("needs-omega").value("omega.VERSION") == 1
    assert runtime.status().nodes[0].pid != agent.pid


async def test_the_patience_with_a_dead_node_agent_begins_with_its_death(
    runtime: Runtime, links: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(links, "sigma", "1.0", {"sigma.py": b""})
    link = NodeLink(Home(runtime.home), runtime.namespace)
    await link.open()
    [agent] = runtime.status().nodes
    hour_s, ahead_s = 3600.0, 0.0

    def kill(path: str) -> None:
        nonlocal ahead_s
        if path.startswith("/files/sigma") and not ahead_s:
            ahead_s = hour_s
            os.kill(agent.pid, signal.SIGKILL)

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead_s)
    monkeypatch.setattr("ray_ext.actors.node_link.time", clock)
    with serve_index(links, amid=kill) as host:
        sources = PythonSources(index_url=f"http://{host}/simple")
        environment = await link.provide(["sigma"], None, sources, lambda _: None)
    assert ahead_s == hour_s
    assert environment.lock.packages == ("sigma==1.0",)
    assert (Path(environment.path) / "sigma.py").exists()
    runtime.collect()


# ---- what is told, and what is not


def test_an_install_tells_its_steps_and_what_its_build_is_doing(
    runtime: Runtime, install: Install, links: Path
) -> None:
    write_wheel(links, "psi", "1.0", {"psi.py": b""})
    told: list[str] = []
    install("needs-psi", "psi", module="psi", on_progress=told.append)
    stages = list(dict.fromkeys(line.partition(":")[0] for line in told if not line.startswith("[")))
    assert stages == ["resolve", "download", "install", "compile", "verify", "done"]
    assert [line.split()[1] for line in told if line.startswith("[")] == ["environment", "install", "load"]
    assert "install: + psi==1.0" in "\n".join(told)


# The whole life of an operator's process, whose environment alone has the password.
OPERATOR = """
import base64, os, sys
from pathlib import Path
from urllib.parse import quote
from ray_ext.home import Home
from ray_ext.client.runtime import connect

home, folder, url, unreachable = sys.argv[1:]
password = os.environ["INDEX_PASSWORD"]
told = []
with connect(home=home) as runtime:
    runtime.install(folder, index_url=url, on_progress=told.append)
    assert runtime.show("needs-secret").state == "loaded"
    try:
        runtime.upgrade("needs-secret", folder + "-next", index_url=unreachable)
    except Exception as error:
        told += [str(error), repr(error.details)]
    told += [repr(runtime.show("needs-secret")), repr(runtime.audit()), repr(runtime.status())]
    places = [Path(home), Home(Path(home)).ray_temp]
    files = {str(path): path.read_bytes() for place in places for path in place.rglob("*") if path.is_file()}
files["told"] = "\\n".join(told).encode()
secrets = [password, quote(password, safe=""), base64.b64encode(f"user:{password}".encode()).decode()]
print(len(files), *(path for path, data in files.items() if any(secret.encode() in data for secret in secrets)))
print(files["told"].decode())
"""


def test_an_indexs_credentials_from_the_environment_are_kept_and_shown_nowhere(
    project: Callable[..., Path], links: Path, unreachable: str
) -> None:
    folder = project("needs-secret", "beta", module="beta")
    successor = project("needs-secret", "alpha")
    for name in ("pyproject.toml", "extension.toml"):
        (successor / name).write_text((successor / name).read_text().replace('"1.0.0"', '"1.1.0"'))
    successor.rename(f"{folder}-next")
    with tempfile.TemporaryDirectory(prefix="rx-") as home, serve_index(links, credentials=f"user:{PASSWORD}") as host:
        urls = [
            f"http://user:${{INDEX_PASSWORD}}@{host}/simple",
            unreachable.replace("/simple", "/${INDEX_PASSWORD}/simple"),
        ]
        done = subprocess.run(
            [sys.executable, "-c", OPERATOR, home, str(folder), *urls],
            env={**os.environ, "INDEX_PASSWORD": PASSWORD},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    (looked_at, *leaks), told = done.stdout.splitlines()[0].split(), done.stdout
    assert int(looked_at) > 50
    assert leaks == []
    assert "install: + beta==1.0" in told
    assert "/****/simple/alpha" in told
    assert "upgrade" in told


def test_a_variable_that_the_runtime_does_not_have_is_named(install: Install) -> None:
    with pytest.raises(ray_ext.EnvironmentFailed, match="NO_SUCH_VARIABLE") as caught:
        install("needs-index", "alpha", find_links=(), index_url="https://user:${NO_SUCH_VARIABLE}@example.org/simple")
    assert caught.value.fix == "set NO_SUCH_VARIABLE there"
