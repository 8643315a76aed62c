from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ray_ext.errors import IsolationUnavailable, LoadFailed
from ray_ext.sandbox.machine import guarantees
from ray_ext.sandbox.spawn import GuestSpec, spawn_guest

from .conftest import DEADLINE_S, Attacker, Layers, Spawn

REPOSITORY = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only a privileged host has capabilities to drop")


def without(*names: str) -> str:
    return f"STEPS = tuple(step for step in STEPS if step[0] not in {names!r})"


def sabotaged(spec: GuestSpec, layers: Layers, name: str, **appended: str) -> GuestSpec:
    return dataclasses.replace(spec, layer=layers(name, **appended))


def assert_no_guest_is_left(spec: GuestSpec) -> None:
    """Nothing but zygotes, which are our own children; a stub ends just after its guest."""
    deadline = time.monotonic() + DEADLINE_S
    while left := list(_guests_and_stubs(os.fsencode(spec.layer.parent))):
        assert time.monotonic() < deadline, f"left: {left}"
        time.sleep(0.01)


def _guests_and_stubs(layers: bytes) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            command = (process / "cmdline").read_bytes()
            is_our_child = f"\nPPid:\t{os.getpid()}\n" in (process / "status").read_text()
            if layers in command and not (b"zygote.py" in command and is_our_child):
                yield int(process.name)


def test_the_guest_reports_its_level_and_what_the_host_verified(attacker: Attacker) -> None:
    guest = attacker.guest
    assert guest.level == guest.report.level == guarantees().level == "L1"
    assert guest.report.verified["Seccomp"] == "2"
    assert guest.report.verified["NoNewPrivs"] == "1"
    assert guest.report.steps[-2:] == ("seccomp", "proof")


def test_nothing_of_the_hosts_environment_reaches_the_guest(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch, spec: GuestSpec
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    monkeypatch.setenv("PYTHONSTARTUP", "/planted.py")
    monkeypatch.setenv("TZ", "UTC")
    guest = spawn(dataclasses.replace(spec, env={"RAY_EXT_LABEL": "x"}))
    try:
        assert Attacker(guest, {}).run("import os, json; result = sorted(os.environ)") == (
            "ok: ['HOME', 'LANG', 'MALLOC_ARENA_MAX', 'PATH', 'RAY_EXT_LABEL', 'TMPDIR', 'TZ', 'USER']"
        )
    finally:
        guest.close()


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PYTHONPATH", "GLIBC_TUNABLES"])
def test_variables_that_steer_the_interpreter_are_refused(spawn: Spawn, spec: GuestSpec, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        spawn(dataclasses.replace(spec, env={name: "x"}))


_LIST_DESCRIPTORS = """
import os, stat
kinds = {stat.S_IFCHR: "character device", stat.S_IFIFO: "pipe", stat.S_IFREG: "regular file", stat.S_IFSOCK: "socket"}
result = []
for descriptor in range(256):
    try:
        result.append(kinds[stat.S_IFMT(os.fstat(descriptor).st_mode)])
    except OSError:
        pass
result.sort()
"""


def test_the_guest_holds_its_streams_the_channel_and_the_pulse_and_no_other_descriptor(
    spawn: Spawn, spec: GuestSpec
) -> None:
    planted = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(planted, True)
    guest = spawn(spec)
    try:
        # Asked from inside: who is not root cannot look into an undumpable process.
        assert Attacker(guest, {}).run(_LIST_DESCRIPTORS) == (
            "ok: ['character device', 'pipe', 'pipe', 'regular file', 'socket']"
        )
    finally:
        guest.close()
        os.close(planted)


def test_the_guest_has_its_layer_and_the_standard_library_on_its_path(attacker: Attacker, spec: GuestSpec) -> None:
    result = attacker.run("import sys; result = ' '.join(sys.path)").removeprefix("ok: ").strip("'").split()
    assert result[0] == os.fspath(spec.layer)
    assert not any("site-packages" in path or "dist-packages" in path for path in result)
    assert attacker.run("import ray") == "ModuleNotFoundError"


def test_the_pulse_page_is_shared_and_cannot_be_resized(attacker: Attacker) -> None:
    attacker.run("pulse[0:4] = b'beat'")
    assert attacker.guest.pulse[0:4] == b"beat"
    assert attacker.run(
        "import os\nfor fd in range(3, 16):\n try: os.ftruncate(fd, 0); result = 'shrunk'\n except OSError: pass"
    ) == ("ok: None")


def test_what_the_guest_prints_arrives(attacker: Attacker) -> None:
    attacker.run("import sys; print('out', flush=True); print('err', file=sys.stderr, flush=True)")
    assert (os.read(attacker.guest.stdout, 100), os.read(attacker.guest.stderr, 100)) == (b"out\n", b"err\n")


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        pytest.param(("capabilities",), "CapEff", marks=needs_root),
        pytest.param(("capabilities", "no_new_privs"), "NoNewPrivs", marks=needs_root),
        (("seccomp", "proof"), "Seccomp"),
        (("no_new_privs",), "landlock"),
        (("landlock",), "proof"),
        (("seccomp",), "proof"),
    ],
)
def test_a_guest_that_left_out_a_step_is_refused(
    spawn: Spawn, spec: GuestSpec, layers: Layers, missing: tuple[str, ...], named: str
) -> None:
    broken = sabotaged(spec, layers, "without-" + "-".join(missing), lockdown=without(*missing))
    with pytest.raises(IsolationUnavailable) as refused:
        spawn(broken)
    problems = refused.value.details["missing"]
    assert isinstance(problems, list)
    assert any(problem.startswith(named) for problem in problems)
    assert_no_guest_is_left(spec)


