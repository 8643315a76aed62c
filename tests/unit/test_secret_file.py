"""A token is made once, whole, and for its owner alone."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ray_ext.secret_file import secret_in


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_it_is_private_whatever_the_umask_and_stays(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        secret = secret_in(tmp_path / "token")
    finally:
        os.umask(before)
    assert len(secret) == 64
    assert int(secret, 16)
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert secret_in(tmp_path / "token") == secret
    assert secret_in(tmp_path / "other") != secret


def test_all_who_make_it_at_once_find_the_same_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        found = set(threads.map(lambda _: secret_in(tmp_path / "token"), range(64)))
    assert len(found) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["token"]
