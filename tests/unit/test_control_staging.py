"""Uploaded packages: kept if whole, for an hour."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from ray_ext.control.staging import KEPT_S, Staging
from ray_ext.errors import PackageInvalid, PackageNotFound, PayloadTooLarge, StoreFailed

CONTENT = b"a wheel, more or less" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def _sent(chunks: Sequence[bytes], error: Exception | None = None) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    if error is not None:
        raise error


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def staging(tmp_path: Path, clock: Clock) -> Staging:
    return Staging(tmp_path / "uploads", limit=len(CONTENT), clock=clock)


async def test_a_whole_package_is_kept_for_its_owner_alone(staging: Staging, tmp_path: Path) -> None:
    package, is_new = await staging.receive(SHA256, _sent([CONTENT[:7], CONTENT[7:]]))
    assert (package.sha256, package.size_bytes, is_new) == (SHA256, len(CONTENT), True)
    assert await staging.read(SHA256) == CONTENT
    assert stat.S_IMODE((tmp_path / "uploads").stat().st_mode) == 0o700
    (kept,) = (tmp_path / "uploads").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


async def test_a_damaged_package_is_refused_and_leaves_nothing(staging: Staging, tmp_path: Path) -> None:
    with pytest.raises(PackageInvalid) as caught:
        await staging.receive(SHA256, _sent([CONTENT[:-1], b"!"]))
    assert SHA256 in str(caught.value.details["problems"])
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_a_package_above_the_limit_is_refused_before_all_of_it_is_there(staging: Staging, tmp_path: Path) -> None:
    asked_for_more = False

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked_for_more
        yield CONTENT
        yield b"x"
        asked_for_more = True
        yield b"x"

    with pytest.raises(PayloadTooLarge) as caught:
        await staging.receive(SHA256, endless())
    assert caught.value.details["limit_bytes"] == len(CONTENT)
    assert not asked_for_more
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_an_upload_that_is_broken_off_leaves_nothing(staging: Staging, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        await staging.receive(SHA256, _sent([CONTENT[:10]], ConnectionError()))
    assert list((tmp_path / "uploads").iterdir()) == []
    with pytest.raises(PackageNotFound):
        await staging.read(SHA256)


async def test_a_package_is_kept_for_an_hour_after_it_was_sent_last(
    staging: Staging, clock: Clock, tmp_path: Path
) -> None:
    await staging.receive(SHA256, _sent([CONTENT]))
    clock.now += KEPT_S - 1
    assert (await staging.receive(SHA256, _sent([CONTENT])))[1] is False
    clock.now += KEPT_S - 1
    assert await staging.read(SHA256) == CONTENT
    clock.now += 2
    with pytest.raises(PackageNotFound) as caught:
        await staging.read(SHA256)
    assert caught.value.details == {"sha256": SHA256}
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_what_nobody_asks_for_is_removed_too(staging: Staging, clock: Clock, tmp_path: Path) -> None:
    await staging.receive(SHA256, _sent([CONTENT]))
    clock.now += KEPT_S + 1
    staging.sweep()
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_a_package_that_was_changed_on_the_disk_is_not_given_out(staging: Staging, tmp_path: Path) -> None:
    await staging.receive(SHA256, _sent([CONTENT]))
    (kept,) = (tmp_path / "uploads").iterdir()
    kept.write_bytes(b"something else")
    with pytest.raises(PackageNotFound):
        await staging.read(SHA256)


async def test_a_disk_that_takes_nothing_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "uploads").write_text("a file where the folder should be")
    with pytest.raises(StoreFailed):
        await Staging(tmp_path / "uploads").receive(SHA256, _sent([CONTENT]))