@needs_root
def test_a_guest_that_kept_its_bounding_set_is_refused(spawn: Spawn, spec: GuestSpec, layers: Layers) -> None:
    kept = sabotaged(spec, layers, "bounding", kernel="def drop_bounding_set() -> None: ...")
    with pytest.raises(IsolationUnavailable, match="CapBnd"):
        spawn(kept)


def test_a_thread_that_an_import_started_stops_the_lock_down(spec: GuestSpec, layers: Layers) -> None:
    start = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    with pytest.raises(IsolationUnavailable, match="2 threads"):
        spawn_guest(sabotaged(spec, layers, "thread", late_ssl=start))


def test_without_landlock_a_foreign_file_can_be_read(
    spawn: Spawn, spec: GuestSpec, layers: Layers, victims: dict[str, object]
) -> None:
    """The corpus tells confined from unconfined: this is its control."""
    guest = spawn(sabotaged(spec, layers, "control", lockdown=without("landlock", "proof")))
    try:
        assert Attacker(guest, victims).run("result = open(SECRET).read()") == "ok: 'SECRET'"
    finally:
        guest.close()


def test_a_guest_that_fails_to_import_says_why(spec: GuestSpec, layers: Layers) -> None:
    with pytest.raises(LoadFailed, match=r"step import: ImportError: broken on purpose") as failed:
        spawn_guest(sabotaged(spec, layers, "import", late_ssl="raise ImportError('broken on purpose')"))
    assert failed.value.details["step"] == "spawn"
    assert_no_guest_is_left(spec)


def test_a_guest_that_ends_silently_is_reported_with_its_status_and_last_words(
    spawn: Spawn, spec: GuestSpec, layers: Layers
) -> None:
    dies = "import sys; STEPS = (('die', lambda _: (sys.stderr.write('last words'), sys.stderr.flush(), os._exit(7))),)"
    with pytest.raises(LoadFailed, match="exit status 7") as failed:
        spawn(sabotaged(spec, layers, "dies", lockdown=dies))
    assert failed.value.details["traceback"] == "last words"


def test_a_guest_that_does_not_answer_in_time_is_killed(spawn: Spawn, spec: GuestSpec, layers: Layers) -> None:
    hangs = "STEPS = (('hang', lambda _: threading.Event().wait()),)"
    with pytest.raises(LoadFailed, match="in time"):
        spawn(sabotaged(spec, layers, "hangs", lockdown=hangs), timeout_s=0.5)
    assert_no_guest_is_left(spec)


def test_no_descriptor_stays_behind(spawn: Spawn, spec: GuestSpec, layers: Layers) -> None:
    broken = sabotaged(spec, layers, "without-seccomp-proof", lockdown=without("seccomp", "proof"))
    spawn(spec).close()
    before = sorted(os.listdir("/proc/self/fd"))
    spawn(spec).close()
    with pytest.raises(IsolationUnavailable):
        spawn(broken)
    assert sorted(os.listdir("/proc/self/fd")) == before


_ON_AN_OLD_KERNEL = """
import errno, json, os, sys
from pathlib import Path
from ray_ext.errors import IsolationUnavailable
from ray_ext.sandbox import bpf, kernel, seccomp
from ray_ext.sandbox.spawn import GuestSpec, spawn_guest
from ray_ext.sandbox.syscalls import SYSCALLS
missing = SYSCALLS[os.uname().machine][sys.argv[1]]
allow, unknown = [bpf.give(seccomp.ALLOW)], [bpf.give(seccomp.UNKNOWN)]
blocks = [(0, allow), (missing, unknown), (missing + 1, allow)]
kernel.forbid_new_privileges()
kernel.install_filter(bpf.assemble([bpf.load(bpf.SYSCALL), *bpf.dispatch(blocks)]))
try:
    spawn_guest(GuestSpec(extension="x", layer=Path("/"), code_paths=(), data_dir=Path("/nowhere"), memory_bytes=1))
except IsolationUnavailable as error:
    print(json.dumps(error.details))
"""


@pytest.mark.parametrize(
    ("call", "named"), [("landlock_create_ruleset", "Landlock ABI 3"), ("seccomp", "seccomp filters")]
)
def test_a_machine_without_it_is_level_0_and_refused_by_name(call: str, named: str) -> None:
    output = subprocess.run(
        [sys.executable, "-c", _ON_AN_OLD_KERNEL, call],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.fspath(REPOSITORY), *sys.path])},
        capture_output=True,
        check=True,
        timeout=30,
    ).stdout
    details = json.loads(output)
    assert details["level"] == "L0"
    assert len(details["missing"]) == 1
    assert details["missing"][0].startswith(named)
