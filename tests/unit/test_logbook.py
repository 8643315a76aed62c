from __future__ import annotations

import errno
import fcntl
import json
import logging
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_ext.actors import rotating_file
from ray_ext.actors.logbook import Logbook
from ray_ext.actors.rotating_file import RotatingFile


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def messages(path: Path) -> list[object]:
    return [record["message"] for record in records(path)]


def chain(folder: Path) -> list[Path]:
    """The files, the oldest first."""
    return sorted(folder.iterdir(), reverse=True, key=lambda file: file.name)


@pytest.fixture
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotating_file, "_FILE_BYTES", 1000)
    monkeypatch.setattr(rotating_file, "_STUCK_BYTES", 2000)


@pytest.fixture
def _no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_record_is_one_json_line_with_the_documented_fields(tmp_path: Path) -> None:
    path = tmp_path / "deep/er/log.jsonl"
    book = Logbook.of_instance(str(path), "demo", 3)
    book.write(0.5, logging.WARNING, "mine", "line one\nline ü \ud800", "")
    book.write(0.5, logging.INFO, "mine", "x", "trace\nback")
    first, second = records(path)
    assert first == {
        "time": "1970-01-01T00:00:00.500+00:00", "level": "WARNING", "extension": "demo", "generation": 3,
        "logger": "mine", "message": "line one\nline ü \ud800",
    }  # fmt: skip
    assert second["traceback"] == "trace\nback"
    assert path.read_bytes().isascii()


def test_a_record_of_the_system_says_which_actor_it_is_of(tmp_path: Path) -> None:
    path = tmp_path / "registry.jsonl"
    Logbook(str(path), {"actor": "registry"}).note(logging.INFO, "hello")
    (record,) = records(path)
    assert list(record) == ["time", "level", "actor", "logger", "message"]
    assert record["actor"] == "registry"


