"""Installing, loading, looking and leaving."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray

import ray_ext
from ray_ext.client.leftovers import end_leftovers, processes_of
from ray_ext.client.runtime import Runtime, connect
from ray_ext.home import Home
from ray_ext.packages import pack_folder
from tests.cluster.conftest import MakeExtension

CONFIGURED = """
[configuration]
type = "object"
required = ["token"]
[configuration.properties]
token = { type = "string", writeOnly = true }
limit = { type = "integer", default = 3 }
"""


def test_configuration_gets_its_defaults_and_its_secrets_are_not_shown(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    view = runtime.install(make_extension("configured", manifest=CONFIGURED), config={"token": "s3cret"})
    assert view.configuration == {"token": "<secret>", "limit": 3}
    assert ray.get(runtime.extension("configured").config_is.remote()) == {"token": "s3cret", "limit": 3}
    runtime.unload("configured")


def test_a_wrong_configuration_is_refused_with_every_problem_and_nothing_is_recorded(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    folder = make_extension("misconfigured", manifest=CONFIGURED)
    with pytest.raises(ray_ext.ConfigurationInvalid) as caught:
        runtime.install(folder, config={"limit": "x", "tokn": "s3cret"})
    assert "token" in str(caught.value)
    assert "limit" in str(caught.value)
    assert "misconfigured" not in [view.id for view in runtime.list()]


def test_the_same_version_with_other_content_is_refused_naming_both(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    first = runtime.install(make_extension("conflicting"), load=False)
    with pytest.raises(ray_ext.ReleaseConflict) as caught:
        runtime.install(make_extension("conflicting", manifest='tags = ["other"]\n'), load=False)
    assert caught.value.details["known"] == first.sha256
    assert caught.value.details["offered"] != first.sha256


def test_another_version_replaces_the_loaded_one_and_only_installing_it_is_refused(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    runtime.install(make_extension("versioned"))
    newer = make_extension("versioned", version="2.0.0")
    with pytest.raises(ray_ext.InstallationConflict, match=r"1\.0\.0"):
        runtime.install(newer, load=False)
    view = runtime.install(newer)
    assert (view.version, view.generation, view.state) == ("2.0.0", 2, "loaded")
    runtime.unload("versioned")


def test_a_loaded_extension_keeps_its_configuration_until_it_is_unloaded(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    folder = make_extension("steady", manifest=CONFIGURED)
    runtime.install(folder, config={"token": "s3cret", "limit": 1})
    with pytest.raises(ray_ext.InstallationConflict, match="configuration"):
        runtime.install(folder, config={"token": "s3cret", "limit": 2})
    with pytest.raises(ray_ext.InstallationConflict, match="configuration"):
        runtime.upgrade("steady", config={"token": "s3cret", "limit": 2})
    assert runtime.upgrade("steady").generation == 1, "nothing better is known, which is no error"
    runtime.unload("steady")
    assert runtime.upgrade("steady", config={"token": "s3cret", "limit": 5}).configuration["limit"] == 5
    assert runtime.install(folder, config={"token": "s3cret", "limit": 2}).configuration["limit"] == 2
    runtime.unload("steady")


def test_installing_the_same_again_and_loading_what_is_loaded_changes_nothing(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    folder = make_extension("twice")
    first = runtime.install(folder)
    again = runtime.install(folder)
    assert (again.generation, again.sha256) == (first.generation, first.sha256)
    assert runtime.load("twice").generation == first.generation
    runtime.unload("twice")
    assert runtime.unload("twice").state == "unloaded"


def test_a_wheel_installs_like_its_folder(runtime: Runtime, make_extension: MakeExtension, tmp_path: Path) -> None:
    wheel = tmp_path / "wheeled-1.0.0-py3-none-any.whl"
    wheel.write_bytes(pack_folder(make_extension("wheeled")))
    runtime.install(wheel)
    assert ray.get(runtime.extension("wheeled").echo.remote(1)) == 1
    runtime.unload("wheeled")


def test_trusted_isolation_needs_the_operators_grant(runtime: Runtime, make_extension: MakeExtension) -> None:
    folder = make_extension("presumptuous", manifest='isolation = "trusted"\n')
    with pytest.raises(ray_ext.GrantRequired) as caught:
        runtime.install(folder)
    assert caught.value.where == str(folder)
    assert "presumptuous" not in [view.id for view in runtime.list()]


def test_parts_of_the_contract_that_have_not_landed_are_refused_by_name(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    folder = make_extension("early", manifest='[permissions]\nnetwork = ["api.github.com:443"]\n')
    with pytest.raises(ray_ext.NotLanded, match=r"permissions\.network"):
        runtime.install(folder)


def test_a_failed_load_says_which_step_failed_and_leaves_all_as_it_was(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    code = """
        from ray_ext import Extension, exported
        class Probe(Extension):
            async def on_load(self):
                raise OSError("no disk")
            @exported
            async def echo(self): ...
    """
    folder = make_extension("unloadable", code=code)
    with pytest.raises(ray_ext.LoadFailed, match="no disk") as caught:
        runtime.install(folder)
    assert caught.value.details["step"] == "on_load"
    assert "undone: install unloadable 1.0.0" in caught.value.where
    assert "unloadable" not in [view.id for view in runtime.list()]
    runtime.install(folder, load=False)
    with pytest.raises(ray_ext.LoadFailed, match="no disk"):
        runtime.load("unloadable")
    view = runtime.show("unloadable")
    assert (view.state, view.desired) == ("unloaded", "unloaded")
    with pytest.raises(ray_ext.ExtensionNotLoaded):
        ray.get(runtime.extension("unloadable").echo.remote())


def test_an_unknown_extension_is_refused_listing_what_is_installed(runtime: Runtime, strict: str) -> None:
    with pytest.raises(ray_ext.ExtensionNotFound) as caught:
        runtime.show("nobody")
    assert strict in caught.value.details["installed"]  # type: ignore[operator]


async def test_an_unloaded_extension_refuses_calls_and_on_unload_has_run(
    runtime: Runtime, make_extension: MakeExtension
) -> None:
    code = """
        from ray_ext import Extension, exported
        class Probe(Extension):
            @exported
            async def echo(self, value): return value
            async def on_unload(self):
                (self.data_dir / "unloaded").touch()
    """
    await runtime.aio.install(make_extension("leaving", code=code))
    handle = runtime.extension("leaving")
    assert await handle.echo(1) == 1
    await runtime.aio.unload("leaving")
    assert (runtime.home / "data" / "leaving" / "unloaded").exists()
    with pytest.raises(ray_ext.ExtensionNotLoaded):
        await handle.echo(2)


def test_more_than_the_cluster_has_is_refused_with_the_figures(runtime: Runtime, make_extension: MakeExtension) -> None:
    folder = make_extension("greedy", manifest="[resources]\ncpus = 999.0\n")
    with pytest.raises(ray_ext.InsufficientResources, match="999"):
        runtime.install(folder)


EMBEDDED = """
import asyncio, sys
import ray_ext
with ray_ext.connect(home=sys.argv[1]) as runtime:
    runtime.install(sys.argv[2])
    handle = runtime.extension("embedded")
    async def main():
        print(await handle.pid(), flush=True)
    asyncio.run(main())
    if len(sys.argv) > 3:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("ends", [[], ["by SIGKILL"]], ids=["in order", "by SIGKILL"])
