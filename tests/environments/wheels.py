"""What the tests of environments install from: wheels made on the spot, and an index on the loopback interface."""

from __future__ import annotations

import io
import tarfile
import threading
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ray_ext.packages.wheel_writer import record_hash

Files = dict[str, bytes]


def write_wheel(
    folder: Path, name: str, version: str, files: Files, *, requires: Sequence[str] = (), record: bytes | None = None
) -> Path:
    """A pure wheel; with ``record`` its RECORD says that."""
    info = f"{name}-{version}.dist-info"
    headers = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {text}" for text in requires)]
    content = {
        **files,
        f"{info}/METADATA": "\n".join(["Metadata-Version: 2.1", *headers, ""]).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{path},{record_hash(data)},{len(data)}\n" for path, data in content.items()]
    content[f"{info}/RECORD"] = record if record is not None else "".join([*lines, f"{info}/RECORD,,\n"]).encode()
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in content.items():
            archive.writestr(zipfile.ZipInfo(member), data)
    return path


def write_sdist(folder: Path, name: str, version: str, setup: bytes) -> None:
    """A source distribution, whose build would run ``setup``."""
    headers = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    with tarfile.open(folder / f"{name}-{version}.tar.gz", "w:gz") as archive:
        for path, data in (("PKG-INFO", headers), ("setup.py", setup)):
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@contextmanager
def serve_index(
    folder: Path,
    *,
    credentials: str = "",
    before: Callable[[str], object] = lambda path: None,
    amid: Callable[[str], object] = lambda path: None,
) -> Iterator[str]:
    """The ``host:port`` of a package index (PEP 503) over a folder of wheels, below ``/simple``.

    ``credentials`` is the ``user:password`` that it asks for; ``before`` is called with each path before its answer,
    ``amid`` between the two halves of the answer.
    """
    expected = f"Basic {b64encode(credentials.encode()).decode()}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            before(self.path)
            if credentials and self.headers.get("Authorization") != expected:
                self._answer(401, b"")
                return
            place, _, name = self.path.strip("/").partition("/")
            if place == "simple":
                found = sorted(path.name for path in folder.glob("*.whl") if path.name.split("-")[0] == name)
                links = "".join(f'<a href="/files/{file}">{file}</a>' for file in found)
                self._answer(200 if found else 404, links.encode())
            else:
                self._answer(200, (folder / name).read_bytes())

        def do_HEAD(self) -> None:
            self._answer(405, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body[: len(body) // 2])
                amid(self.path)
                self.wfile.write(body[len(body) // 2 :])
            except ConnectionError:
                pass  # who asked has gone

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