@pytest.mark.usefixtures("_no_umask")
def test_files_and_folders_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "logs/demo/log.jsonl"
    Logbook.of_instance(str(path), "demo", 1).note(logging.INFO, "x")
    modes = [each.stat().st_mode & 0o777 for each in (path, path.parent, path.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("")
    path.chmod(0o644)
    Logbook.of_instance(str(path), "demo", 1).note(logging.INFO, "x")
    assert path.stat().st_mode & 0o777 == 0o600


def test_texts_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    book = Logbook.of_instance(str(path), "demo", 1)
    book.write(0.0, logging.INFO, "n" * 1_000_000, "\U0001f600" * 1_000_000, "\U0001f600" * 1_000_000)
    assert path.stat().st_size < 1 << 20
    assert str(messages(path)[0]).endswith("\U0001f600…")


# ---- rotation


@pytest.mark.usefixtures("_small_files")
def test_a_full_file_rotates_and_only_the_newest_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    book = Logbook.of_instance(str(path), "demo", 1)
    for number in range(100):
        book.write(0.0, logging.INFO, "x", f"{number:04}", "")
    files = chain(tmp_path)
    assert [file.name for file in files] == ["log.jsonl.3", "log.jsonl.2", "log.jsonl.1", "log.jsonl"]
    assert all(file.stat().st_size <= 1000 for file in files)
    kept = [message for file in files for message in messages(file)]
    assert kept == [f"{number:04}" for number in range(100 - len(kept), 100)]
    assert book.lost == 0


def test_two_generations_append_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    old, new = (Logbook.of_instance(str(path), "demo", generation) for generation in (1, 2))
    for number in range(4):
        (old if number % 2 else new).note(logging.INFO, str(number))
    assert messages(path) == ["0", "1", "2", "3"]


@pytest.mark.usefixtures("_small_files")
def test_a_writer_goes_on_in_the_new_file_after_another_one_has_rotated(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    old, new = (Logbook.of_instance(str(path), "demo", generation) for generation in (1, 2))
    old.note(logging.INFO, "before: " + "y" * 100)
    new.note(logging.INFO, "x" * 700)
    old.note(logging.INFO, "after")
    assert messages(path) == ["x" * 700, "after"]
    assert messages(path.with_name("log.jsonl.1")) == ["before: " + "y" * 100]


@pytest.mark.usefixtures("_small_files")
def test_a_writer_that_comes_too_late_to_rotate_leaves_the_new_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    late, first = RotatingFile(path), RotatingFile(path)
    descriptor, _ = late._current()
    late.append(b"x" * 800 + b"\n")
    first.append(b"y" * 800 + b"\n")
    assert late._rotate(descriptor)
    assert [file.name for file in chain(tmp_path)] == ["log.jsonl.1", "log.jsonl"]


def _write_many(path: Path, generation: int, count: int) -> None:
    # Whoever rotates may lose the processor meanwhile: what others write then is much, next to so small a file.
    rotating_file._FILE_BYTES, rotating_file._STUCK_BYTES = 20_000, 400_000
    book = Logbook.of_instance(str(path), "demo", generation)
    for number in range(count):
        book.note(logging.INFO, f"{generation} {number}")
    assert book.lost == 0


def test_writers_that_rotate_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=_write_many, args=(path, generation, 2_000)) for generation in (1, 2, 3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    files = chain(tmp_path)
    assert len(files) == 4
    kept = [str(message).split() for file in files for message in messages(file)]
    for generation in "123":
        numbers = [int(number) for whose, number in kept if whose == generation]
        # Every record from some point on is there, once, and in order.
        assert numbers == list(range(2_000 - len(numbers), 2_000))
    assert len(kept) > 300


@pytest.mark.usefixtures("_small_files")
def test_a_writer_that_is_stopped_in_a_rotation_neither_blocks_others_nor_lets_the_file_grow(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    book = Logbook.of_instance(str(path), "demo", 1)
    book.note(logging.INFO, "first")
    with path.open() as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        for _ in range(100):
            book.note(logging.INFO, "more")
        assert [file.name for file in chain(tmp_path)] == ["log.jsonl"]
        assert 1000 < path.stat().st_size <= 2000
        assert book.lost > 50
    book.note(logging.INFO, "last")
    assert messages(path) == [f"{book.lost} records could not be written", "last"]


# ---- when writing fails


def test_what_cannot_be_written_is_counted_and_said_when_there_is_room_again(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    book = Logbook.of_instance(str(blocked / "log.jsonl"), "demo", 1)
    book.note(logging.INFO, "one")
    book.note(logging.INFO, "two")
    assert book.lost == 2
    blocked.unlink()
    book.note(logging.INFO, "three")
    book.note(logging.INFO, "four")
    assert messages(blocked / "log.jsonl") == ["2 records could not be written", "three", "four"]
    assert book.lost == 2


def test_a_full_disk_disturbs_nobody(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.symlink_to("/dev/full")
    book = Logbook.of_instance(str(path), "demo", 1)
    book.note(logging.INFO, "one")
    assert book.lost == 1


def test_a_line_that_was_written_in_part_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = RotatingFile(tmp_path / "log.jsonl")
    write = os.write

    def almost_full(descriptor: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", full)
        return write(descriptor, data[:3])

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", almost_full)
    for line in (b"torn\n", b"lost\n"):
        with pytest.raises(OSError, match=r"as a whole|full"):
            file.append(line)
    monkeypatch.setattr(os, "write", write)
    file.append(b"next\n")
    assert (tmp_path / "log.jsonl").read_bytes() == b"tor\nnext\n"


def test_a_line_that_a_killed_writer_left_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"time"')
    Logbook.of_instance(str(path), "demo", 2).note(logging.INFO, "x")
    torn, line = path.read_bytes().splitlines()
    assert (torn, json.loads(line)["message"]) == (b'{"time"', "x")


@pytest.mark.parametrize("time", [float("inf"), float("nan"), 1e300, -1e18])
def test_a_time_that_is_none_becomes_now(tmp_path: Path, time: float) -> None:
    path = tmp_path / "log.jsonl"
    Logbook.of_instance(str(path), "demo", 1).write(time, 10**30, "x", "odd", "")
    assert messages(path) == ["odd"]


# ---- the system's records

PROGRAM = """
import asyncio, logging, sys
from pathlib import Path
from ray_ext.actors.system_log import record_system_log
from ray_ext.errors import LoadFailed
from ray_ext.home import Home

assert not logging.getLogger("ray_ext").handlers, "importing set logging up"
home = Home(Path(sys.argv[1]))
record_system_log(home, "registry")
record_system_log(home, "registry")
ours = logging.getLogger("ray_ext.actors.fleet")
ours.debug("too fine")
ours.info("started %d", 7)
for name in ("asyncio", "uvicorn.error", "sqlalchemy"):
    logging.getLogger(name).info("not kept")
    logging.getLogger(name).warning("of %s", name)
try:
    raise LoadFailed("demo could not be loaded", fix="mend it")
except LoadFailed as error:
    ours.warning("as an argument: %s", error)
    ours.exception("as an exception")
ours.info("wrong %d", "arguments")
"""


def test_what_a_system_actor_logs_is_kept_with_the_traceback_of_every_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path], capture_output=True, text=True, check=True, timeout=60
    )
    path = tmp_path / "logs/system/registry.jsonl"
    kept = [(record["level"], record["logger"], str(record["message"]).partition("\n")[0]) for record in records(path)]
    assert kept == [
        ("INFO", "ray_ext.actors.fleet", "started 7"),
        ("WARNING", "asyncio", "of asyncio"),
        ("WARNING", "uvicorn.error", "of uvicorn.error"),
        ("WARNING", "ray_ext.actors.fleet", "as an argument: demo could not be loaded"),
        ("ERROR", "ray_ext.actors.fleet", "as an exception"),
    ]
    for record in records(path)[-2:]:
        assert 'raise LoadFailed("demo' in str(record["traceback"]) or "in <module>" in str(record["traceback"])
        assert "load-failed" in str(record["traceback"])
    assert "Logging error" in done.stderr
    assert {record["actor"] for record in records(path)} == {"registry"}