def test_an_embedded_runtime_leaves_no_process_and_loads_again_what_was_loaded(
    make_extension: MakeExtension, tmp_path: Path, ends: list[str]
) -> None:
    folder = make_extension("embedded")
    home = Home(tmp_path / "home")
    arguments = [sys.executable, "-c", EMBEDDED, str(home.root), str(folder)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run([*arguments, *ends], env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout.strip().isdigit(), done.stderr
    guest = Path("/proc", done.stdout.strip())
    give_up = time.monotonic() + 30
    while guest.exists() and time.monotonic() < give_up:
        time.sleep(0.02)
    assert not guest.exists()
    if ends:
        # Ray's own agents may outlive a driver that was killed: the next start, or `down`, ends them.
        end_leftovers(home)
    assert processes_of(home) == []
    assert not home.ray_temp.exists()
    with connect(home=home.root) as again:
        view = again.show("embedded")
        assert ray.get(again.extension("embedded").echo.remote("loaded again")) == "loaded again"
        assert view.desired == "loaded"


def test_one_process_can_have_one_runtime_after_another(tmp_path: Path) -> None:
    program = (
        "import sys, ray_ext\n"
        "for home in sys.argv[1:]:\n"
        "    with ray_ext.connect(home=home, spares=0) as runtime:\n"
        "        print(runtime.status().home)\n"
    )
    homes = [str(tmp_path / name) for name in ("one", "other")]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", program, *homes], env=environment, capture_output=True, text=True, timeout=90, check=True
    )
    assert done.stdout.split() == homes
