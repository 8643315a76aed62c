"""An operation's news: told once each, in order, and found again by their ids."""

from __future__ import annotations

import asyncio

import pytest

from ray_ext.actors.progress import Progress
from ray_ext.control.views import News


async def test_news_are_numbered_in_the_writers_epoch_and_followed_by_their_ids() -> None:
    progress = Progress(7)
    progress.tell("a")
    progress.tell("b")
    assert await progress.after("", 0.0) == [News("7-1", "a"), News("7-2", "b")]
    assert await progress.after("7-1", 0.0) == [News("7-2", "b")]
    assert await progress.after("7-2", 0.0) == []


@pytest.mark.parametrize("news", ["6-2", "8-9", "2", "-2", "7-", "7--1", "7-x", "7-²", "7-" + "9" * 5000, "7-1-1"])
async def test_an_id_that_is_none_of_this_epoch_means_from_the_beginning(news: str) -> None:
    progress = Progress(7)
    progress.tell("a")
    assert await progress.after(news, 0.0) == [News("7-1", "a")]


async def test_who_waits_is_told_at_once_and_at_the_end_that_there_is_no_more() -> None:
    progress = Progress(1)
    waiting = asyncio.create_task(progress.after("", 60.0))
    await asyncio.sleep(0)
    progress.tell("a")
    assert await asyncio.wait_for(waiting, 5.0) == [News("1-1", "a")]
    waiting = asyncio.create_task(progress.after("1-1", 60.0))
    await asyncio.sleep(0)
    progress.end()
    assert (await asyncio.wait_for(waiting, 5.0), progress.is_over) == ([], True)


async def test_of_very_many_the_last_are_kept_with_their_numbers() -> None:
    progress = Progress(1)
    for number in range(1, 1501):
        progress.tell(str(number))
    kept = await progress.after("1-3", 0.0)
    assert (kept[0], kept[-1], len(kept)) == (News("1-501", "501"), News("1-1500", "1500"), 1000)
