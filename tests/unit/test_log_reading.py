"""Reading logs: what there is, what comes, and nothing lost or doubled when files are rotated meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import threading
import time
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ray_ext.actors import rotating_file
from ray_ext.actors.logbook import Logbook
from ray_ext.actors.rotating_file import RotatingFile
from ray_ext.control import log_files
from ray_ext.control.log_reading import LogQuery, LogReader, LogRecord, follow, known_logs, parse_record
from ray_ext.control.log_stream import stream_logs
from ray_ext.errors import ExtensionNotFound
from ray_ext.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.ensure()
    return home


def book(home: Home, extension: str, generation: int = 1) -> Logbook:
    return Logbook.of_instance(str(home.log_file(extension)), extension, generation)


def actor(home: Home, name: str) -> Logbook:
    return Logbook(str(home.system_log_file(name)), {"actor": name})


def write(book: Logbook, at: float, message: str, level: int = logging.INFO) -> None:
    book.write(at, level, "x", message, "")


def past(home: Home, **query: Any) -> list[str]:
    reader = LogReader(home, LogQuery(**query))
    records = list(reader.past())
    reader.close()
    return [record.message for record in records]


def said(records: list[LogRecord]) -> list[str]:
    return [record.message for record in records]


# ---- what there is


@pytest.fixture
def three(home: Home) -> Home:
    """Two extensions and an actor of the system, by turns."""
    alpha, beta, registry = book(home, "alpha"), book(home, "beta"), actor(home, "registry")
    levels = itertools.cycle([logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR])
    for number, writer in enumerate([alpha, beta, registry] * 4):
        write(writer, 100.0 + number, str(number), next(levels))
    return home


def numbers(*wanted: int) -> list[str]:
    return [str(number) for number in wanted]


def test_records_of_everybody_are_merged_by_time(three: Home) -> None:
    assert past(three) == numbers(*range(12))


def test_one_may_ask_for_extensions_for_the_system_and_for_both(three: Home) -> None:
    assert past(three, extensions=("beta",)) == numbers(1, 4, 7, 10)
    assert past(three, extensions=("beta", "alpha")) == numbers(0, 1, 3, 4, 6, 7, 9, 10)
    assert past(three, has_system=True) == numbers(2, 5, 8, 11)
    assert past(three, extensions=("alpha",), has_system=True) == numbers(0, 2, 3, 5, 6, 8, 9, 11)


def test_one_may_ask_for_a_level_a_time_and_the_last_ones(three: Home) -> None:
    assert past(three, level="warning") == numbers(2, 3, 6, 7, 10, 11)
    assert past(three, since=107.0) == numbers(7, 8, 9, 10, 11)
    assert past(three, lines=3) == numbers(9, 10, 11)
    assert past(three, lines=3, level="error") == numbers(3, 7, 11)
    assert past(three, lines=1, extensions=("alpha",), since=1.0, level="info") == numbers(9)
    assert past(three, lines=0) == []


def test_levels_of_an_extensions_own_count_by_their_number(home: Home) -> None:
    alpha = book(home, "alpha")
    for level in (-5, 5, 25, 35, 45, 99):
        write(alpha, 1.0, str(level), level)
    assert past(home, level="warning") == numbers(35, 45, 99)


def test_older_files_are_read_and_those_without_a_wanted_record_are_not(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotating_file, "_FILE_BYTES", 1000)
    alpha = book(home, "alpha")
    for number in range(30):
        write(alpha, time.time(), str(number))
    assert home.log_file("alpha").with_name("log.jsonl.3").exists()
    assert past(home)[-1] == "29"
    assert past(home) == numbers(*range(30 - len(past(home)), 30))
    assert len(past(home)) > 10
    assert past(home, lines=15) == numbers(*range(15, 30))
    for number in (1, 2, 3):
        os.utime(home.log_file("alpha").with_name(f"log.jsonl.{number}"), (1.0, 1.0))
    everything = len(past(home))
    assert 0 < len(past(home, since=2.0)) < everything


def test_a_log_that_is_long_is_read_from_its_end(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = book(home, "alpha")
    for number in range(3_000):
        write(alpha, 1.0, str(number))
    parsed = itertools.count()

    def counted(line: bytes) -> LogRecord | None:
        next(parsed)
        return parse_record(line)

    monkeypatch.setattr("ray_ext.control.log_reading.parse_record", counted)
    assert past(home, lines=2) == numbers(2998, 2999)
    assert next(parsed) == 2


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 18])
@pytest.mark.parametrize("lines", [None, 100, 3])
def test_the_size_of_what_is_read_at_once_does_not_matter(
    home: Home, monkeypatch: pytest.MonkeyPatch, chunk: int, lines: int | None
) -> None:
    monkeypatch.setattr(log_files, "_CHUNK_BYTES", chunk)
    alpha = book(home, "alpha")
    for number in range(5):
        write(alpha, 1.0, f"{number} ü\n")
    assert past(home, lines=lines) == [f"{number} ü\n" for number in range(5)][-(lines or 5) :]


def test_an_extension_without_a_log_is_refused_with_those_that_have_one(three: Home) -> None:
    assert known_logs(three) == ["alpha", "beta"]
    for name in ("gamma", "../home/logs/alpha", "system"):
        with pytest.raises(ExtensionNotFound, match="there is no log of") as caught:
            LogReader(three, LogQuery(extensions=("alpha", name)))
        assert caught.value.details["installed"] == ["alpha", "beta"]
        assert caught.value.fix == "there are logs of: alpha, beta"


def test_an_extension_that_is_called_system_has_a_log_of_its_own(three: Home) -> None:
    write(book(three, "system"), 1.0, "mine")
    assert past(three, extensions=("system",)) == ["mine"]
    assert past(three) == ["mine", *numbers(*range(12))]
    assert past(three, has_system=True) == numbers(2, 5, 8, 11)


def test_without_any_log_there_is_nothing(tmp_path: Path) -> None:
    assert past(Home(tmp_path / "nowhere")) == []


# ---- damage


DAMAGED = [
    b"{",
    b"null",
    b"[]",
    b"\xff\xfe",
    b'{"time": "yesterday", "level": "INFO", "actor": "a", "logger": "x", "message": ""}',
    b'{"time": "2026-01-01T00:00:00+00:00", "level": 3, "actor": "a", "logger": "x", "message": ""}',
    b'{"time": "2026-01-01T00:00:00+00:00", "level": "INFO", "logger": "x", "message": ""}',
    b'{"time": "2026-01-01T00:00:00+00:00", "level": "INFO", "extension": "a", "generation": "1", "logger": "x", '
    b'"message": ""}',
    b"[" * 100_000,
    b"x" * (log_files.LINE_BYTES + 1),
    b"x" * (3 * log_files.LINE_BYTES),
]


@pytest.mark.parametrize("lines", [None, 10])
def test_damaged_lines_are_left_out_and_counted(home: Home, lines: int | None) -> None:
    alpha, path = book(home, "alpha"), home.log_file("alpha")
    write(alpha, 1.0, "first")
    for damaged in DAMAGED:
        with path.open("ab") as file:
            file.write(damaged + b"\n\n")
        write(alpha, 1.0, "next")
    reader = LogReader(home, LogQuery(lines=lines and 100))
    assert said(list(reader.past())) == ["first", *["next"] * len(DAMAGED)]
    assert reader.damaged == len(DAMAGED)
    with path.open("ab") as file:
        file.write(b"x" * (3 * log_files.LINE_BYTES) + b"\n{\n")
    write(alpha, 1.0, "last")
    assert said(reader.new()) == ["last"]
    assert reader.damaged == len(DAMAGED) + 2
    reader.close()


def test_what_is_not_ascii_in_a_file_is_escaped_in_the_line() -> None:
    line = '{"time": "2026-01-01T00:00:00+00:00", "level": "INFO", "actor": "a", "logger": "", "message": "\u202e\x9b"}'
    record = parse_record(line.encode())
    assert record is not None
    assert record.line.isascii()
    assert json.loads(record.line)["message"] == "\u202e\x9b"
    assert record.time == datetime(2026, 1, 1, tzinfo=UTC).timestamp()


# ---- what comes


def test_what_comes_is_there_once_after_what_there_was(home: Home) -> None:
    alpha = book(home, "alpha")
    for number in range(5):
        write(alpha, 1.0, str(number))
    for lines in (0, 2, None):
        reader = LogReader(home, LogQuery(lines=lines))
        there = list(reader.past())
        assert said(there) == numbers(*range(5))[5 - (5 if lines is None else lines) :]
        assert reader.new() == []
        write(alpha, 1.0, "new")
        assert said(reader.new()) == ["new"]
        assert reader.new() == []
        reader.close()
        home.log_file("alpha").write_bytes(b"".join(home.log_file("alpha").read_bytes().splitlines(True)[:5]))


def test_logs_that_do_not_exist_yet_are_followed(home: Home) -> None:
    everything = LogReader(home, LogQuery())
    gamma = LogReader(home, LogQuery(extensions=("gamma",)), expected=("gamma",))
    assert [list(reader.past()) for reader in (everything, gamma)] == [[], []]
    write(book(home, "gamma"), 2.0, "hello")
    write(actor(home, "control"), 1.0, "here")
    assert said(everything.new()) == ["here", "hello"]
    assert said(gamma.new()) == ["hello"]
    for reader in (everything, gamma):
        reader.close()


def test_a_record_that_is_half_written_is_given_when_it_is_whole(home: Home) -> None:
    alpha, path = book(home, "alpha"), home.log_file("alpha")
    write(alpha, 1.0, "whole")
    line = path.read_bytes()
    for lines in (None, 5):
        path.write_bytes(line + line[:30])
        reader = LogReader(home, LogQuery(lines=lines))
        assert said(list(reader.past())) == ["whole"]
        assert reader.new() == []
        with path.open("ab") as file:
            file.write(line[30:])
        assert said(reader.new()) == ["whole"]
        assert reader.damaged == 0
        reader.close()


def test_a_log_that_is_emptied_or_made_anew_is_followed_from_its_beginning(home: Home) -> None:
    alpha, path = book(home, "alpha"), home.log_file("alpha")
    write(alpha, 1.0, "before")
    reader = LogReader(home, LogQuery())
    list(reader.past())
    os.truncate(path, 0)
    assert reader.new() == []
    write(alpha, 1.0, "after")
    assert said(reader.new()) == ["after"]
    path.unlink()
    assert reader.new() == []
    write(book(home, "alpha", 2), 1.0, "anew")
    assert said(reader.new()) == ["anew"]
    reader.close()


@pytest.mark.parametrize("rotations", [1, 2, 3])
def test_records_of_every_file_that_was_rotated_between_two_looks_are_given(
    home: Home, monkeypatch: pytest.MonkeyPatch, rotations: int
) -> None:
    monkeypatch.setattr(rotating_file, "_FILE_BYTES", 300)  # two records a file
    alpha = book(home, "alpha")
    write(alpha, 1.0, "0")
    reader = LogReader(home, LogQuery(lines=100))
    assert said(list(reader.past())) == ["0"]
    for number in range(1, 1 + 2 * rotations):
        write(alpha, 1.0, str(number))
    assert said(reader.new()) == numbers(*range(1, 1 + 2 * rotations))
    assert reader.new() == []
    reader.close()


def test_what_a_writer_adds_to_a_file_that_was_just_rotated_is_given(home: Home) -> None:
    alpha, path = book(home, "alpha"), home.log_file("alpha")
    write(alpha, 1.0, "0")
    line = path.read_bytes()
    reader = LogReader(home, LogQuery())
    list(reader.past())
    with path.open("ab") as late:
        path.rename(path.with_name("log.jsonl.1"))
        write(alpha, 1.0, "1")
        assert said(reader.new()) == ["1"]
        late.write(line.replace(b'"0"', b'"late"'))
        late.flush()
        assert said(reader.new()) == ["late"]
    reader.close()


def test_nothing_is_lost_or_doubled_while_a_log_is_written_and_rotated(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotating_file, "_FILE_BYTES", 50_000)
    count = 6_000
    done = threading.Event()

    def writing() -> None:
        alpha = book(home, "alpha")
        for number in range(count):
            write(alpha, 1.0, str(number))
        assert alpha.lost == 0
        done.set()

    thread = threading.Thread(target=writing)
    reader = LogReader(home, LogQuery())
    seen = said(list(reader.past()))
    thread.start()
    while not done.is_set():
        seen += said(reader.new())
    thread.join()
    seen += said(reader.new())
    reader.close()
    assert seen == numbers(*range(count))


def test_files_that_are_rotated_while_they_are_opened_are_each_read_once(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotating_file, "_FILE_BYTES", 300)
    alpha = book(home, "alpha")
    for number in range(6):
        write(alpha, 1.0, str(number))
    before = numbers(*range(6))
    opened = log_files._opened

    def rotating(path: Path) -> Any:
        file = opened(path)
        if path.name == "log.jsonl":
            writer = RotatingFile(path)
            assert writer._rotate(writer._current()[0])
        return file

    monkeypatch.setattr(log_files, "_opened", rotating)
    descriptors = len(os.listdir("/proc/self/fd"))
    assert past(home) == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("gap", ["log.jsonl", "log.jsonl.1", "log.jsonl.2"])
def test_in_the_middle_of_a_rotation_the_older_files_are_read(
    home: Home, monkeypatch: pytest.MonkeyPatch, gap: str
) -> None:
    monkeypatch.setattr(rotating_file, "_FILE_BYTES", 150)  # one record a file
    alpha = book(home, "alpha")
    for number in range(4):
        write(alpha, 1.0, str(number))
    path = home.log_file("alpha")
    kept = [file for file in ("log.jsonl.3", "log.jsonl.2", "log.jsonl.1", "log.jsonl") if file != gap]
    wanted = [json.loads(path.with_name(name).read_text())["message"] for name in kept]
    path.with_name(gap).unlink()
    reader = LogReader(home, LogQuery(extensions=("alpha",)), expected=("alpha",))
    assert said(list(reader.past())) == wanted
    reader.close()


def test_following_ends_with_nothing_open(home: Home) -> None:
    alpha = book(home, "alpha")
    write(alpha, 1.0, "0")
    before = len(os.listdir("/proc/self/fd"))
    waits: list[float] = []
    following = follow(LogReader(home, LogQuery()), waits.append)
    assert said(next(following)) == ["0"]
    assert next(following) == []
    write(alpha, 1.0, "1")
    assert said(next(following)) == ["1"]
    assert next(following) == []
    assert waits == [0.2]
    following.close()
    assert len(os.listdir("/proc/self/fd")) == before


# ---- as a stream


def messages(chunk: bytes) -> list[str]:
    return [json.loads(line)["message"] for line in chunk.splitlines()]


async def test_a_stream_has_all_records_and_ends(three: Home) -> None:
    stream = stream_logs(LogReader(three, LogQuery()), is_following=False)
    assert [message for chunk in [each async for each in stream] for message in messages(chunk)] == numbers(*range(12))


async def test_a_stream_follows_until_it_is_closed(home: Home) -> None:
    alpha = book(home, "alpha")
    write(alpha, 1.0, "0")
    before = len(os.listdir("/proc/self/fd"))
    async with aclosing(stream_logs(LogReader(home, LogQuery(lines=5)), is_following=True)) as stream:
        assert messages(await anext(stream)) == ["0"]
        coming = asyncio.ensure_future(anext(stream))
        write(alpha, 1.0, "1")
        assert messages(await asyncio.wait_for(coming, 10)) == ["1"]
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(10):
        while len(os.listdir("/proc/self/fd")) > before:
            await asyncio.sleep(0.01)
