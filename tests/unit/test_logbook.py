from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from ray_ext.actors import logbook
from ray_ext.actors.logbook import Logbook


def messages(path: Path) -> list[str]:
    return [json.loads(line)["message"] for line in path.read_text().splitlines()]


def test_a_record_is_one_json_line_with_the_documented_fields(tmp_path: Path) -> None:
    path = tmp_path / "deep/er/log.jsonl"
    book = Logbook(str(path), "demo", 3)
    book.write(0.5, logging.WARNING, "mine", "line one\nline ü \ud800", "")
    book.write(0.5, logging.INFO, "mine", "x", "trace\nback")
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first == {
        "time": "1970-01-01T00:00:00.500+00:00", "level": "WARNING", "extension": "demo", "generation": 3,
        "logger": "mine", "message": "line one\nline ü \ud800",
    }  # fmt: skip
    assert second["traceback"] == "trace\nback"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().isascii()


def test_a_full_file_rotates_and_only_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logbook, "_FILE_BYTES", 1000)
    path = tmp_path / "log.jsonl"
    book = Logbook(str(path), "demo", 1)
    for number in range(100):
        book.write(0.0, logging.INFO, "x", f"{number:04}", "")
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["log.jsonl", "log.jsonl.1", "log.jsonl.2", "log.jsonl.3"]
    assert all(file.stat().st_size <= 1000 for file in files)
    kept = [message for file in reversed(files) for message in messages(file)]
    assert kept == [f"{number:04}" for number in range(100 - len(kept), 100)]
    assert book.lost == 0


def test_two_generations_append_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    old, new = Logbook(str(path), "demo", 1), Logbook(str(path), "demo", 2)
    for number in range(4):
        (old if number % 2 else new).note(logging.INFO, str(number))
    assert messages(path) == ["0", "1", "2", "3"]


def test_what_cannot_be_written_is_counted_and_what_comes_later_is_written(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    book = Logbook(str(blocked / "log.jsonl"), "demo", 1)
    book.note(logging.INFO, "one")
    book.note(logging.INFO, "two")
    assert book.lost == 2
    blocked.unlink()
    book.note(logging.INFO, "three")
    assert messages(blocked / "log.jsonl") == ["three"]
    assert book.lost == 2


@pytest.mark.parametrize("time", [float("inf"), float("nan"), 1e300, -1e18])
def test_a_time_that_is_none_becomes_now(tmp_path: Path, time: float) -> None:
    path = tmp_path / "log.jsonl"
    Logbook(str(path), "demo", 1).write(time, 10**30, "x", "odd", "")
    assert messages(path) == ["odd"]
