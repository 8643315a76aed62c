"""Drives instances with real guests, without Ray."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ray_ext.actors.instance import Instance
from ray_ext.actors.spec import InstanceSpec
from ray_ext.routing.ledger import Entry
from ray_ext.sandbox.layer import guest_layer
from ray_ext.sandbox.nursery import Nursery
from ray_ext.wire import values
from ray_ext.wire.exchange import OK
from ray_ext.wire.messages import Metadata, decode_error

DEADLINE_S = 20.0

_numbers = itertools.count(1)
_HEADER = """
from __future__ import annotations
import asyncio, dataclasses, logging, os, stat, sys, threading, time
from pathlib import Path
from ray_ext import Extension, exported

def until(path):
    end = time.monotonic() + 20
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.005)

def channel():
    fd = next(iter(asyncio.get_running_loop()._transports))
    assert stat.S_ISSOCK(os.fstat(fd).st_mode)
    return fd
"""


async def eventually(is_so: Callable[[], object], what: str = "the condition") -> None:
    """Wait for a condition; fails at a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not is_so():
            await asyncio.sleep(0.005)
    assert is_so(), what


class Driven:
    """An instance and its calls."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.data = Path(instance.spec.data_dir)

    def send(
        self, method: str, *args: object, timeout_s: float | None = None, **kwargs: object
    ) -> tuple[Entry, asyncio.Future[Any]]:
        """Submit a call; its outcome ends the future, and a second outcome fails it loudly."""
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def deliver(status: int, encoding: int, body: bytes) -> None:
            if status == OK:
                outcome.set_result(values.decode_value(body, encoding))
            else:
                outcome.set_exception(decode_error(body).to_error())

        entry = self.instance.submit(method, timeout_s, values.MSGPACK, values.encode_value((args, kwargs)), deliver)
        return entry, outcome

    async def call(self, method: str, *args: object, timeout_s: float | None = None, **kwargs: object) -> Any:
        """The result of a call; raises its error."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.send(method, *args, timeout_s=timeout_s, **kwargs)[1]

    @property
    def pid(self) -> int:
        """The guest's process."""
        pid = self.instance.status().guest_pid
        assert pid is not None
        assert pid != os.getpid()
        return pid

    def log(self) -> list[dict[str, Any]]:
        """The records of the log file."""
        path = Path(self.instance.spec.log_file)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Driver:
    """Makes instances of extensions that a test writes down."""

    def __init__(self, root: Path, nursery: Nursery) -> None:
        self._root = root
        self._nursery = nursery
        self._started: list[Instance] = []

    def make(
        self,
        body: str,
        *,
        is_trusted: bool = False,
        entry_class: str = "Demo",
        entry_point: str | None = None,
        more_code: tuple[str, ...] = (),
        config: object = None,
        **settings: Any,
    ) -> Driven:
        """An instance that is not started yet; ``body`` is the extension's module after common imports."""
        name = f"driven_{next(_numbers)}"
        place = self._root / name
        code = place / "code"
        code.mkdir(parents=True)
        (code / f"{name}.py").write_text(_HEADER + textwrap.dedent(body))
        spec = InstanceSpec(
            metadata=Metadata("demo", "Demo", "1.0"),
            generation=1,
            entry_point=entry_point or f"{name}:{entry_class}",
            is_trusted=is_trusted,
            code_paths=(str(code), *more_code),
            config=values.encode_value(config or {}),
            data_dir=str(place / "data"),
            log_file=str(place / "logs/demo.jsonl"),
            layer=str(self._nursery.layer),
            zygote=str(self._nursery.address),
            **{"memory_bytes": 128 << 20, "env_vars": {}, **settings},
        )
        instance = Instance(spec)
        self._started.append(instance)
        return Driven(instance)

    async def start(self, body: str, **options: Any) -> Driven:
        """An instance that serves."""
        driven = self.make(body, **options)
        await driven.instance.start()
        return driven

    async def close(self) -> None:
        """End everything."""
        for instance in self._started:
            if not instance.exit.done():
                instance._end("stopped", "the test is over")
                await asyncio.wait({instance.exit}, timeout=DEADLINE_S)


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    folder = tmp_path_factory.mktemp("nursery")
    nursery = Nursery(folder, guest_layer(folder / "layers"), folder / "zygote.log")
    yield nursery
    nursery.close()
    assert (folder / "zygote.log").read_text() == ""


@pytest.fixture
def _clean_modules() -> Iterator[None]:
    modules, path, environment = set(sys.modules), list(sys.path), dict(os.environ)
    yield
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("driven_"):
            del sys.modules[name]


@pytest.fixture
async def driver(tmp_path: Path, nursery: Nursery, _clean_modules: None) -> AsyncIterator[Driver]:
    driver = Driver(tmp_path, nursery)
    yield driver
    await driver.close()


@pytest.fixture(params=["strict", "trusted"])
def is_trusted(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "trusted")
