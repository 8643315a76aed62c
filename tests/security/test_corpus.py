# ruff: noqa: E501 - one use a line: it reads as a table

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ray_ext.sandbox.spawn import GuestSpec, spawn_guest

from .conftest import Attacker
from .corpus import ATTACKS, CLOSED_CALLS, LEAKS, Attack


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.applies], ids=str)
def test_the_attack_is_stopped(attacker: Attacker, attack: Attack) -> None:
    outcome = attacker.run(attack.source)
    assert outcome == attack.stopped or outcome in attack.stopped.split()


@pytest.mark.parametrize("attack", LEAKS, ids=str)
def test_what_this_level_is_known_not_to_stop_still_succeeds(attacker: Attacker, attack: Attack) -> None:
    assert attacker.run(attack.source).startswith("ok")


def test_closed_calls_are_denied_whatever_their_arguments(attacker: Attacker) -> None:
    outcomes = {name: attacker.run(f"call(NR[{name!r}], 0, 0, 0, 0, 0, 0)") for name in CLOSED_CALLS.split()}
    assert {name: outcome for name, outcome in outcomes.items() if outcome != "EPERM"} == {}


USES = {
    "read and write its data": "open(DATA + '/x', 'w').write('1'); result = open(DATA + '/x').read()",
    "make, move and remove directories": "import os, shutil\nos.makedirs(DATA + '/a/b'); os.rename(DATA + '/a/b', DATA + '/b'); shutil.rmtree(DATA + '/a')",
    "use temporary files": "import tempfile\nwith tempfile.NamedTemporaryFile('w') as f: assert f.name.startswith(DATA + '/tmp/')",
    "import from its code path": "import sys; sys.path.append(CODE.rpartition('/')[0]); import extension_code",
    "import the standard library": "import sqlite3, decimal, zoneinfo, hashlib, urllib.request, xml.etree.ElementTree, email",
    "use SQLite in its data directory": "import sqlite3\nc = sqlite3.connect(DATA + '/db'); c.execute('create table t (x)'); c.commit()",
    "run asyncio with threads": "import asyncio\nresult = asyncio.run(asyncio.to_thread(sum, [1, 2]))",
    "run 16 threads at once": "from concurrent.futures import ThreadPoolExecutor\nimport threading\nb = threading.Barrier(16)\nwith ThreadPoolExecutor(16) as p: list(p.map(lambda _: b.wait(10), range(16)))",
    "use its memory": "x = bytearray(48 << 20); del x",
    "read random numbers": "import os, secrets; os.urandom(8); secrets.token_hex(); open('/dev/urandom', 'rb').read(1)",
    "use /dev/null": "open('/dev/null', 'w').write('x')",
    "know its user and home": "import getpass, os; assert getpass.getuser() == 'guest'; assert os.path.expanduser('~') == DATA",
    "know times and zones": "import time, zoneinfo; time.localtime(); time.sleep(0)",
    "signal itself": "import os, signal\nsignal.signal(signal.SIGUSR1, lambda *_: None); os.kill(os.getpid(), signal.SIGUSR1); signal.raise_signal(signal.SIGUSR1)",
    "use the pulse page": "pulse[0:8] = b'12345678'",
    "get ssl when it asks for it": "import ssl, asyncio.sslproto, asyncio.base_events\nassert asyncio.base_events.ssl is ssl and asyncio.sslproto.ssl is ssl; assert asyncio.sslproto.SSLAgainErrors; ssl.create_default_context()",
}  # fmt: skip


@pytest.mark.parametrize("use", USES)
def test_an_honest_extension_can(attacker: Attacker, use: str) -> None:
    assert attacker.run(USES[use]).startswith("ok")


def test_tls_works_in_asyncio_when_ssl_came_after_it(attacker: Attacker) -> None:
    outcome = attacker.run(
        "import asyncio, socket, ssl\n"
        "async def main():\n"
        "    a, b = socket.socketpair()\n"
        "    b.close()\n"
        "    await asyncio.open_connection(sock=a, ssl=ssl.create_default_context(), server_hostname='x')\n"
        "asyncio.run(main())"
    )
    assert outcome in ("ECONNRESET", "ConnectionResetError", "EPIPE", "BrokenPipeError", "SSLEOFError"), outcome


def test_memory_beyond_the_grant_fails_in_the_guest_only(attacker: Attacker) -> None:
    assert attacker.run("bytearray(256 << 20)") == "MemoryError"
    assert attacker.run("result = 'alive'") == "ok: 'alive'"
    assert len(bytearray(256 << 20)) == 256 << 20


def test_the_data_directory_is_private(attacker: Attacker, tmp_path: Path) -> None:
    assert attacker.run("open(DATA + '/x', 'w').close()").startswith("ok")
    for path in (tmp_path / "data", tmp_path / "data/tmp", tmp_path / "data/x"):
        assert os.stat(path).st_mode & 0o077 == 0


def test_an_executed_guest_has_imported_nothing_heavy(spec: GuestSpec) -> None:
    heavy = ["ssl", "importlib.abc", "logging.config", "tempfile", "urllib.request", "multiprocessing", "email"]
    guest = spawn_guest(spec)
    outcome = Attacker(guest, {}).run(f"import sys; result = [name for name in {heavy} if name in sys.modules]")
    guest.close()
    assert outcome == "ok: []"
