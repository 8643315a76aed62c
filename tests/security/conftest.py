from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ray_ext.sandbox.guest import Guest
from ray_ext.sandbox.layer import guest_layer
from ray_ext.sandbox.nursery import Nursery
from ray_ext.sandbox.spawn import START_TIMEOUT_S, GuestSpec, spawn_guest
from ray_ext.sandbox.syscalls import SYSCALLS

DEADLINE_S = 20.0
MEMORY_BYTES = 64 << 20

Layers = Callable[..., Path]
Spawn = Callable[..., Guest]


class Attacker:
    """A guest that runs what it is told."""

    def __init__(self, guest: Guest, names: dict[str, object]) -> None:
        self.guest = guest
        self._names = names
        guest.channel.settimeout(DEADLINE_S)

    def run(self, source: str) -> str:
        """``ok: <result>``, the errno's or exception's name, or ``exit <status>`` when the guest ended."""
        body = json.dumps({"source": source, "names": self._names}).encode()
        self.guest.channel.sendall(struct.pack("=I", len(body)) + body)
        try:
            (size,) = struct.unpack("=I", self._exactly(4))
            kind, text = json.loads(self._exactly(size))
        except (EOFError, ConnectionError):
            return f"exit {self.guest.wait(DEADLINE_S)}"
        return f"ok: {text}" if kind == "ok" else str(text)

    def _exactly(self, size: int) -> bytes:
        parts = b""
        while len(parts) < size:
            part = self.guest.channel.recv(size - len(parts))
            if not part:
                raise EOFError
            parts += part
        return parts


@pytest.fixture(scope="session")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Layers:
    """Makes test layers: a real one whose main loop runs attacks, with further changes to named files."""
    root = tmp_path_factory.mktemp("layers")
    real = guest_layer(root / "real")
    attack_guest = Path(__file__).with_name("attack_guest.py").read_text()

    def make(name: str, **appended: str) -> Path:
        layer = root / name
        if layer.exists():
            return layer
        shutil.copytree(real, layer)
        _replace(layer / "ray_ext/sdk/guest.py", attack_guest)
        _replace(layer / "ray_ext/sdk/rehearsal.py", "def rehearse() -> None: ...")
        for module, text in appended.items():
            path = layer / "ray_ext/sandbox" / f"{module}.py"
            _replace(path, path.read_text() + "\n" + text)
        return layer

    return make


def _replace(path: Path, text: str) -> None:
    path.chmod(0o644)
    path.write_text(text)
    for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        stale.unlink()


@pytest.fixture
def spec(layers: Layers, tmp_path: Path) -> GuestSpec:
    code = tmp_path / "code"
    code.mkdir()
    (code / "extension_code.py").write_text("VALUE = 1\n")
    return GuestSpec(
        extension="attacker",
        layer=layers("attack"),
        code_paths=(code,),
        data_dir=tmp_path / "data",
        memory_bytes=MEMORY_BYTES,
    )


@pytest.fixture(scope="session")
def nursery_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Nursery]]:
    """The nursery of a layer."""
    folder = tmp_path_factory.mktemp("nurseries")
    nurseries: dict[Path, Nursery] = {}

    def nursery_of(layer: Path) -> Nursery:
        if layer not in nurseries:
            own = folder / layer.name
            own.mkdir()
            nurseries[layer] = Nursery(own, layer, own / "zygote.log")
        return nurseries[layer]

    yield nursery_of
    for nursery in nurseries.values():
        nursery.close()


@pytest.fixture(params=["exec", "zygote"])
def spawn(request: pytest.FixtureRequest, nursery_of: Callable[[Path], Nursery]) -> Spawn:
    """Starts a guest, in both ways."""

    def spawn(spec: GuestSpec, *, timeout_s: float = START_TIMEOUT_S) -> Guest:
        if request.param == "exec":
            return spawn_guest(spec, timeout_s=timeout_s)
        guest = spawn_guest(spec, zygote=nursery_of(spec.layer).address, timeout_s=timeout_s)
        assert guest.report.is_forked
        return guest

    return spawn


@pytest.fixture
def attacker(spawn: Spawn, spec: GuestSpec, victims: dict[str, object]) -> Iterator[Attacker]:
    guest = spawn(spec)
    names = {
        **victims,
        "NR": dict(SYSCALLS[os.uname().machine]),
        "DATA": os.fspath(spec.data_dir),
        "CODE": os.fspath(spec.code_paths[0] / "extension_code.py"),
        "LAYER": os.fspath(spec.layer),
    }
    yield Attacker(guest, names)
    guest.close()


@pytest.fixture(scope="session")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """What a guest must not reach: a file, sockets, shared memory, and a process."""
    folder = tmp_path_factory.mktemp("victims")
    secret = folder / "secret.txt"
    secret.write_text("SECRET")
    secret.chmod(0o666)
    shared = Path(f"/dev/shm/ray_ext-victim-{os.getpid()}")
    shared.write_text("SECRET")
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.bind(os.fspath(folder / "stream.sock"))
    stream.listen()
    tcp = socket.create_server(("127.0.0.1", 0))
    process = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        yield {
            "SECRET": os.fspath(secret),
            "SHARED": os.fspath(shared),
            "SOCKET": os.fspath(folder / "stream.sock"),
            "PORT": tcp.getsockname()[1],
            "HOST": os.getpid(),
            "VICTIM": process.pid,
        }
        assert process.poll() is None, "an attack ended the victim"
        assert secret.read_text() == "SECRET"
        assert secret.stat().st_mode & 0o777 == 0o666
    finally:
        process.communicate()
        shared.unlink()
        stream.close()
        tcp.close()
